"""What `masking.py` compares with: KerasHub and transformers, on the same batch and settings."""

import os
import warnings
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

os.environ["KERAS_BACKEND"] = "jax"  # keras reads it when it is imported
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"  # not to be told that there is no CUDA

RATE = 0.15
VOCABULARY, PAD, UNK, CLS, SEP, MASK = 30_522, 0, 100, 101, 102, 103
UNSELECTABLE = [PAD, CLS, SEP, MASK]
CONTINUES = np.arange(VOCABULARY) % 5 == 4  # ids that go on with a word; no special one does
PEERS = {
    "keras-hub": ("keras-hub", "tensorflow", "tensorflow-text"),
    "transformers": ("transformers", "torch"),
}
WHOLE_WORDS = "transformers, whole words, arrays"


class Contender(NamedTuple):
    """`start()` makes ready and returns `chunk()`, which masks batches and returns how many."""

    name: str
    start: Callable[[], Callable[[], int]]
    settle: float = 0.05  # seconds that it runs before it is timed


def slots(length: int) -> int:
    """P: what the rate needs, rounded up to a multiple of 4: 20 at 128 tokens, 80 at 512."""
    from mlm.masking import required_slots

    return -(-required_slots(RATE, length, "exact") // 4) * 4


def layer_arguments(ids: np.ndarray) -> dict:
    """What KerasHub's layer and ours are made with."""
    return {
        "vocabulary_size": VOCABULARY,
        "mask_selection_rate": RATE,
        "mask_token_id": MASK,
        "mask_selection_length": slots(ids.shape[1]),
        "unselectable_token_ids": UNSELECTABLE,
    }


def keras_hub_contenders(ids: np.ndarray) -> list[Contender]:
    import keras_hub
    import tensorflow as tf

    tf.config.set_visible_devices([], "GPU")  # the pipeline is the host's, the memory jax's
    layer = keras_hub.layers.MaskedLMMaskGenerator(**layer_arguments(ids))
    auto = tf.data.AUTOTUNE
    data = tf.data.Dataset.from_tensors(ids).repeat()
    data = data.map(layer, num_parallel_calls=auto).prefetch(auto)
    # A new iterator each round, which ends with it: its threads would run on into the next turn.
    # Until autotuning has settled, and while the buffer is full, its speed says little.
    return [
        Contender("KerasHub tf.data", lambda: each(iter(data).__next__), settle=0.8),
        Contender("KerasHub call", lambda: each(lambda: layer(ids))),
    ]


def transformers_contenders(ids: np.ndarray) -> list[Contender]:
    import torch
    from transformers import DataCollatorForLanguageModeling

    collator = DataCollatorForLanguageModeling(make_tokenizer(), mlm_probability=RATE)
    with warnings.catch_warnings(action="ignore"):  # that it gives up random replacements
        whole = DataCollatorForLanguageModeling(
            collator.tokenizer, whole_word_mask=True, mlm_probability=RATE
        )
    arrays = ids.astype(np.int64), np.isin(ids, UNSELECTABLE).astype(np.int64)
    tensors = tuple(torch.from_numpy(a) for a in arrays)
    lists, offsets = unpadded(ids), make_offsets(ids)
    # The collator writes into the ids it is given, so each call takes a copy: 1 % of the time.
    calls = {
        "tensors, torch": lambda: collator.torch_mask_tokens(tensors[0].clone(), tensors[1]),
        "arrays, NumPy": lambda: collator.numpy_mask_tokens(arrays[0].copy(), arrays[1]),
        "lists, torch": lambda: collator(lists, return_tensors="pt"),
        "lists, NumPy": lambda: collator(lists, return_tensors="np"),
        "whole words, arrays": lambda: whole.numpy_mask_tokens(
            arrays[0].copy(), arrays[1], offset_mapping=offsets
        ),
    }
    return [Contender(f"transformers, {name}", lambda c=c: each(c)) for name, c in calls.items()]


def make_tokenizer():
    """A WordPiece tokenizer over invented tokens, made without a download."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordPiece
    from transformers import PreTrainedTokenizerFast

    vocabulary = {f"t{i}": i for i in range(VOCABULARY)}
    special = {"pad": PAD, "unk": UNK, "cls": CLS, "sep": SEP, "mask": MASK}
    for name, i in special.items():
        del vocabulary[f"t{i}"]
        vocabulary[f"[{name.upper()}]"] = i
    tokens = {f"{name}_token": f"[{name.upper()}]" for name in special}
    tokenizer = Tokenizer(WordPiece(vocabulary, unk_token="[UNK]"))
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **tokens)


def unpadded(ids: np.ndarray) -> list[dict[str, list[int]]]:
    """The rows as a tokenizer returns them: lists without padding."""
    rows = [row[row != PAD] for row in ids]
    masks = [np.isin(row, UNSELECTABLE).astype(int) for row in rows]
    return [
        {"input_ids": row.tolist(), "special_tokens_mask": mask.tolist()}
        for row, mask in zip(rows, masks, strict=True)
    ]


def make_offsets(ids: np.ndarray) -> np.ndarray:
    """`int64[B, L, 2]`: characters of each token; a space stands before what begins a word."""
    starts = np.broadcast_to(5 * np.arange(ids.shape[1]), ids.shape)
    joined = np.pad(CONTINUES[ids][:, 1:], ((0, 0), (0, 1)))
    return np.stack([starts, starts + np.where(joined, 5, 4)], axis=-1)


def each(call: Callable[[], object]) -> Callable[[], int]:
    """A chunk of one batch."""

    def chunk() -> int:
        call()
        return 1

    return chunk
