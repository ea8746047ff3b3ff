"""What a deployment costs: idle, by what its template creates; at work, by the model of `chalicelib.cost`.

    python -m infra.cost [dist/template.json] [--plot docs/cost.png]

Prints the tables of docs/cost.md, and with a template what that costs while it does nothing.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from chalicelib import cost
from chalicelib.cost import Fleet

_BUCKET_GB_MONTH_USD = 0.023
# What a type of resource costs a month for being there: https://aws.amazon.com/pricing, us-east-1, November 2026. A type that
# is not listed is refused: nobody has looked yet what it costs.
IDLE_USD: Mapping[str, float] = {
    "AWS::ApiGateway::Deployment": 0.0,
    "AWS::ApiGateway::RestApi": 0.0,
    "AWS::ApiGateway::Stage": 0.0,
    "AWS::CloudWatch::Alarm": 0.10,
    "AWS::DynamoDB::Table": 0.0,
    "AWS::Events::Rule": 0.0,
    "AWS::IAM::Policy": 0.0,
    "AWS::IAM::Role": 0.0,
    "AWS::KMS::Key": 1.0,
    "AWS::Lambda::EventInvokeConfig": 0.0,
    "AWS::Lambda::EventSourceMapping": 0.0,
    "AWS::Lambda::Function": 0.0,
    "AWS::Lambda::Permission": 0.0,
    "AWS::Lambda::Url": 0.0,
    "AWS::Logs::LogGroup": 0.0,
    "AWS::S3::Bucket": 0.0,
    "AWS::S3::BucketPolicy": 0.0,
    "AWS::SQS::Queue": 0.0,
    "AWS::SQS::QueuePolicy": 0.0,
    "AWS::SSM::Parameter": 0.0,
    "AWS::SecretsManager::Secret": 0.40,
    "AWS::Serverless::Api": 0.0,
    "AWS::Serverless::Function": 0.0,
}
SIZES = ((0, 0), (1, 1), (10, 30), (100, 300))


def idle_usd(template: Mapping[str, Any], code_bytes: int = 0) -> float:
    """What the template's resources cost a month while nothing calls them, and the code's zips in its bucket.

    Raises `ValueError` for what would be billed without anybody's doing: a rule or a queue's mapping that is on from the
    start, capacity that is provisioned, logs that are kept for ever; and for a type that `IDLE_USD` does not know.
    """
    found = template["Resources"]
    for name, resource in found.items():
        kind, properties = resource["Type"], resource.get("Properties", {})
        if kind not in IDLE_USD:
            raise ValueError(f"{name}: nobody has looked yet what a {kind} costs; see infra.cost.IDLE_USD")
        if why := _ticking(kind, properties):
            raise ValueError(f"{name}: {why}")
    return sum(IDLE_USD[one["Type"]] for one in found.values()) + code_bytes / 1e9 * _BUCKET_GB_MONTH_USD


def memory(template: Mapping[str, Any]) -> Mapping[str, int]:
    """MB of each function on AWS alone, by what its name has after the deployment's."""
    functions = [one["Properties"] for one in template["Resources"].values() if one["Type"] in _FUNCTIONS]
    return {one["FunctionName"]["Fn::Sub"].rpartition("-")[2]: _if_true(one["MemorySize"]) for one in functions}


_FUNCTIONS = ("AWS::Lambda::Function", "AWS::Serverless::Function")


def _if_true(value: Any) -> Any:
    return value["Fn::If"][1] if isinstance(value, Mapping) else value


def _ticking(kind: str, properties: Mapping[str, Any]) -> str:
    """What makes a resource cost by the month that should not, or empty."""
    faults = {
        "AWS::Events::Rule": (
            properties.get("State") != "DISABLED",
            "a rule has to be DISABLED until there is a service",
        ),
        "AWS::Lambda::EventSourceMapping": (
            properties.get("Enabled") is not False,
            "a mapping that is enabled asks its queue 648,000 times a month",
        ),
        "AWS::DynamoDB::Table": (
            properties.get("BillingMode") != "PAY_PER_REQUEST",
            "a table with provisioned capacity is billed by the hour",
        ),
        "AWS::Logs::LogGroup": (
            not properties.get("RetentionInDays"),
            "logs without RetentionInDays are kept, and billed, for ever",
        ),
        "AWS::SSM::Parameter": (
            properties.get("Tier") != "Standard",
            "an account may have another default than the free tier",
        ),
        "AWS::Serverless::Function": (
            any(_is_on(event) for event in properties.get("Events", {}).values()),
            "its rules have to be DISABLED, and its mapping not Enabled, until there is a service",
        ),
    }
    is_faulty, why = faults.get(kind, (False, ""))
    if "ProvisionedConcurrencyConfig" in properties:
        return "provisioned concurrency is billed by the hour"
    return why if is_faulty else ""


def _is_on(event: Mapping[str, Any]) -> bool:
    """Of SAM's events: a rule's State, or a mapping's Enabled, as it is made; an API's calls nobody but its callers."""
    properties = event["Properties"]
    match event["Type"]:
        case "SQS":
            return bool(_as_made(properties.get("Enabled")) is not False)
        case "Api":
            return False
        case _:
            return bool(_as_made(properties.get("State")) != "DISABLED")


def _as_made(value: Any) -> Any:
    """By the parameter `Awake`'s default."""
    return value["Fn::If"][2] if isinstance(value, Mapping) and value["Fn::If"][0] == "IsAwake" else value


def sizes_table() -> str:
    """The control plane's month by the number of services, against a machine that must stay up. Markdown."""
    rows = []
    for services, replicas in SIZES:
        rest = cost.total(cost.month(Fleet(services, replicas)))
        # Each replica's machine is taken every other day, and one router is asked around the clock.
        busy = cost.total(cost.month(Fleet(services, replicas, replacements=15 * replicas, routers=services and 1)))
        figures = (rest.usd, rest.beyond(cost.FREE).usd, busy.usd, busy.beyond(cost.FREE).usd)
        rows.append((f"{services}", f"{replicas}", *map(_usd, figures), f"${cost.CONTROLLER_VM_USD:.0f}"))
    heading = ("services", "replicas", "at rest", "less the free", "busy", "less the free", "SkyServe's VM")
    return _markdown(heading, rows)


def parts_table() -> str:
    """Where the money goes, for one service of one replica and for ten of three. Markdown."""
    fleets = [Fleet(1, 1), Fleet(10, 30), Fleet(10, 30, replacements=450, routers=1)]
    months = [cost.month(fleet) for fleet in fleets]
    rows = [(part, *(_usd(month[part].usd) for month in months)) for part in months[0]]
    return _markdown(("part", "1 service", "10 services of 3", "the same, busy"), rows)


def gateways_table() -> str:
    """What stands in front of the edge function, and at which rate it costs what a machine does. Markdown."""
    fronts = {
        "function URL": 0.0,
        "HTTP API": cost.HTTP_API_REQUEST_USD,
        "REST API": cost.REST_API_REQUEST_USD,
    }
    rows = [
        (name, _usd(cost.usd_per_million_requests(usd)), f"{cost.break_even_requests_per_s(usd):,.0f}")
        for name, usd in fronts.items()
    ]
    return _markdown(("in front", "a million requests", "requests/s for $160 a month"), rows)


def _markdown(heading: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [heading, ["---", *["---:"] * (len(heading) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _usd(amount: float) -> str:
    return f"${amount:,.2f}"


def plot(path: Path) -> None:
    """Cost against the number of services, and against the rate of requests, each with the machine's."""
    import matplotlib as mpl  # noqa: PLC0415 wanted here only, and slow

    mpl.use("Agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415 as above

    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
    services = [1, 2, 3, 5, 10, 20, 50, 100, 200]
    for label, busy in (("at rest", 0), ("machines taken every other day, one router always asked", 1)):
        fleets = [Fleet(n, 3 * n, replacements=busy * 45 * n, routers=busy) for n in services]
        left.plot(services, [cost.total(cost.month(fleet)).usd for fleet in fleets], marker="o", label=label)
    left.set(xlabel="services of 3 replicas", title="The control plane")
    rates = [0.1, 1, 10, 100, 1000]
    for label, usd in (
        ("function URL", 0.0),
        ("HTTP API", cost.HTTP_API_REQUEST_USD),
        ("REST API", cost.REST_API_REQUEST_USD),
    ):
        per_request = cost.usd_per_million_requests(usd) / 1e6
        right.plot(rates, [rate * 3600 * cost.HOURS_A_MONTH * per_request for rate in rates], label=label)
    right.set(xlabel="requests a second, all month", title="The edge function, by what stands in front")
    for axes in (left, right):
        axes.axhline(cost.CONTROLLER_VM_USD, color="black", linestyle="--", label="SkyServe's controller VM")
        axes.set(xscale="log", yscale="log", ylabel="USD a month")
        axes.grid(alpha=0.3)
        axes.legend(fontsize="x-small", loc="lower right")
    figure.savefig(path, dpi=110, metadata={"Software": None})


def main() -> None:
    """Print, and plot if asked to."""
    told = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    told.add_argument("template", type=Path, nargs="?")
    told.add_argument("--plot", type=Path)
    args = told.parse_args()
    if args.template:
        print(f"idle: {_usd(idle_usd(json.loads(args.template.read_text())))} a month\n")
    print(sizes_table(), parts_table(), gateways_table(), sep="\n\n")
    if args.plot:
        plot(args.plot)


if __name__ == "__main__":
    main()
