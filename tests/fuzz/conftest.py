"""How long random damage is tried: a few examples in `make test`, minutes in `make fuzz`."""

import os

from hypothesis import HealthCheck, settings

SETTINGS = {"deadline": None, "suppress_health_check": list(HealthCheck), "database": None}
settings.register_profile("short", max_examples=30, derandomize=True, **SETTINGS)
settings.register_profile("long", max_examples=2_000, **SETTINGS)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "short"))
