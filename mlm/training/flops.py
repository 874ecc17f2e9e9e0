"""Floating-point operations of a training step by formula, and how many a chip can do.

A product of `[m, k]` and `[k, n]` takes 2mkn operations, a multiplication and an addition each. Its
gradient has two products of the same size, so training takes three times the forward pass (Kaplan
et al. 2020, arXiv:2001.08361, appendix C; PaLM, arXiv:2204.02311, appendix B). Per token and layer
of a transformer of width D, feed-forward width F, on rows of L tokens:

    query, key, value and output     4 D D multiplications
    feed-forward                     2 D F
    scores and mixed values          2 L D        (each query with all L keys)

and per mask slot, not per token, in the head of a masked language model over V ids:

    dense layer and tied embedding   D D + D V

Layer norms, softmax, GELU, embedding look-ups and the optimizer are left out, as is what
rematerialisation computes twice: this is the work that the model asks for, not what is done for it.
"""

from mlm.training.chips import chip_of_kind


def train_step_flops(
    *,
    rows: int,
    length: int,
    slots: int,
    layers: int,
    width: int,
    hidden: int,
    vocabulary_size: int,
) -> float:
    """Operations of one training step on `rows` rows of `length` tokens with `slots` mask slots.

    Every parameter is trained.
    """
    layer = 4 * width * width + 2 * width * hidden + 2 * length * width
    slot = width * width + width * vocabulary_size
    return 3.0 * 2 * rows * (length * layers * layer + slots * slot)


def peak_flops(device_kind: str) -> float | None:
    """Operations per second of one device; None for a chip that is not in the table."""
    chip = chip_of_kind(device_kind)
    return chip and chip.peak_flops
