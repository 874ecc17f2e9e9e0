"""A masked language model as an object: from a preset, to a preset, and what it says.

What `DistilBertMaskedLM` is before it learns. B batch, L length, P mask slots, V vocabulary.
"""

import contextlib
import functools
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, Self

import jax

from mlm import models
from mlm.console import make_console
from mlm.conversion import save_own
from mlm.conversion.new_folder import new_folder
from mlm.describe import parameter_table
from mlm.evaluation.fill_mask import Guess, check_prompt, make_fill_mask
from mlm.pretrained import load_pretrained
from mlm.task.backbone import DistilBertBackbone, check_params, own_params, seed_keys
from mlm.task.examples import check_preprocessor
from mlm.task.features import read_count, read_features
from mlm.task.preprocessor import DistilBertMaskedLMPreprocessor
from mlm.training.freezing import frozen_paths
from mlm.training.sharding import make_mesh

# Prompts share a compiled function up to the next power of two tokens from here on.
SHORTEST_PROMPT = 16


class PresetModel:
    """A backbone with its head: it can be called, asked to fill in, looked at and saved."""

    def __init__(
        self,
        backbone: DistilBertBackbone,
        preprocessor: DistilBertMaskedLMPreprocessor | None = None,
        *,
        seed: int = 0,
    ):
        if not isinstance(backbone, DistilBertBackbone):
            raise ValueError(f"backbone is {backbone!r:.60}; give an mlm.DistilBertBackbone")
        self._backbone, self._seed, self._keys = backbone, seed, seed_keys(seed)
        self.preprocessor = preprocessor
        self._mesh = make_mesh()
        graphdef, self._like = models.create_abstract(self.config)
        self._apply = functools.partial(models.apply, graphdef)
        self._set_head(models.create_head(self.config, self._keys.head))
        self._functions: dict[tuple, Callable] = {}  # jitted, by what is static in them

    @classmethod
    def from_preset(
        cls,
        preset: str | Path,
        load_weights: bool = True,
        *,
        preprocessor: DistilBertMaskedLMPreprocessor | None | Literal["preset"] = "preset",
        seed: int = 0,
        local_files_only: bool = False,
    ) -> Self:
        """A model from a name such as `distil_bert_base_en_uncased`, the Hub or a folder.

        Args:
          preset: see `mlm.pretrained.load_pretrained`.
          load_weights: False: the architecture with random weights.
          preprocessor: one to use in place of the preset's; None: none.
          seed: of the object, of random weights, and of the masks that the preset's preprocessor
            draws when it is called itself.
          local_files_only: never ask the network.

        Raises:
          CheckpointError: there is no such model, or it cannot be read.
          DataError: its tokenizer cannot be used.
        """
        found = load_pretrained(
            preset,
            load_weights=load_weights,
            key=seed_keys(seed).init,
            local_files_only=local_files_only,
        )
        if preprocessor == "preset":
            preprocessor = DistilBertMaskedLMPreprocessor.of(found, seed=seed)
        backbone = DistilBertBackbone(found.config, params=found.params["backbone"])
        model = cls(backbone, preprocessor, seed=seed)
        model._set_head(found.params["head"])
        return model

    @property
    def backbone(self) -> DistilBertBackbone:
        """The encoder; its `trainable` may be set."""
        return self._backbone

    @property
    def config(self) -> models.DistilBertConfig:
        """The architecture."""
        return self._backbone.config

    @property
    def params(self) -> dict:
        """Nested dict of `float32` arrays, `backbone` and `head`. Set, they are copied."""
        return {"backbone": self._backbone.params, "head": self._head}

    @params.setter
    def params(self, params: dict) -> None:
        check_params(params, self._like)
        head = own_params(params["head"], self._like["head"], self._mesh)
        self._backbone.params = params["backbone"]  # the last that can fail, for want of memory
        self._head = head

    @property
    def preprocessor(self) -> DistilBertMaskedLMPreprocessor | None:
        """What makes rows of texts; None: the model takes features only."""
        return self._preprocessor

    @preprocessor.setter
    def preprocessor(self, value: DistilBertMaskedLMPreprocessor | None) -> None:
        if value is not None and not isinstance(value, DistilBertMaskedLMPreprocessor):
            raise ValueError(
                f"preprocessor is {value!r:.60}; give a DistilBertMaskedLMPreprocessor or None"
            )
        self._preprocessor = value

    def __call__(self, features: Mapping[str, Any]) -> jax.Array:
        """Logits `float32[B, P, V]` at mask_positions, without dropout.

        Args:
          features: token_ids and padding_mask `[B, L]`, mask_positions `[B, P]`: arrays or lists of
            any integer or bool type.

        Raises:
          ValueError: for anything that the model cannot read.
        """
        rows = read_features(features, self.config)
        logits = self._function(("logits",), lambda: jax.jit(self._apply))
        with self._running():
            return logits(self.params, rows)

    def fill_mask(
        self, text: str | Iterable[str], top_k: int = 5
    ) -> list[list[Guess]] | list[list[list[Guess]]]:
        """For each [MASK] of a text the `top_k` most probable tokens and their probabilities.

        Of several texts, a list of that for each.

        Raises:
          ConfigError: a text without [MASK], or longer than the model reads.
          ValueError: the model has no preprocessor, or one that does not belong to it.
        """
        top_k = read_count("top_k", top_k)
        if self._preprocessor is None:
            raise ValueError(
                "fill_mask needs a tokenizer and this model has no preprocessor: make it with "
                "from_preset, or set .preprocessor"
            )
        check_preprocessor(self._preprocessor, self.config)
        if isinstance(text, str):
            return self._fill(text, top_k)
        return [self._fill(one, top_k) for one in text]

    def save_to_preset(self, directory: str | Path) -> None:
        """Writes the model as a folder that `from_preset` reads: weights, tokenizer, settings.

        Raises:
          OutputError: the folder exists and is not empty, or cannot be written; nothing is left.
        """
        with new_folder(directory) as folder:
            save_own(folder, self.config, jax.device_get(self.params))
            if self._preprocessor is not None:
                self._preprocessor.save(folder)

    def summary(self) -> None:
        """Prints how many parameters each part has, and how many of them `fit` changes."""
        make_console().print(parameter_table(self._like, frozen=self._frozen()))

    def _fill(self, text: str, top_k: int) -> list[list[Guess]]:
        tokenizer = self._preprocessor.tokenizer
        tokens = len(check_prompt(tokenizer, text, self.config.max_length))
        length = min(self.config.max_length, 1 << (max(tokens, SHORTEST_PROMPT) - 1).bit_length())
        fill = self._function(
            ("fill", tokenizer, length),
            lambda: make_fill_mask(self._apply, tokenizer, length=length),
        )
        with self._running():
            return fill(self.params, text, top_k)

    def _frozen(self) -> frozenset[str]:
        """The paths of the parameters that `fit` leaves as they are."""
        patterns = () if self._backbone.trainable else ("backbone/.*",)
        return frozen_paths(self._like, patterns)

    def _set_head(self, params: dict) -> None:
        self._head = own_params(params, self._like["head"], self._mesh)

    def _function(self, name: tuple, make: Callable[[], Callable]) -> Callable:
        """The function of that name, made once."""
        if name not in self._functions:
            self._functions[name] = make()
        return self._functions[name]

    def _running(self) -> contextlib.AbstractContextManager:
        """How functions are run."""
        return contextlib.nullcontext()
