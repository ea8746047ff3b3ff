"""Settings of all tests."""

from __future__ import annotations

import signal

from hypothesis import settings

# Who starts the tests in the background (a shell's `&`, some CI) has them ignore Ctrl-C, and with them every child.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# A slow machine must not fail a property: how long one example takes is not what it promises.
settings.register_profile("sailplane", deadline=None)
settings.load_profile("sailplane")
