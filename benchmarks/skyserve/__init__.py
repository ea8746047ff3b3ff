"""Our scaler and spot placer beside SkyServe's own (PyPI `skypilot` 0.14.1), decision by decision.

    traces.py       random loads and markets, as plain values
    peer.py         SkyServe's side: a program of its own, run by a Python that has SkyPilot and nothing of ours
    environment.py  that Python, installed on first use, and the process
    ours.py         our side: the shipped scaler and placer, asked at the same instants
    defects.py      the differences that are known, each with the rule by which it is recognized
    accelerators.py the same for targets by accelerator
    spot.py         the mix of spot and on-demand replicas, and the zones
    check.py        one trace, both answers, every difference named
    record.py       SkyServe's answers to a sample of the traces, kept for the tests

`python -m benchmarks.skyserve` compares; docs/skyserve-differences.md says what differs and why.
"""
