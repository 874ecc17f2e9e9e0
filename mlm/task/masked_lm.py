"""`DistilBertMaskedLM`: a masked language model as an object for notebooks.

A thin layer over the functions of a training run: `mlm.models` holds the model, `mlm.training` the
step, `mlm.masking` the masks, `mlm.evaluation` what is measured. The object keeps the state between
calls, and changes it only when a call has succeeded. N rows, P mask slots, V vocabulary.
"""

import contextlib
import functools
import math
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from mlm.data import make_order
from mlm.task.backbone import DistilBertBackbone
from mlm.task.examples import Examples, make_mask, read_examples, split_validation
from mlm.task.features import read_count
from mlm.task.fitting import History, Settings, make_settings, run_epochs
from mlm.task.preprocessor import DistilBertMaskedLMPreprocessor
from mlm.task.preset_model import PresetModel
from mlm.task.scoring import (
    Prediction,
    evaluate_examples,
    frozen_key,
    make_predict,
    make_score,
    predict_examples,
)
from mlm.training.freezing import split
from mlm.training.loss import SlotLoss
from mlm.training.optimizer import Schedule
from mlm.training.progress import ProgressDisplay
from mlm.training.sharding import copy_to, put_batch, replicated
from mlm.training.signals import StopRequest, stop_on_interrupt
from mlm.training.step import Params, TrainState, make_train_step


class DistilBertMaskedLM(PresetModel):
    """DistilBERT with its masked-LM head: load, fit, evaluate, predict, fill in, save.

    `masked_lm(features)` gives logits. With a preprocessor, `fit`, `evaluate` and `predict` take
    texts: a list of them, or a tuple of two lists for pairs. A call that fails leaves parameters,
    optimizer state and settings as they were.

    Args:
      backbone: the encoder; models may share one.
      preprocessor: what makes rows of texts; None: features only.
      seed: of the head, training masks, dropout and the order of rows. The same calls on the same
        machine give the same numbers.
    """

    def __init__(
        self,
        backbone: DistilBertBackbone,
        preprocessor: DistilBertMaskedLMPreprocessor | None = None,
        *,
        seed: int = 0,
    ):
        super().__init__(backbone, preprocessor, seed=seed)
        self._put = functools.partial(put_batch, self._mesh)
        self._batches_seen, self._epochs_seen = 0, 0  # over all fits
        self._use(make_settings())
        self.history = History()  # of the last fit

    def compile(
        self,
        loss: SlotLoss | None = None,
        optimizer: str | optax.GradientTransformation | None = None,
        learning_rate: float | Schedule | None = None,
        jit_compile: bool = True,
    ) -> None:
        """Sets how `fit` learns, and forgets the optimizer's state. Not needed before `fit`.

        Args:
          loss: `(logits float32[B, P, V], labels int32[B, P]) -> float32[B, P]`, nats of
            cross-entropy by default. What is minimised is the weighted sum over the sum of weights.
          optimizer: a name in optax or an optimizer of it; 'adam' by default, as in KerasHub, with
            neither weight decay nor clipping.
          learning_rate: of a named optimizer, a number or a schedule of optax; 5e-5 by default.
          jit_compile: False runs operation by operation, for looking into it.

        Raises:
          ValueError: for what cannot be one of these.
        """
        self._use(make_settings(loss, optimizer, learning_rate, jit_compile))

    def fit(
        self,
        x: Any,
        y: Any = None,
        sample_weight: Any = None,
        batch_size: int = 32,
        epochs: int = 1,
        validation_data: Any = None,
        verbose: bool = True,
    ) -> History:
        """Trains, and gives the loss and accuracy of each epoch.

        Texts are masked anew in each epoch, over the life of the object. Optimizer state goes on
        from the last fit, unless something else is trainable now. Ctrl-C ends it after the step:
        what was learnt stays, `.history` has the epochs, and KeyboardInterrupt goes on; a second
        Ctrl-C ends it at once and leaves everything as it was.

        Args:
          x: texts, or features as for a call.
          y: labels `[N, P]` of features, the ids at mask_positions.
          sample_weight: `[N, P]`, 0 in slots that hold nothing; 1 everywhere by default.
          batch_size: rows per step, rounded up to a multiple of the devices.
          epochs: how often all rows are seen.
          validation_data: measured by `evaluate` after each epoch: texts, or (features, labels) or
            (features, labels, weights).
          verbose: whether a bar and a line per epoch are shown.

        Raises:
          ValueError, DataError: for what the model cannot read.
          NonFiniteError: a loss or gradient is not finite.
        """
        epochs = read_count("epochs", epochs)
        examples = self._examples(x, y, sample_weight)
        held_out = None
        if validation_data is not None:
            held_out = self._examples(*split_validation(validation_data))
        size, rows = examples.batch_size(batch_size, self._mesh.size), np.arange(len(examples))
        order, frozen = make_order(self._seed, len(examples)), self._frozen()

        def batches(epoch: int) -> Iterator[dict[str, jax.Array]]:
            visit = self._epochs_seen + epoch
            cut = examples.batches(size, order=order(visit, rows), visit=visit)
            return map(self._put, cut)

        def validate(params: Params) -> dict[str, float | str] | None:
            return self._measure(held_out, batch_size, params, stop) if held_out else {}

        total = epochs * math.ceil(len(rows) / size)
        with (
            self._running(),
            ProgressDisplay(total=total, quiet=not verbose) as display,
            stop_on_interrupt() as stop,
        ):
            state, history = run_epochs(
                self._train_step(examples, frozen),
                self._state(frozen),
                batches=batches,
                epochs=epochs,
                slots=size * examples.rows["token_ids"].shape[1],
                masks=examples.masking is not None,
                validate=validate,
                display=display,
                stop=stop,
            )
            self._keep(state, history, frozen, epochs=len(history.epoch) + bool(stop.signum))
        if stop.signum:
            raise KeyboardInterrupt
        return history

    def evaluate(
        self, x: Any, y: Any = None, sample_weight: Any = None, batch_size: int = 32
    ) -> dict[str, float | str]:
        """The loss and what belongs to it; of texts on frozen masks, the same at every call.

        The frozen masks follow from the text's place in `x` and the preprocessor's settings alone,
        so the numbers of two models may be compared where `mask_hash` is the same.

        Returns:
          loss (nats per masked token, or what `compile` chose), perplexity, accuracy, top5,
          masked_tokens, mask_hash and, for texts, realised_rate.

        Raises:
          ValueError, DataError: for what the model cannot read.
        """
        examples = self._examples(x, y, sample_weight)
        with self._running():
            return self._measure(examples, batch_size, self.params)

    def predict(self, x: Any, batch_size: int = 32) -> np.ndarray | Prediction:
        """Logits `float32[N, P, V]` of features; of texts a `Prediction` on the frozen masks.

        Raises:
          ValueError, DataError: for what the model cannot read.
        """
        examples = self._examples(x, labelled=False)
        mask = make_mask(examples.masking, frozen_key())
        predict = self._function(
            ("predict", examples.masking), lambda: make_predict(self._apply, mask)
        )
        size = examples.batch_size(batch_size, self._mesh.size)
        with self._running():
            return predict_examples(predict, self.params, examples, batch_size=size, put=self._put)

    def _examples(self, x: Any, y: Any = None, sample_weight: Any = None, **kind) -> Examples:
        return read_examples(
            x, y, sample_weight, config=self.config, preprocessor=self.preprocessor, **kind
        )

    def _measure(
        self, examples: Examples, batch_size: int, params: Params, stop: StopRequest | None = None
    ) -> dict[str, float | str] | None:
        mask, losses = make_mask(examples.masking, frozen_key()), self._settings.loss_sums
        score = self._function(
            ("score", examples.masking, self._settings),
            lambda: make_score(self._apply, mask, losses, replicated(self._mesh)),
        )
        size = examples.batch_size(batch_size, self._mesh.size)
        return evaluate_examples(score, params, examples, batch_size=size, put=self._put, stop=stop)

    def _train_step(self, examples: Examples, frozen: frozenset[str]):
        mask = make_mask(examples.masking, self._keys.mask)
        return self._function(
            ("step", examples.masking, frozen, self._settings),
            lambda: make_train_step(
                self._apply,
                lambda batch, step, table: mask(batch),
                self._settings.tx,
                lambda step: jnp.nan,  # an optimizer does not tell its learning rate
                dropout_key=self._keys.dropout,
                mesh=self._mesh,
                frozen=frozen,
                loss=self._settings.loss,
            ),
        )

    def _state(self, frozen: frozenset[str]) -> TrainState:
        """A copy of the state, for steps to reuse: what the object holds stays as it is."""
        opt_state = self._opt_state
        if opt_state is None or self._opt_frozen != frozen:
            opt_state = self._settings.tx.init(split(self.params, frozen)[0])
        state = TrainState(jnp.int32(self._batches_seen), self.params, opt_state)
        return copy_to(self._mesh, state)

    def _keep(self, state: TrainState, history: History, frozen: frozenset[str], epochs: int):
        self.params = state.params
        self._opt_state, self._opt_frozen = state.opt_state, frozen
        self._batches_seen, self.history = int(state.step), history
        self._epochs_seen += epochs

    def _use(self, settings: Settings) -> None:
        old = getattr(self, "_settings", None)
        self._functions = {k: f for k, f in self._functions.items() if old not in k}
        self._settings, self._opt_state, self._opt_frozen = settings, None, frozenset()

    def _running(self) -> contextlib.AbstractContextManager:
        return contextlib.nullcontext() if self._settings.jit_compile else jax.disable_jit()
