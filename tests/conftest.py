"""Settings of every test."""

from __future__ import annotations

from hypothesis import settings

# How long an example takes says how busy the machine is; speed is the benchmarks' business.
settings.register_profile("codesign", deadline=None)
settings.load_profile("codesign")
