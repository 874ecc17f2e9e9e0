"""Tiny configs whose masks are looked at."""

import pytest

from mlm.config import apply_overrides, load_config


@pytest.fixture(scope="module", autouse=True)
def quick_masks(quick_compiles):
    """Masks do not depend on how they are compiled."""


@pytest.fixture
def config_of(tiny):
    """`config_of(**masking)`: a tiny config with these fields of `masking`."""

    def make(**masking):
        config = load_config("configs/default.py")
        fields = {f"masking.{name}": value for name, value in masking.items()}
        apply_overrides(config, tiny | fields)
        return config

    return make
