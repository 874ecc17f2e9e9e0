"""Models taken away: every kind to every format and back, and what a format cannot hold."""

import dataclasses
import json
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest
import tokenizers
from tokenizers import normalizers, pre_tokenizers

from mlm import models
from mlm.errors import CheckpointError, OutputError
from mlm.export import export, pieces_by_id, wordpiece_facts
from mlm.pretrained import Pretrained, load_pretrained
from mlm.text import Tokenizer, extend_tokenizer, load_tokenizer
from mlm.text.keras_tokenizer import keras_settings
from mlm.text.tokenizer import SPECIAL_TOKENS, bert_tokenizer, with_special_tokens
from mlm.training.workdir import write_json

PARITY = Path(__file__).parent / "parity"
HUGGINGFACE, KERAS = PARITY / "hf_distilbert_tiny", PARITY / "kerashub_distilbert_tiny"
TEXTS = ["The quick, brown fox!", "word\u00a0word  Élan 中文", "[MASK] x_y", "", "ẞ İ\u200b"]
PIECES = [*SPECIAL_TOKENS, "the", "a", "##a", "##b", "é"]


def load(place):
    return load_pretrained(place, key=jax.random.key(0), say=str)


def same(a, b):
    return all(jax.tree.leaves(jax.tree.map(np.array_equal, a, b)))


def logits_of(*founds):
    """Of models of one architecture up to epsilons, on the same ids."""
    config = founds[0].config
    draw = np.random.default_rng(0)
    batch = {
        "token_ids": draw.integers(5, config.vocabulary_size, (2, 12)).astype(np.int32),
        "padding_mask": np.arange(12) < [[12], [7]],
    }
    apply = jax.jit(models.apply, static_argnums=0)
    return [apply(models.create_abstract(f.config)[0], f.params, batch) for f in founds]


def with_tokenizer(tokenizer) -> Pretrained:
    """A model with that tokenizer and random weights, for every format."""
    config = models.DistilBertConfig(
        tokenizer.vocabulary_size, layers=1, width=8, heads=2, hidden=8, max_length=12
    )
    params = jax.tree.map(np.asarray, models.create(config, jax.random.key(0))[1])
    found = load(HUGGINGFACE)
    return dataclasses.replace(found, config=config, params=params, tokenizer=tokenizer)


# ---- there and back ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "folder, way", [(HUGGINGFACE, "mlm huggingface mlm"), (KERAS, "mlm keras keras mlm")]
)
def test_there_and_back_every_bit_is_the_same(tmp_path, folder, way):
    first = found = load(folder)
    for n, to in enumerate(way.split()):
        assert export(found, tmp_path / str(n), to=to) == ()
        found = load(tmp_path / str(n))
        assert found.kind == to and found.config == first.config
        assert same(found.params, first.params)
        assert found.tokenizer.encode(TEXTS) == first.tokenizer.encode(TEXTS)
        assert pieces_by_id(found.tokenizer) == pieces_by_id(first.tokenizer)
    assert found.tokenizer.hash == first.tokenizer.hash


def test_how_rows_are_made_goes_along(tmp_path):
    source = Path(shutil.copytree(KERAS, tmp_path / "source"))
    settings = {"sequence_length": 20, "truncate": "waterfall", "mask_selection_rate": 0.3}
    settings |= {"mask_selection_length": 7, "mask_token_rate": 0.5, "random_token_rate": 0.25}
    content = json.loads((source / "preprocessor.json").read_text())
    content["config"] |= settings
    (source / "preprocessor.json").write_text(json.dumps(content))
    export(load(source), tmp_path / "mlm", to="mlm")
    export(load(tmp_path / "mlm"), tmp_path / "keras", to="keras")
    for name in ("mlm", "keras"):
        config = json.loads((tmp_path / name / "preprocessor.json").read_text())["config"]
        assert {key: config[key] for key in settings} == settings
    task = json.loads((tmp_path / "keras/task.json").read_text())["config"]["preprocessor"]
    assert task["config"] == config

    content["config"]["mask_selection_rate"] = 2
    (source / "preprocessor.json").write_text(json.dumps(content))
    with pytest.raises(CheckpointError, match="preprocessor.json has a setting that cannot be"):
        export(load(source), tmp_path / "again", to="mlm")
    assert not (tmp_path / "again").exists()


def test_what_is_written_is_that_of_the_original(tmp_path):
    """Not only our own reader takes it: names and numbers are those of the files it came from."""
    from safetensors.numpy import load_file

    export(load(HUGGINGFACE), tmp_path / "out", to="huggingface")
    ours, theirs = (load_file(d / "model.safetensors") for d in (tmp_path / "out", HUGGINGFACE))
    assert {name: ours[name].tobytes() for name in ours} == {
        name: theirs[name].tobytes() for name in theirs if name != "vocab_projector.weight"
    }
    vocabulary = (HUGGINGFACE / "vocab.txt").read_bytes().splitlines()
    assert (tmp_path / "out/vocab.txt").read_bytes().splitlines() == vocabulary
    export(load(KERAS), tmp_path / "keras", to="keras")
    file = "assets/tokenizer/vocabulary.txt"
    written = (tmp_path / "keras" / file).read_bytes().splitlines()
    assert written == (KERAS / file).read_bytes().splitlines()


@pytest.mark.parametrize("folder, to", [(HUGGINGFACE, "keras"), (KERAS, "huggingface")])
def test_another_epsilon_only_when_it_is_asked_for(tmp_path, folder, to):
    found, out = load(folder), tmp_path / "out"
    with pytest.raises(CheckpointError, match="epsilon.*allow_epsilon_change"):
        export(found, out, to=to)
    assert not list(tmp_path.iterdir())
    notes = export(found, out, to=to, allow_epsilon_change=True)
    assert any("epsilon" in note and "differ" in note for note in notes)
    moved = load(out)
    assert same(moved.params, found.params) and moved.config != found.config
    before, after = logits_of(found, moved)
    assert 0 < np.abs(before - after).max() < 1e-3


# ---- a run ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def finished(saved_run, tmp_path_factory):
    """The workdir of a run with all that train.py leaves there."""
    workdir = tmp_path_factory.mktemp("finished") / "run"
    shutil.copytree(saved_run, workdir)
    lines = [{"step": step, "masking/realised_rate": step / 100} for step in (6, 12, 18)]
    lines.append({"step": 12, "eval/token@0.15/loss": 3.0})
    (workdir / "metrics.jsonl").write_text("\n".join(map(json.dumps, lines)))
    masks = {"loss": 3.25, "unigram_loss": 3.5, "perplexity": 25.79, "top1": 0.125}
    masks |= {"masked_tokens": 1234, "mask_hash": "0123456789abcdef"}
    write_json(workdir / "eval.json", {"step": 12, "masks": {"token@0.15": masks}})
    write_json(workdir / "environment.json", {"command": "python train.py --config=x.py"})
    return workdir


def test_a_run_for_hugging_face(finished, tmp_path):
    found, out = load(finished), tmp_path / "out"
    assert export(found, out, to="huggingface", command="python -m mlm convert run out") == ()
    names = "README.md config.json model.safetensors tokenizer.json tokenizer_config.json vocab.txt"
    assert sorted(path.name for path in out.iterdir()) == names.split()
    again = load(out)
    assert again.kind == "huggingface" and same(again.params, found.params)
    assert again.tokenizer.hash == found.tokenizer.hash
    np.testing.assert_array_equal(*logits_of(found, again))
    settings = json.loads((out / "tokenizer_config.json").read_text())
    assert settings == {
        **{f"{name}_token": f"[{name.upper()}]" for name in ("pad", "unk", "cls", "sep", "mask")},
        "do_lower_case": True,
        "strip_accents": None,
        "tokenize_chinese_chars": True,
        "model_max_length": 16,
        "model_input_names": ["input_ids", "attention_mask"],
        "tokenizer_class": "DistilBertTokenizer",
    }
    assert json.loads((out / "config.json").read_text())["pad_token_id"] == 0
    (out / "tokenizer.json").unlink()  # so that vocab.txt is read
    assert load(out).tokenizer.encode(TEXTS) == found.tokenizer.encode(TEXTS)


def test_the_card_of_a_run(finished, tmp_path):
    export(load(finished), tmp_path / "out", to="huggingface", command="python -m mlm convert a b")
    card = (tmp_path / "out/README.md").read_text()
    assert card.startswith("---\nlibrary_name: transformers\npipeline_tag: fill-mask\n")
    sections = card.split("\n\n## ")
    assert [section.split("\n")[0] for section in sections[1:]] == [
        "Data",
        "Masking",
        "Training",
        "Evaluation",
    ]
    made, data, masking, training, evaluation = sections
    assert "layers 1, width 16, heads 2" in made and "a vocabulary of 96," in made
    assert "step 12 of a training run of mlm by `python -m mlm convert a b`." in made
    source = json.loads((finished / "text.json").read_text())["source"]
    assert f"{source['documents']:,} documents" in data and source["text"][:16] in data
    assert "5.00% were held out" in data
    assert "15.00% of the tokens were selected (realised in training: 0.0900)" in masking  # 6, 12
    assert "80% were shown as [MASK], 10% as a random token and 10% as they are" in masking
    assert "12 steps of 16 rows of 16 tokens with adamw, from random weights." in training
    assert "The command was `python train.py --config=x.py`." in training
    row = "| token@0.15 | 3.2500 | 3.5000 | 25.79 | 0.1250 | 1,234 | 0123456789ab |"
    assert row in evaluation.splitlines()


def test_the_card_says_only_what_is_known(finished, saved_run, tmp_path):
    workdir = tmp_path / "run"
    shutil.copytree(saved_run, workdir)
    (workdir / "text.json").unlink()
    facts = {"place": "distil_bert_base_en", "revision": "abc", "notes": []}
    write_json(workdir / "init.json", facts)
    write_json(workdir / "eval.json", {"step": 11, "masks": {}})  # of another checkpoint
    export(load(workdir), tmp_path / "out", to="huggingface")
    card = (tmp_path / "out/README.md").read_text()
    assert "from the weights of `distil_bert_base_en` at abc." in card
    assert "is not written down" in card and "realised" not in card and "Evaluation" not in card
    assert "The command" not in card

    found = dataclasses.replace(load(HUGGINGFACE), notes=("Dropped a pooler.",))
    export(found, tmp_path / "other", to="huggingface")
    card = (tmp_path / "other/README.md").read_text()
    assert "Made from a Hugging Face checkpoint.\n\nDropped a pooler.\n" in card
    assert str(PARITY) not in card and "## " not in card
    found = dataclasses.replace(found, place="hf://org/name@main", revision="abc")
    export(found, tmp_path / "hub", to="huggingface")
    assert "from hf://org/name@main, a Hugging Face checkpoint at commit abc." in (
        tmp_path / "hub/README.md"
    ).read_text(encoding="utf-8")


def test_a_run_for_kerashub_and_for_ourselves(finished, tmp_path):
    found = load(finished)
    [cut, epsilon] = export(found, tmp_path / "keras", to="keras", allow_epsilon_change=True)
    assert "no-break spaces" in cut and "logits differ a little" in epsilon
    keras = load(tmp_path / "keras")
    assert same(keras.params, found.params)
    assert keras.tokenizer.encode(TEXTS[:1]) == found.tokenizer.encode(TEXTS[:1])
    export(found, tmp_path / "own", to="mlm")
    own = load(tmp_path / "own")
    assert own.config == found.config and own.tokenizer.hash == found.tokenizer.hash


# ---- tokenizers ----------------------------------------------------------------------------------


def vocabulary(pieces=PIECES):
    return {piece: id for id, piece in enumerate(pieces)}


@pytest.mark.parametrize(
    "normalisation",
    [
        {"lowercase": True},
        {"lowercase": False},
        {"lowercase": True, "strip_accents": False},
        {"lowercase": False, "strip_accents": True, "handle_chinese_chars": False},
    ],
)
def test_the_normalisation_of_bert_is_told(tmp_path, normalisation):
    tokenizer = bert_tokenizer(vocabulary(), source="test", **normalisation)
    found = with_tokenizer(tokenizer)
    export(found, tmp_path / "out", to="huggingface")
    settings = json.loads((tmp_path / "out/tokenizer_config.json").read_text())
    assert settings["do_lower_case"] == normalisation["lowercase"]
    assert settings["strip_accents"] == normalisation.get("strip_accents")
    (tmp_path / "out/tokenizer.json").unlink()
    again = load_tokenizer(tmp_path / "out")
    assert again.hash == tokenizer.hash


def test_accents_go_to_kerashub_as_they_are(tmp_path):
    for n, (lowercase, strip) in enumerate([(True, None), (False, None), (True, False)]):
        normalisation = {"lowercase": lowercase, "strip_accents": strip}
        found = with_tokenizer(bert_tokenizer(vocabulary(), source="test", **normalisation))
        export(found, tmp_path / str(n), to="keras", allow_epsilon_change=True)
        again = load_tokenizer(tmp_path / str(n))
        stripped = lowercase if strip is None else strip
        assert keras_settings(again) == {"lowercase": lowercase, "strip_accents": stripped}
        texts = ["The é", "thé É a"]
        assert again.encode(texts) == found.tokenizer.encode(texts)


def test_new_tokens_come_along(tmp_path):
    tokenizer, _ = extend_tokenizer(load_tokenizer(HUGGINGFACE), ["catfish"])
    found = with_tokenizer(tokenizer)
    for to in ("huggingface", "keras", "mlm"):
        export(found, tmp_path / to, to=to, allow_epsilon_change=True)
        assert load(tmp_path / to).tokenizer.encode(["Catfish"]) == [[120]]
    assert (tmp_path / "huggingface/vocab.txt").read_text().splitlines()[120] == "catfish"


def test_the_tokenizer_of_kerashub_in_hugging_face(tmp_path):
    found = load(KERAS)
    notes = export(found, tmp_path / "out", to="huggingface", allow_epsilon_change=True)
    assert "no vocab.txt" in notes[-1] and not (tmp_path / "out/vocab.txt").exists()
    settings = json.loads((tmp_path / "out/tokenizer_config.json").read_text())
    assert settings["tokenizer_class"] == "PreTrainedTokenizerFast"
    assert settings["mask_token"] == "[MASK]" and "do_lower_case" not in settings
    assert settings["model_input_names"] == ["input_ids", "attention_mask"]
    assert load(tmp_path / "out").tokenizer.hash == found.tokenizer.hash


def byte_pairs() -> Tokenizer:
    model = tokenizers.models.BPE(vocabulary(), [], unk_token="[UNK]")
    backend = tokenizers.Tokenizer(model)
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    return with_special_tokens(backend, source="test")


def almost_bert(**changes) -> Tokenizer:
    """BERT's WordPiece but for one thing, which a vocab.txt does not tell."""
    tokenizer = bert_tokenizer(vocabulary(), lowercase=True, source="test")
    for name, value in changes.items():
        setattr(tokenizer.backend, name, value)
    return tokenizer


def long_words():
    settings = {"unk_token": "[UNK]", "max_input_chars_per_word": 200}
    return tokenizers.models.WordPiece(vocabulary(), **settings)


@pytest.mark.parametrize(
    "make",
    [
        byte_pairs,
        lambda: almost_bert(normalizer=normalizers.Lowercase()),
        lambda: almost_bert(normalizer=normalizers.BertNormalizer(clean_text=False)),
        lambda: almost_bert(pre_tokenizer=pre_tokenizers.Whitespace()),
        lambda: almost_bert(model=long_words()),
    ],
)
def test_other_tokenizers_go_where_they_can_be(tmp_path, make):
    found = with_tokenizer(make())
    assert wordpiece_facts(found.tokenizer) is None and keras_settings(found.tokenizer) is None
    with pytest.raises(CheckpointError, match="is not BERT's WordPiece, and KerasHub's"):
        export(found, tmp_path / "keras", to="keras", allow_epsilon_change=True)
    for to in ("huggingface", "mlm"):
        export(found, tmp_path / to, to=to)
        assert load(tmp_path / to).tokenizer.hash == found.tokenizer.hash
    assert not (tmp_path / "huggingface/vocab.txt").exists()
    assert not (tmp_path / "keras").exists()


def test_a_piece_that_is_no_line_of_a_vocabulary(tmp_path):
    found = with_tokenizer(bert_tokenizer(vocabulary([*PIECES, "a\nb"]), lowercase=True, source=""))
    [note] = export(found, tmp_path / "hf", to="huggingface")
    assert "no vocab.txt" in note and not (tmp_path / "hf/vocab.txt").exists()
    with pytest.raises(CheckpointError, match="is not a line of text"):
        export(found, tmp_path / "keras", to="keras", allow_epsilon_change=True)


def test_ids_without_a_piece_keep_their_line(tmp_path):
    gap = vocabulary() | {"last": 12}
    found = with_tokenizer(bert_tokenizer(gap, lowercase=True, source="test"))
    export(found, tmp_path / "out", to="huggingface")
    lines = (tmp_path / "out/vocab.txt").read_text(encoding="utf-8").splitlines()
    assert lines[10:] == ["[unused-10]", "[unused-11]", "last"] and len(lines) == 13
    assert load(tmp_path / "out").tokenizer.hash == found.tokenizer.hash


def test_without_a_tokenizer(tmp_path):
    found = dataclasses.replace(load(HUGGINGFACE), tokenizer=None)
    for to in ("huggingface", "keras", "mlm"):
        with pytest.raises(CheckpointError, match="holds no tokenizer"):
            export(found, tmp_path / "out", to=to, allow_epsilon_change=True)
    assert not list(tmp_path.iterdir())


# ---- whole or not at all -------------------------------------------------------------------------


@pytest.mark.parametrize("to", ["huggingface", "keras", "mlm"])
def test_an_interrupted_export_leaves_nothing(tmp_path, monkeypatch, to):
    def stop(*args):
        raise KeyboardInterrupt

    found, folder = load(HUGGINGFACE), tmp_path / "out"
    monkeypatch.setattr("mlm.conversion.new_folder._flush", stop)  # when all files are written
    with pytest.raises(KeyboardInterrupt):
        export(found, folder, to=to, allow_epsilon_change=True)
    assert not list(tmp_path.iterdir())
    folder.mkdir()
    with pytest.raises(KeyboardInterrupt):
        export(found, folder, to=to, allow_epsilon_change=True)
    assert list(tmp_path.iterdir()) == [folder] and not list(folder.iterdir())


@pytest.mark.parametrize("to", ["huggingface", "keras", "mlm"])
@pytest.mark.parametrize("size", [100, 600, 50_000])  # a config, a tokenizer, the weights
def test_a_full_disk_leaves_nothing(tmp_path, full_disk, to, size):
    found = load(HUGGINGFACE)
    with pytest.raises(OutputError) as error, full_disk(size):
        export(found, tmp_path / "out", to=to, allow_epsilon_change=True)
    assert error.value.exit_code == 7 and "cannot be written" in str(error.value)
    assert "\n" not in str(error.value) and not list(tmp_path.iterdir())


@pytest.mark.parametrize("to", ["huggingface", "keras", "mlm"])
def test_a_folder_with_something_in_it_stays_as_it_is(tmp_path, to):
    (tmp_path / "mine").write_text("mine")
    with pytest.raises(OutputError, match="exists already; choose a new folder"):
        export(load(HUGGINGFACE), tmp_path, to=to, allow_epsilon_change=True)
    assert [path.read_text() for path in tmp_path.iterdir()] == ["mine"]
    with pytest.raises(OutputError, match="exists already"):
        export(load(HUGGINGFACE), tmp_path / "mine", to=to, allow_epsilon_change=True)


def test_an_unknown_format(tmp_path):
    with pytest.raises(ValueError, match="to is 'onnx'; choose one of huggingface, keras, mlm"):
        export(load(HUGGINGFACE), tmp_path / "out", to="onnx")
