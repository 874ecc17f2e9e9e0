"""`DistilBertMaskedLM` learns: what a fit does, what it leaves alone, and what a failure leaves."""

import signal

import jax
import numpy as np
import optax
import pytest
from small_model import FEATURES, LABELS, TEXTS, WEIGHTS, make_model, twin

from mlm import DistilBertMaskedLM
from mlm.errors import ConfigError, NonFiniteError


@pytest.fixture(scope="module")
def base():
    """Compiled functions for the others; only its twins are trained, and fast."""
    base = make_model()
    base.compile(learning_rate=3e-2)
    return base


@pytest.fixture
def model(base):
    return twin(base)


def bits(tree):
    return [np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(tree)]


def everything(model):
    """All that a failed call must leave."""
    state = (model.params, model._opt_state, model._batches_seen, model._epochs_seen)
    return bits(state), model._opt_frozen, model.backbone.trainable, str(model.history)


def watched(model):
    """The batches that the model is given from now on."""
    batches, put = [], model._put
    model._put = lambda batch: batches.append(batch) or put(batch)
    return batches


def test_the_originals_examples(tmp_path):
    # The page's examples with these names changed: the library's, and the preset's, which is a
    # folder here as tests have no network.
    distil_bert_base_en_uncased = str(tmp_path / "preset")
    make_model().save_to_preset(distil_bert_base_en_uncased)

    features = ["The quick brown fox jumped.", "I forgot my homework."]

    # Pretrained language model.
    masked_lm = DistilBertMaskedLM.from_preset(
        distil_bert_base_en_uncased,
    )
    masked_lm.fit(x=features, batch_size=2)

    # Re-compile (e.g., with a new learning rate).
    masked_lm.compile(
        loss=optax.softmax_cross_entropy_with_integer_labels,
        optimizer=optax.adam(5e-5),
        jit_compile=True,
    )
    # Access backbone programmatically (e.g., to change `trainable`).
    masked_lm.backbone.trainable = False
    # Fit again.
    masked_lm.fit(x=features, batch_size=2)

    # Create preprocessed batch where 0 is the mask token.
    features = {
        "token_ids": np.array([[1, 2, 0, 4, 0, 6, 7, 8]] * 2),
        "padding_mask": np.array([[1, 1, 1, 1, 1, 1, 1, 1]] * 2),
        "mask_positions": np.array([[2, 4]] * 2),
    }
    # Labels are the original masked values.
    labels = [[3, 5]] * 2

    masked_lm = DistilBertMaskedLM.from_preset(
        distil_bert_base_en_uncased,
        preprocessor=None,
    )
    masked_lm.fit(x=features, y=labels, batch_size=2)

    # Load architecture and weights from preset
    model = DistilBertMaskedLM.from_preset(distil_bert_base_en_uncased)

    # Load randomly initialized model from preset architecture
    model = DistilBertMaskedLM.from_preset(
        distil_bert_base_en_uncased,
        load_weights=False,
    )
    assert model.backbone.trainable and model.preprocessor is not None
    assert np.isfinite(masked_lm.history.history["loss"]).all()


def test_a_fit_learns_and_tells_of_each_epoch(model, capsys):
    history = model.fit(TEXTS, epochs=8, batch_size=8, validation_data=TEXTS[:9])
    assert history.epoch == list(range(8)) and model.history is history
    names = "loss accuracy realised_rate overflow val_loss val_accuracy val_perplexity val_top5"
    assert list(history.history) == names.split()
    assert all(len(values) == 8 for values in history.history.values())
    assert history.history["val_loss"][-1] < history.history["val_loss"][0] - 0.5
    words = model.preprocessor.pack([TEXTS])["padding_mask"].sum(axis=1) - 2
    rate = np.ceil(0.15 * words).sum() / words.sum()
    np.testing.assert_allclose(history.history["realised_rate"], rate)
    report = model.evaluate(TEXTS[:9])
    assert {name: history.history[f"val_{name}"][-1] for name in ("loss", "top5")} == {
        name: report[name] for name in ("loss", "top5")
    }
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 8 and lines[0].startswith(
        f"epoch 1/8  loss {history.history['loss'][0]:.4f}"
    )


def test_the_same_seed_gives_the_same_bits_and_a_second_fit_goes_on(base, model, capsys):
    once = model.fit(TEXTS, batch_size=8, epochs=2, verbose=False)
    twice = twin(base)
    losses = [twice.fit(TEXTS, batch_size=8, verbose=False).history["loss"][0] for _ in range(2)]
    assert losses == once.history["loss"] and losses[0] != losses[1]
    assert bits(twice.params) == bits(model.params) != bits(base.params)
    assert bits(twice._opt_state) == bits(model._opt_state)
    assert capsys.readouterr().out == ""


def test_epochs_take_all_rows_in_new_orders_and_masks(model):
    batches = watched(model)
    model.fit(TEXTS, batch_size=8, epochs=2, verbose=False)
    model.fit(TEXTS, batch_size=3, verbose=False)  # as many rows as there are devices: 8
    assert [len(batch["token_ids"]) for batch in batches] == [8] * 9
    epochs = [batches[i : i + 3] for i in (0, 3, 6)]
    orders = [np.concatenate([b["example_ids"] for b in epoch])[:20] for epoch in epochs]
    assert all(sorted(order) == list(range(20)) for order in orders)
    assert len({order.tobytes() for order in orders}) == 3
    for visit, epoch in enumerate(epochs):
        assert {int(v) for b in epoch for v in b["visits"][:4]} == {visit}
        assert not epoch[-1]["padding_mask"][4:].any()  # what fills the last batch
        assert (epoch[-1]["token_ids"][4:] == model.preprocessor.tokenizer.special.pad).all()


def test_a_batch_larger_than_the_data(model):
    batches = watched(model)
    model.fit(TEXTS[:3], batch_size=1000, verbose=False)
    assert [len(batch["token_ids"]) for batch in batches] == [8]


def test_a_frozen_backbone_keeps_its_bits_from_the_next_fit_on(model):
    model.fit(FEATURES, LABELS, WEIGHTS, verbose=False)
    assert model._opt_state[0].count == 1
    before, dropped = bits(model.backbone.params), bits(model.params["head"])
    model.backbone.trainable = False
    losses = model.fit(FEATURES, LABELS, WEIGHTS, epochs=2, verbose=False).history["loss"]
    assert bits(model.backbone.params) == before
    changed = [a != b for a, b in zip(bits(model.params["head"]), dropped, strict=True)]
    assert changed == [True] * 5
    # A state for the head alone, and a new one: nothing of what was learnt with the backbone.
    moments = model._opt_state[0]
    assert moments.count == 2 and set(moments.mu) == {"head"}
    assert losses[0] != losses[1]

    model.backbone.trainable = True
    model.fit(FEATURES, LABELS, WEIGHTS, verbose=False)
    assert bits(model.backbone.params) != before and model._opt_state[0].count == 1


def test_another_loss_of_each_slot_and_dropout_in_a_frozen_backbone(model):
    def twice(logits, labels):
        return 2 * optax.softmax_cross_entropy_with_integer_labels(logits, labels)

    plain = model.evaluate(FEATURES, LABELS, WEIGHTS)
    model.backbone.trainable = False
    model.compile(loss=twice, optimizer="sgd", learning_rate=0.0)
    doubled = model.evaluate(FEATURES, LABELS, WEIGHTS)
    np.testing.assert_allclose(doubled["loss"], 2 * plain["loss"], rtol=1e-6)
    assert doubled["perplexity"] == plain["perplexity"]
    before = bits(model.params)
    losses = model.fit(FEATURES, LABELS, WEIGHTS, epochs=3, verbose=False).history["loss"]
    np.testing.assert_allclose(losses, doubled["loss"], rtol=0.05)
    assert len({doubled["loss"], *losses}) == 4 and bits(model.params) == before


def test_compile_forgets_the_state_of_the_optimizer_or_changes_nothing(model):
    model.fit(FEATURES, LABELS, verbose=False)
    before = everything(model)
    with pytest.raises(ConfigError, match="is 'adamm', which is no optimizer of optax"):
        model.compile(optimizer="adamm")
    assert everything(model) == before and model._opt_state is not None
    model.compile()
    assert model._opt_state is None


def test_operation_by_operation():
    model, traced = make_model(), []

    def apply(params, batch):
        traced.append(isinstance(batch["token_ids"], jax.core.Tracer))
        return params["head"]["output_bias"]

    model._apply = apply
    for jit_compile in (True, False):
        model.compile(jit_compile=jit_compile)
        model(FEATURES)
    assert traced == [True, False] and not jax.config.jax_disable_jit


def test_a_failed_call_leaves_the_model_as_it_was(model):
    model.fit(FEATURES, LABELS, verbose=False)
    before = everything(model)
    outside = {**FEATURES, "mask_positions": [[2, 8], [3, 0]]}
    for call, words in (
        (lambda: model.fit(outside, LABELS), "mask_positions holds 8"),
        (lambda: model.fit(FEATURES, LABELS, epochs=0), "epochs is 0"),
        (lambda: model.fit(FEATURES, LABELS, batch_size=-1), "batch_size is -1"),
        (lambda: model.fit(FEATURES, LABELS, validation_data=(outside, LABELS)), "holds 8"),
        (lambda: model.fit(FEATURES, LABELS, validation_data=(FEATURES, 1, 2, 3)), "holds 4"),
        (lambda: model.fit(["a", 5]), "text 1 is 5"),
        (lambda: model.predict(outside), "holds 8"),
        (lambda: model.evaluate(outside, LABELS), "holds 8"),
    ):
        with pytest.raises(ValueError, match=words):
            call()
        assert everything(model) == before


def test_a_loss_that_fails_leaves_the_model_as_it_was(model):
    model.fit(FEATURES, LABELS, verbose=False)
    model.backbone.trainable = False  # compiles sooner
    params = bits(model.params)

    def mean(logits, labels):
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

    def broken(logits, labels):
        raise RuntimeError("broken")

    def not_a_number(logits, labels):
        return logits[..., 0] * np.nan

    for loss, error, words in (
        (mean, ValueError, r"the loss has shape \(\) for labels \(8, 2\); give one number"),
        (broken, RuntimeError, "broken"),
        (not_a_number, NonFiniteError, "in step 1 .* the model is as it was before fit"),
    ):
        model.compile(loss=loss)
        before = everything(model)
        with pytest.raises(error, match=words):
            model.fit(FEATURES, LABELS, epochs=2, verbose=False)
        assert everything(model) == before
    assert bits(model.params) == params


def interrupted_at(model, place, times=1):
    """The model's data raises Ctrl-C at a batch."""
    put, count = model._put, iter(range(1000))

    def putting(batch):
        if next(count) == place:
            for _ in range(times):
                signal.raise_signal(signal.SIGINT)
        return put(batch)

    model._put = putting


def test_ctrl_c_keeps_what_was_learnt(base, model, capfd):
    handler = signal.getsignal(signal.SIGINT)
    interrupted_at(model, place=4)  # in the second of three batches of the second epoch
    with pytest.raises(KeyboardInterrupt):
        model.fit(TEXTS, batch_size=8, epochs=5)
    assert signal.getsignal(signal.SIGINT) is handler
    assert model.history.epoch == [0] and model._batches_seen == 5 and model._epochs_seen == 2
    out, err = capfd.readouterr()
    assert "interrupted in epoch 2; what was learnt until then is kept" in out
    assert "stopping at the end of the step" in err

    whole = twin(base)
    history = whole.fit(TEXTS, batch_size=8, verbose=False)
    assert history.history["loss"] == model.history.history["loss"]
    assert bits(whole.params) != bits(model.params) != bits(base.params)
    model.fit(TEXTS, batch_size=8, verbose=False)  # and it goes on
    assert model._batches_seen == 8


def test_ctrl_c_during_validation_keeps_what_was_learnt(model):
    interrupted_at(model, place=3)  # three batches of training, then two of validation
    with pytest.raises(KeyboardInterrupt):
        model.fit(TEXTS, batch_size=8, validation_data=TEXTS[:9], verbose=False)
    assert model.history.epoch == [] and model._batches_seen == 3


def test_a_second_ctrl_c_leaves_the_model_as_it_was(model):
    before = everything(model)
    interrupted_at(model, place=4, times=2)
    with pytest.raises(KeyboardInterrupt):
        model.fit(TEXTS, batch_size=8, epochs=5, verbose=False)
    assert everything(model) == before


def test_pairs_and_labelled_validation(model):
    pairs = (["the cat"] * 20, ["the dog"] * 20)
    batches = watched(model)
    model.fit(pairs, batch_size=8, verbose=False)
    assert (batches[0]["token_ids"] == model.preprocessor.tokenizer.special.sep).sum() == 16
    history = model.fit(
        FEATURES, LABELS, validation_data=(FEATURES, LABELS, WEIGHTS), verbose=False
    ).history
    assert history["val_loss"] == [model.evaluate(FEATURES, LABELS, WEIGHTS)["loss"]]
