"""Settings of all tests."""

from __future__ import annotations

from hypothesis import settings

# A slow machine must not fail a property: how long one example takes is not what it promises.
settings.register_profile("sailplane", deadline=None)
settings.load_profile("sailplane")
