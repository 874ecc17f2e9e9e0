"""`DistilBertMaskedLMPreprocessor`: text to masked rows, by the settings of KerasHub's class.

A call tokenizes, packs and masks on the host and gives what a model is trained on. The object for
notebooks takes from it how text becomes rows, and masks them itself, inside its jitted steps.
B batch, L length, P mask slots.
"""

import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import jax
import numpy as np

from mlm.errors import CheckpointError
from mlm.json_text import parse_json
from mlm.masking import MaskedLMMaskGenerator, MaskingSpec, check_rate, check_split, required_slots
from mlm.masking.spec import as_integer
from mlm.pretrained import Pretrained, load_pretrained
from mlm.task.features import Rows, read_segments
from mlm.text import Tokenizer, pack_segments
from mlm.training.workdir import write_json

FILE = "preprocessor.json"
# What a preset keeps, by KerasHub's names.
SETTINGS = (
    "sequence_length",
    "truncate",
    "mask_selection_rate",
    "mask_selection_length",
    "mask_token_rate",
    "random_token_rate",
)


@dataclasses.dataclass(eq=False)
class DistilBertMaskedLMPreprocessor:
    """Texts to `(features, labels, weights)`, which `DistilBertMaskedLM` is trained on.

    Of n tokens that are not special, min(ceil(rate * n), P) are selected, as
    `MaskedLMMaskGenerator` does it; [UNK] may be selected. Settings may be changed at any time and
    count from the next call.

    Args:
      tokenizer: the model's.
      sequence_length: L, tokens per row with [CLS] and [SEP], 3 or more.
      truncate: of several segments that do not fit, 'round_robin' takes tokens of each in turn,
        'waterfall' those of the first before those of the next.
      mask_selection_rate: share of the tokens to select.
      mask_selection_length: P, the most that are selected per row.
      mask_token_rate, random_token_rate: shares of the selected tokens that become [MASK] or a
        random id; the rest is kept.
      seed: of the masks of calls, see `MaskedLMMaskGenerator`.

    Raises:
      ValueError: for settings that cannot be.
    """

    tokenizer: Tokenizer = dataclasses.field(repr=False)
    sequence_length: int = 512
    truncate: Literal["round_robin", "waterfall"] = "round_robin"
    mask_selection_rate: float = 0.15
    mask_selection_length: int = 96
    mask_token_rate: float = 0.8
    random_token_rate: float = 0.1
    seed: int | None = None

    def __post_init__(self):
        if not isinstance(self.tokenizer, Tokenizer):
            raise ValueError(
                f"tokenizer is {self.tokenizer!r:.40}; give one of mlm.text.load_tokenizer(path)"
            )
        self._check()
        self._masker = MaskedLMMaskGenerator(
            self.tokenizer.vocabulary_size,
            self.mask_selection_rate,
            self.tokenizer.special.mask,
            self.mask_selection_length,
            self._unselectable,
            seed=self.seed,
        )

    @classmethod
    def from_preset(
        cls, preset: str | Path, *, local_files_only: bool = False, **settings: Any
    ) -> "DistilBertMaskedLMPreprocessor":
        """The preprocessor of a preset, see `mlm.pretrained`; `settings` win over the preset's.

        Raises:
          CheckpointError, DataError: the preset or its tokenizer cannot be used.
          ValueError: for settings that cannot be.
        """
        found = load_pretrained(
            preset,
            load_weights=False,
            key=jax.random.key(0),
            local_files_only=local_files_only,
        )
        return cls.of(found, **settings)

    @classmethod
    def of(cls, found: Pretrained, **settings: Any) -> "DistilBertMaskedLMPreprocessor":
        """The preprocessor of a model that was found: its tokenizer, length and stored settings."""
        if found.tokenizer is None:
            raise CheckpointError(
                f"{found.folder} holds no tokenizer; put its tokenizer.json there, or say "
                "preprocessor=None"
            )
        length = {"sequence_length": min(512, found.config.max_length)}
        return cls(found.tokenizer, **{**length, **read_settings(found.folder), **settings})

    def __call__(
        self, x: Any, *, key: jax.Array | None = None
    ) -> tuple[Rows, np.ndarray, np.ndarray]:
        """`(features, labels, weights)`: features are token_ids, padding_mask and mask_positions.

        `int32[B, L]`, `bool[B, L]` and `int32[B, P]`, labels `int32[B, P]` and weights
        `float32[B, P]`, all NumPy; of a single text without B. Slots beyond a row's selection hold
        zeros. Each call draws new masks.

        Args:
          x: a text, a list of texts, or a tuple of segments, each of them a text or a list.
          key: makes this call reproducible by itself: `jax.random.key(0)`.

        Raises:
          DataError: for anything but texts.
        """
        segments, single = read_segments(x)
        rows = self.pack(segments)
        for name in SETTINGS[2:]:
            setattr(self._masker, name, getattr(self, name))
        masked = self._masker(rows["token_ids"], key=key)
        features = {**rows, "token_ids": masked["token_ids"]}
        features["mask_positions"] = masked["mask_positions"]
        outputs = features, masked["mask_ids"], masked["mask_weights"]
        return jax.tree.map(lambda array: array[0], outputs) if single else outputs

    def pack(self, segments: Sequence[Sequence[str]], *, multiple: int | None = None) -> Rows:
        """`int32[B, L]` token_ids and `bool[B, L]` padding_mask: [CLS] a [SEP] b [SEP].

        Args:
          segments: a list of texts for each.
          multiple: L is the multiple of it that holds the longest row, if sequence_length is more.

        Raises:
          DataError: a text that is no Unicode, or more segments than sequence_length has room for.
        """
        self._check()
        ids = [self.tokenizer.encode(texts) for texts in segments]
        length = self.sequence_length
        if multiple is not None:
            longest = max(1 + sum(len(part) + 1 for part in row) for row in zip(*ids, strict=True))
            length = min(length, math.ceil(longest / multiple) * multiple)
        special = self.tokenizer.special
        return pack_segments(ids, special=special, length=length, truncate=self.truncate)

    def masking_spec(self, length: int) -> MaskingSpec:
        """The static settings of `mask_tokens` for rows of `length`, with no more slots than P."""
        self._check()
        # One to spare: in long rows float32 may round up.
        needed = 1 + required_slots(self.mask_selection_rate, length, "exact")
        return MaskingSpec(
            vocabulary_size=self.tokenizer.vocabulary_size,
            mask_token_id=self.tokenizer.special.mask,
            mask_selection_length=min(self.mask_selection_length, needed),
            unselectable_token_ids=self._unselectable,
            mask_token_rate=self.mask_token_rate,
            random_token_rate=self.random_token_rate,
            count="exact",
            overflow="drop",
        )

    def save(self, folder: Path) -> None:
        """Writes tokenizer.json and preprocessor.json; raises OutputError if that fails."""
        self.tokenizer.save(folder / "tokenizer.json")
        write_json(folder / FILE, {"class_name": type(self).__name__, "config": self.settings})

    @property
    def settings(self) -> dict[str, Any]:
        """What a preset keeps, by KerasHub's names."""
        return {name: getattr(self, name) for name in SETTINGS}

    @property
    def _unselectable(self) -> tuple[int, ...]:
        special = self.tokenizer.special
        return special.pad, special.cls, special.sep, special.mask

    def _check(self) -> None:
        """Raises ValueError for settings that cannot be; they may have been changed."""
        for name, least in (("sequence_length", 3), ("mask_selection_length", 0)):
            setattr(self, name, as_integer(name, getattr(self, name)))
            if getattr(self, name) < least:
                raise ValueError(f"{name} is {getattr(self, name)}; give {least} or more")
        if self.truncate not in ("round_robin", "waterfall"):
            raise ValueError(f"truncate is {self.truncate!r}; choose 'round_robin' or 'waterfall'")
        check_rate(self.mask_selection_rate, "mask_selection_rate")
        check_split(self.mask_token_rate, self.random_token_rate)


def read_settings(folder: Path) -> dict[str, Any]:
    """The settings in a preset's preprocessor.json, ours or KerasHub's; empty without the file.

    Raises:
      CheckpointError: the file cannot be read.
    """
    file = folder / FILE
    if not file.exists():
        return {}
    try:
        config = parse_json(file.read_text(encoding="utf-8"))["config"]
        return {name: config[name] for name in SETTINGS if name in config}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(
            f"{file} cannot be read ({type(error).__name__}: {error}); put it back, or remove it "
            "to use the defaults"
        ) from error
