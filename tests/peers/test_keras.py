"""KerasHub itself reads our presets and we read its own: the same predictions, ids and rows.

Needs keras-hub, tensorflow and tensorflow-text (benchmarks/requirements-peers.txt); skipped where
they are not installed.
"""

import os
import random
import subprocess
import sys
from pathlib import Path

os.environ.setdefault("KERAS_BACKEND", "jax")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import jax
import numpy as np
import pytest

from mlm.conversion import load_keras_preset, save_keras_preset
from mlm.models import DistilBertConfig, apply, create, create_abstract
from mlm.pretrained import load_pretrained
from mlm.text import load_tokenizer, pack_segments
from mlm.text.keras_tokenizer import keras_tokenizer

keras_hub = pytest.importorskip("keras_hub")

TOLERANCE = 1e-5
CONTROLS = "\u0000\u0001\u0085\u001f\u001e"
LETTERS = (
    "aAbBéÉßẞςΣσİıIſſ.,!…—“'-_ \t\n\u00a0\u3000\u2028\u200b\u200d\u00ad\u0301\u0345\u0308中日本"
    "ガ한й①½ﬁⅣＡ１ΐΰ\ufffd\ue000😀𝐀❤\ufe0f" + CONTROLS
)
SPECIAL_TOKENS = "[PAD] [UNK] [CLS] [SEP] [MASK]".split()
# Whatever the letters may be folded to, alone and inside a word.
SIGNS = sorted(
    {*LETTERS, *"aäbcdefghijklmnopqrstuvwxyz0123456789/.⁄αισυϊΐϋé中日本ガカ한ᄒ\u0307\u3099й и"}
    - set(" \n")
)
PIECES = [*SPECIAL_TOKENS, *SIGNS, *(f"##{sign}" for sign in SIGNS), "the", "##the"]
PIECES = [p for p in dict.fromkeys(PIECES) if p == p.rstrip() and not set(p) & set(CONTROLS)]
CONFIG = DistilBertConfig(
    len(PIECES), layers=3, width=48, heads=4, hidden=96, max_length=24, head_epsilon=1e-5
)


def features(seed=0, rows=4, length=20, slots=5, size=CONFIG.vocabulary_size):
    draw = np.random.default_rng(seed)
    ids = draw.integers(5, size, (rows, length))
    mask = np.arange(length) < draw.integers(6, length + 1, (rows, 1))
    return {
        "token_ids": np.where(mask, ids, 0).astype(np.int32),
        "padding_mask": mask,
        "mask_positions": draw.integers(0, 6, (rows, slots)).astype(np.int32),
    }


def ours(folder, batch, **settings):
    loaded = load_keras_preset(folder, **settings)
    graphdef, _ = create_abstract(loaded.config)
    return np.asarray(jax.jit(apply)(graphdef, loaded.params, batch))


def theirs(task, batch):
    task.preprocessor = None
    return task.predict(batch | {"padding_mask": batch["padding_mask"].astype(np.int32)}, verbose=0)


def assert_close(actual, expected):
    difference = np.abs(actual - expected).max()
    print(f"largest difference {difference:.2g} of logits up to {np.abs(expected).max():.2g}")
    assert difference <= TOLERANCE


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A preset of ours with weights that are not near zero."""
    folder = tmp_path_factory.mktemp("ours") / "preset"
    _, params = create(CONFIG, jax.random.key(0))
    leaves, tree = jax.tree.flatten(params)
    draw = np.random.default_rng(1)
    leaves = [np.asarray(x) + draw.normal(0, 0.1, x.shape).astype(np.float32) for x in leaves]
    save_keras_preset(
        folder,
        CONFIG,
        jax.tree.unflatten(tree, leaves),
        tokenizer_vocabulary=PIECES,
        lowercase=True,
        strip_accents=False,
        sequence_length=20,
        mask_selection_length=5,
    )
    return folder


def test_keras_hub_reads_our_preset(written):
    task = keras_hub.models.DistilBertMaskedLM.from_preset(str(written))
    assert_close(theirs(task, features()), ours(written, features()))


def test_it_is_found_by_its_files(written):
    """Not only the task: backbone and tokenizer by themselves, and the class from the config."""
    batch = features()
    backbone = keras_hub.models.Backbone.from_preset(str(written))
    hidden = backbone({name: batch[name] for name in ("token_ids", "padding_mask")})
    assert hidden.shape == (4, 20, CONFIG.width)
    tokenizer = keras_hub.models.Tokenizer.from_preset(str(written))
    assert tokenizer.get_vocabulary() == PIECES
    assert keras_hub.models.MaskedLM.from_preset(str(written)).preprocessor.sequence_length == 20


def test_we_read_what_it_trained_and_saved(written, tmp_path):
    task = keras_hub.models.DistilBertMaskedLM.from_preset(str(written))
    task.fit(["the b a the", "a b b a a"] * 4, batch_size=4, verbose=0)
    task.save_to_preset(str(tmp_path / "trained"))
    before, after = ours(written, features()), ours(tmp_path / "trained", features())
    assert np.abs(before - after).max() > 1e-4  # it did learn
    assert_close(after, theirs(task, features()))
    again = load_keras_preset(tmp_path / "trained")
    assert any("optimizer" in note for note in again.notes)


def test_we_read_its_shards(written, tmp_path):
    task = keras_hub.models.DistilBertMaskedLM.from_preset(str(written))
    task.save_to_preset(str(tmp_path / "sharded"), max_shard_size=1e-4)  # GB
    assert len(list((tmp_path / "sharded").glob("model_*.weights.h5"))) > 1
    assert_close(ours(tmp_path / "sharded", features()), theirs(task, features()))


def test_we_read_its_bfloat16(written, tmp_path):
    task = keras_hub.models.DistilBertMaskedLM.from_preset(str(written), dtype="bfloat16")
    task.save_to_preset(str(tmp_path / "half"))
    loaded = load_keras_preset(tmp_path / "half", cast=True)
    table = np.asarray(task.backbone.token_embedding.embeddings.value).astype(np.float32)
    np.testing.assert_array_equal(loaded.params["backbone"]["embeddings"]["word"], table)


def fuzz(count, seed=0):
    draw = random.Random(seed)
    texts = ["".join(draw.choices(LETTERS, k=draw.randrange(12))) for _ in range(count)]
    # Words around the limit of 100 bytes.
    texts += [draw.choice("aé中😀") * draw.randrange(20, 110) for _ in range(50)]
    return texts + ["".join(draw.choices("aéßガ", k=draw.randrange(30, 70))) for _ in range(200)]


@pytest.mark.parametrize("lowercase", [True, False])
@pytest.mark.parametrize("strip_accents", [True, False])
def test_the_same_ids(lowercase, strip_accents):
    settings = {"lowercase": lowercase, "strip_accents": strip_accents}
    original = keras_hub.models.DistilBertTokenizer(PIECES, **settings)
    vocabulary = {piece: id for id, piece in enumerate(PIECES)}
    texts = fuzz(3000)
    mine = keras_tokenizer(vocabulary, source="test", **settings).encode(texts)
    differing = [
        (text, own, list(other))
        for text, own, other in zip(texts, mine, original(texts), strict=True)
        if own != list(other)
    ]
    assert not differing[:3], f"{len(differing)} of {len(texts)}"


@pytest.mark.parametrize("truncate", ["round_robin", "waterfall"])
def test_the_same_rows(written, truncate):
    preprocessor = keras_hub.models.DistilBertMaskedLMPreprocessor.from_preset(
        str(written), truncate=truncate, mask_selection_rate=0.0
    )
    tokenizer = load_tokenizer(written)
    pairs = [[text.replace("\0", "") for text in fuzz(100, seed)] for seed in (1, 2)]
    x, _, _ = preprocessor(x=tuple(pairs))
    packed = pack_segments(
        [tokenizer.encode(texts) for texts in pairs],
        special=tokenizer.special,
        length=20,
        truncate=truncate,
    )
    np.testing.assert_array_equal(packed["token_ids"], np.asarray(x["token_ids"]))
    np.testing.assert_array_equal(packed["padding_mask"], np.asarray(x["padding_mask"]))


# ---- python -m mlm convert -----------------------------------------------------------------------

HUGGINGFACE = Path(__file__).parent.parent / "parity" / "hf_distilbert_tiny"
ALLOW = "--allow_epsilon_change"


def convert(source, folder, *arguments):
    command = [sys.executable, "-m", "mlm", "convert", str(source), str(folder), *arguments]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.parametrize("source", ["run", "huggingface"])
def test_it_predicts_the_same_from_what_the_command_wrote(saved_run, tmp_path, source):
    source = saved_run if source == "run" else HUGGINGFACE
    folder = convert(source, tmp_path / "there", "--to=keras", ALLOW)
    found = load_pretrained(source, say=str)
    batch = features(length=16, size=found.config.vocabulary_size)
    task = keras_hub.models.DistilBertMaskedLM.from_preset(str(folder))
    texts = ["The old dog sees my neighbour.", "at School, the teacher", "x_y!"]
    ids = [list(row) for row in task.preprocessor.tokenizer(texts)]
    assert ids == found.tokenizer.encode(texts)
    task.save_to_preset(str(tmp_path / "saved"))  # before `theirs` takes its preprocessor away
    predicted = theirs(task, batch)
    assert_close(predicted, ours(folder, batch))
    graphdef, _ = create_abstract(found.config)
    change = np.abs(predicted - np.asarray(apply(graphdef, found.params, batch))).max()
    print(f"another epsilon in the head changes logits by {change:.2g}")
    assert change < 5e-3

    back = load_pretrained(convert(tmp_path / "saved", tmp_path / "back", "--to=mlm"), say=str)
    jax.tree.map(np.testing.assert_array_equal, back.params, found.params)
    assert back.tokenizer.encode(texts) == ids


def test_its_own_preset_comes_back_as_it_was(written, tmp_path):
    """Through both of our folders: the same bits, ids and predictions in the original."""
    before = keras_hub.models.DistilBertMaskedLM.from_preset(str(written))
    before.save_to_preset(str(tmp_path / "its"))
    ours = convert(tmp_path / "its", tmp_path / "ours", "--to=mlm")
    after = keras_hub.models.DistilBertMaskedLM.from_preset(
        str(convert(ours, tmp_path / "again", "--to=keras"))
    )
    texts = [text.replace("\0", "") for text in fuzz(500)]
    for old, new in zip(*(t.preprocessor.tokenizer(texts) for t in (before, after)), strict=True):
        assert list(old) == list(new)
    np.testing.assert_array_equal(theirs(before, features()), theirs(after, features()))
