"""Masked language modelling research in JAX."""

__version__ = "0.1.0"
