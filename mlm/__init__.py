"""Masked language modelling research in JAX."""

from mlm.lazy import lazy_exports

__version__ = "0.1.0"
__all__ = [
    "DistilBertBackbone",
    "DistilBertMaskedLM",
    "DistilBertMaskedLMPreprocessor",
    "MaskedLMMaskGenerator",
]

__getattr__ = lazy_exports(
    __name__,
    {
        "DistilBertBackbone": "task",
        "DistilBertMaskedLM": "task",
        "DistilBertMaskedLMPreprocessor": "task",
        "MaskedLMMaskGenerator": "masking",
    },
)
