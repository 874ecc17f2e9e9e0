"""The masking transform: which tokens are hidden, how many, and behind what.

Read `spec` (the rules), `keys` (where randomness comes from; its bits are drawn in `threefry`),
`selection` (how many), `smallest` (which) and `transform` (the whole). `generator` puts KerasHub's
class around it, with `forms` for what goes in and out. The room is a leaf: it knows arrays and
keys, no files and no model.
"""

from mlm.lazy import lazy_exports
from mlm.masking.spec import MaskingSpec, check_rate, check_split, required_slots

__all__ = [
    "MaskedLMMaskGenerator",
    "MaskedTokens",
    "MaskingSpec",
    "check_rate",
    "check_split",
    "mask_tokens",
    "required_slots",
    "row_keys",
]

__getattr__ = lazy_exports(
    __name__,
    {
        "MaskedLMMaskGenerator": "generator",
        "MaskedTokens": "transform",
        "mask_tokens": "transform",
        "row_keys": "keys",
    },
)
