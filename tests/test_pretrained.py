"""Models from wherever they lie: what a folder is, what a name stands for, what is refused."""

import json
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import huggingface_hub
import jax
import numpy as np
import pytest
from huggingface_hub.errors import LocalEntryNotFoundError

from mlm import conversion, models, saved
from mlm.config import from_flat, model_fields
from mlm.errors import CheckpointError, DataError
from mlm.pretrained import kind_of, load_pretrained, need_tokenizer
from mlm.text import load_tokenizer

PARITY = Path(__file__).parent / "parity"
HUGGINGFACE, KERAS = PARITY / "hf_distilbert_tiny", PARITY / "kerashub_distilbert_tiny"
KEY = jax.random.key(0)
COMMIT = "0123456789abcdef0123456789abcdef01234567"
READERS = {HUGGINGFACE: conversion.load_huggingface, KERAS: conversion.load_keras_preset}


@pytest.fixture
def copy(tmp_path):
    """`copy(folder)`: one that may be written to, without the recordings."""

    def copy(folder, name="copy"):
        ignore = shutil.ignore_patterns("*.npz", "*_cases.json", "README.md")
        return Path(shutil.copytree(folder, tmp_path / name, ignore=ignore))

    return copy


@pytest.fixture
def preset_of_ours(tmp_path):
    folder = tmp_path / "ours"
    folder.mkdir()
    config = models.DistilBertConfig(
        120, layers=1, width=8, heads=2, hidden=8, max_length=8, head_epsilon=1e-5
    )
    _, params = models.create(config, KEY)
    conversion.save_own(folder, config, params)
    load_tokenizer(HUGGINGFACE).save(folder / "tokenizer.json")
    return folder, config, params


def same(a, b):
    equal = jax.tree.map(lambda x, y: np.array_equal(x, y) and x.dtype == y.dtype, a, b)
    return all(jax.tree.leaves(equal))


def load(place, **settings):
    """The model and what was said meanwhile."""
    said = []
    found = load_pretrained(place, **{"say": said.append, **settings})
    assert jax.tree.structure(found.params) == jax.tree.structure(
        models.create_abstract(found.config)[1]
    )
    return found, said


def refusal(place, **settings) -> str:
    with pytest.raises(CheckpointError) as error:
        load_pretrained(place, say=str, **settings)
    assert error.value.exit_code == 4
    assert "\n" not in str(error.value) and str(error.value).isprintable()
    return str(error.value)


# ---- what a folder is ----------------------------------------------------------------------------


@pytest.mark.parametrize("folder, kind", [(HUGGINGFACE, "huggingface"), (KERAS, "keras")])
def test_a_folder_of_others(folder, kind):
    found, said = load(folder)
    expected = READERS[folder](folder)
    assert (found.kind, found.folder, found.revision) == (kind, folder, None)
    assert found.config == expected.config and same(found.params, expected.params)
    assert found.tokenizer.hash == load_tokenizer(folder).hash
    assert found.notes == expected.notes and said == [f"{folder}: {n}" for n in expected.notes]
    assert found.place == str(folder)


def test_a_preset_of_ours(preset_of_ours):
    folder, config, params = preset_of_ours
    found, said = load(str(folder))
    assert found.kind == "mlm" and found.config == config and same(found.params, params)
    assert found.tokenizer.hash == load_tokenizer(HUGGINGFACE).hash and not said


def test_a_workdir_and_one_checkpoint_of_it(saved_run, tmp_path, monkeypatch):
    workdir = tmp_path / "run"
    shutil.copytree(saved_run, workdir)
    shutil.copytree(workdir / "checkpoints/12", workdir / "checkpoints/7")
    stored = from_flat(json.loads((saved_run / "config.json").read_text()))
    config = models.DistilBertConfig(
        load_tokenizer(saved_run).vocabulary_size, **model_fields(stored)
    )
    monkeypatch.chdir(workdir / "checkpoints")
    for place, step in ((workdir, "12"), (workdir / "checkpoints/7", "7"), ("7", "7")):
        found, said = load(place)
        assert (found.kind, found.revision, found.folder) == ("run", step, workdir)
        assert found.config == config and not said
        like = models.create_abstract(config)[1]
        assert same(found.params, saved.restore_params(like, saved_run, 12))
        assert found.tokenizer.hash == load_tokenizer(saved_run).hash
    assert isinstance(found.params["head"]["output_bias"], np.ndarray)


def test_the_files_decide_not_the_name(copy, tmp_path):
    folder = copy(HUGGINGFACE, "checkpoints/12")
    assert kind_of(folder) == "huggingface"
    (folder / "checkpoints").mkdir()
    assert kind_of(folder) == "huggingface"


@pytest.mark.parametrize("content", [None, "{}", '{"layers": 2}'])
def test_a_folder_that_is_no_model(tmp_path, content):
    if content is not None:
        (tmp_path / "config.json").write_text(content)
    assert "holds no model: " in refusal(tmp_path)
    assert "correct the path" in refusal(tmp_path)


@pytest.mark.parametrize("content", ["{", '"text"', "[" * 100_000, b"\xff"])
def test_a_config_that_is_no_json(tmp_path, content):
    data = content if isinstance(content, bytes) else content.encode()
    (tmp_path / "config.json").write_bytes(data)
    assert "config.json" in refusal(tmp_path) and "copy or download it again" in refusal(tmp_path)


def test_a_file_is_no_model(tmp_path):
    (tmp_path / "model.safetensors").write_bytes(b"")
    assert "holds no model" in refusal(tmp_path / "model.safetensors")


def test_a_workdir_that_lost_something(saved_run, tmp_path):
    def without(name, content=None):
        workdir = tmp_path / str(len(list(tmp_path.iterdir())))
        shutil.copytree(saved_run, workdir)
        path = workdir / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()
        if content is not None:
            path.write_text(content)
        return refusal(workdir)

    assert "holds no checkpoint" in without("checkpoints/12")
    assert "tokenizer.json" in without("tokenizer.json")
    assert "has no config.json" in without("config.json")
    assert "does not describe a model that we have" in without("config.json", '{"data.length": 8}')
    assert "12 is damaged (params: cannot be read)" in without("checkpoints/12/params")
    assert "wide" in without("config.json", '{"model.wide": 8}')


# ---- without weights, without a head, without a tokenizer ----------------------------------------


@pytest.mark.parametrize("folder", [HUGGINGFACE, KERAS])
def test_without_weights_no_weight_file_is_touched(copy, folder):
    place = copy(folder)
    for file in (*place.glob("*.safetensors"), *place.glob("*.h5")):
        file.unlink()
    found, said = load(place, load_weights=False, key=KEY)
    assert found.config == READERS[folder](folder).config and not said
    assert same(found.params, models.create(found.config, KEY)[1])
    assert found.tokenizer.hash == load_tokenizer(folder).hash
    with pytest.raises(ValueError, match="give a key"):
        load_pretrained(place, load_weights=False, say=str)


def test_without_weights_of_ours(preset_of_ours, saved_run):
    folder, config, _ = preset_of_ours
    (folder / "model.safetensors").unlink()
    for place in (folder, saved_run):
        found, _ = load(place, load_weights=False, key=jax.random.key(1))
        assert same(found.params, models.create(found.config, jax.random.key(1))[1])
    assert load(folder, load_weights=False, key=KEY)[0].config == config


def test_an_encoder_alone_gets_a_head_and_a_note(copy):
    folder = copy(KERAS)
    (folder / "task.weights.h5").unlink()
    assert "has no MLM head" in refusal(folder)
    found, said = load(folder, key=KEY)
    assert same(found.params["head"], models.create_head(found.config, KEY))
    assert same(found.params["backbone"], conversion.load_keras_preset(KERAS).params["backbone"])
    assert any("The head is fresh" in line for line in said)
    assert [line.removeprefix(f"{folder}: ") for line in said] == list(found.notes)


def test_half_precision_only_when_it_is_asked_for(copy):
    from safetensors.numpy import load_file, save_file

    folder = copy(HUGGINGFACE)
    tensors = load_file(folder / "model.safetensors")
    half = {name: tensor.astype(np.float16) for name, tensor in tensors.items()}
    save_file(half, folder / "model.safetensors")
    assert "pass cast=True to load them as float32 (convert: --cast)" in refusal(folder)
    found, said = load(folder, cast=True)
    bias = found.params["head"]["output_bias"]
    assert bias.dtype == np.float32 and len(said) == 1
    np.testing.assert_array_equal(bias, half["vocab_projector.bias"].astype(np.float32))


def test_no_tokenizer_is_no_error_until_it_is_needed(copy):
    folder = copy(HUGGINGFACE)
    (folder / "tokenizer.json").unlink()
    (folder / "vocab.txt").unlink()
    found, _ = load(folder)
    assert found.tokenizer is None
    with pytest.raises(CheckpointError, match="copy holds no tokenizer; put the tokenizer.json"):
        need_tokenizer(found)


def test_a_tokenizer_of_another_size(copy):
    folder = copy(HUGGINGFACE)
    lines = (folder / "vocab.txt").read_text().splitlines()
    (folder / "tokenizer.json").unlink()
    (folder / "vocab.txt").write_text("\n".join([*lines, "more"]))
    assert "has 121 ids, its model 120; one of them belongs" in refusal(folder)
    (folder / "vocab.txt").write_text("\n".join(lines[:-1]))  # rows to fill up a round number
    found, [line] = load(folder)
    assert found.tokenizer.vocabulary_size == 119
    assert line == f"{folder}: {found.notes[0]}" and "119 ids, the model 120" in line
    (folder / "vocab.txt").write_text("a\nb\n")
    with pytest.raises(DataError, match="lacks"):
        load_pretrained(folder, say=str)


# ---- damaged -------------------------------------------------------------------------------------


def test_damaged_files_of_a_hugging_face_folder(copy):
    folder = copy(HUGGINGFACE)
    weights, whole = folder / "model.safetensors", (HUGGINGFACE / "model.safetensors").read_bytes()
    for data in (b"", whole[:50], whole[:-1], b"\xff" * 8 + whole[8:]):  # the last: a header bomb
        weights.write_bytes(data)
        assert "cannot be read as safetensors" in refusal(folder)
    weights.unlink()
    index = folder / "model.safetensors.index.json"
    for shard, words in (("missing", "which is not there"), ("../x", "outside its folder")):
        index.write_text(json.dumps({"weight_map": {"a": shard}}))
        assert words in refusal(folder)
    settings = json.loads((HUGGINGFACE / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**settings, "model_type": "gpt2"}))
    assert "model_type='gpt2'" in refusal(folder)


def test_damaged_files_of_a_keras_preset(copy):
    folder = copy(KERAS)
    weights = folder / "model.weights.h5"
    weights.write_bytes(weights.read_bytes()[:5000])
    assert "model.weights.h5" in refusal(folder)
    settings = json.loads((KERAS / "config.json").read_text())
    del settings["config"]["num_heads"]
    (folder / "config.json").write_text(json.dumps(settings))
    assert "no num_heads" in refusal(folder)


def test_a_damaged_preset_of_ours(preset_of_ours):
    folder, _, _ = preset_of_ours
    data = bytearray((folder / "model.safetensors").read_bytes())
    data[-1] ^= 1
    (folder / "model.safetensors").write_bytes(data)
    assert "is damaged (sha256" in refusal(folder)
    (folder / "model.safetensors").unlink()
    assert "has no model.safetensors" in refusal(folder)


# ---- names and downloads -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name, closest",
    [("distil_bert_base_en_uncase", "distil_bert_base_en_uncased"), ("./nothing/there", None)],
)
def test_an_unknown_name(name, closest):
    line = refusal(name)
    assert f"{name} is neither a folder nor a known model" in line
    assert (f"did you mean {closest}?" in line) == (closest is not None)
    assert all(preset in line for preset in conversion.PRESETS) and "hf://org/name" in line


@pytest.mark.parametrize(
    "name",
    "hf:// hf://bad hf://a/b/c hf://../.. hf://a/b@ hf://a/b@../x hf://a/b@x/../y hf://a/..b "
    "hf://a/b..c hf:///b".split(),
)
def test_a_name_that_is_no_repository(name, hub):
    assert f"{name} names no repository; write hf://org/name or" in refusal(name)
    assert not hub.calls


@pytest.mark.parametrize("name", ["", "a\0b", "x\n[31m", "n" * 5000, "a/" * 3000])
def test_evil_names_are_one_short_line(name):
    assert len(refusal(name)) < 400


class Hub:
    """Stands for the Hub: a snapshot in its cache, or an error."""

    def __init__(self, folder):
        self.folder, self.calls, self.error, self.sizes = folder, [], None, {}

    def __call__(self, repository, **settings):
        self.calls.append((repository, settings))
        if self.error:
            raise self.error
        if settings.get("dry_run"):
            return [self.described(file) for file in sorted(self.folder.iterdir())]
        return str(self.folder)

    def described(self, file):
        size = self.sizes.get(file.name, file.stat().st_size)
        return SimpleNamespace(filename=file.name, file_size=size, will_download=True)


@pytest.fixture
def hub(copy, monkeypatch):
    hub = Hub(copy(HUGGINGFACE, f"models--o--n/snapshots/{COMMIT}"))
    monkeypatch.setattr(huggingface_hub, "snapshot_download", hub)
    return hub


TEXT = {"config.json", "tokenizer.json", "tokenizer_config.json", "vocab.txt"}
WEIGHTS = {"*.safetensors", "*.safetensors.index.json"}


@pytest.mark.parametrize(
    "place, repository, revision",
    [
        ("distil_bert_base_en_uncased", "distilbert/distilbert-base-uncased", "12040acc"),
        ("distil_bert_base_en", "distilbert/distilbert-base-cased", "6ea81172"),
        ("distil_bert_base_multi", "distilbert/distilbert-base-multilingual-cased", "45c032ab"),
        ("hf://org/name", "org/name", None),
        ("hf://org/na.me-1@v1.0/x", "org/na.me-1", "v1.0/x"),
    ],
)
def test_a_name_is_downloaded_without_pickles(hub, place, repository, revision):
    found, said = load(place)
    (_, dry), (asked, settings) = hub.calls
    assert dry == settings | {"dry_run": True}  # the same, without fetching anything
    assert asked == repository and set(settings.pop("allow_patterns")) == TEXT | WEIGHTS
    commit = settings.pop("revision")
    assert commit == revision or (len(commit) == 40 and commit.startswith(revision))
    assert settings == {"ignore_patterns": ["*/*"]}
    assert said == [f"{place}: {repository} at {COMMIT}"]
    assert (found.kind, found.revision, found.place) == ("huggingface", COMMIT, place)
    assert same(found.params, conversion.load_huggingface(HUGGINGFACE).params)


def test_without_weights_none_is_downloaded(hub):
    (hub.folder / "model.safetensors").unlink()
    found, _ = load("distil_bert_base_en", load_weights=False, key=KEY, local_files_only=True)
    [(_, settings)] = hub.calls
    assert set(settings["allow_patterns"]) == TEXT and settings["local_files_only"]
    assert found.kind == "huggingface" and found.tokenizer is not None


def test_the_patterns_are_those_that_the_hub_understands():
    from huggingface_hub.utils import filter_repo_objects

    files = [*TEXT, "model.safetensors", "model-00001-of-00002.safetensors", "fp16/a.safetensors"]
    files += ["model.safetensors.index.json", "pytorch_model.bin", "tf_model.h5", "onnx/model.onnx"]
    allowed = filter_repo_objects(files, allow_patterns=[*TEXT, *WEIGHTS], ignore_patterns=["*/*"])
    assert set(allowed) == TEXT | set(files[4:6]) | {"model.safetensors.index.json"}


@pytest.mark.parametrize(
    "error",
    [
        LocalEntryNotFoundError("cannot find the files\nin the cache"),
        OSError(28, "No space left on device"),
        ValueError("404 Client Error. (Request ID: x)\n\nRepository Not Found"),
    ],
)
def test_a_download_that_fails_says_what_to_place_where(hub, error):
    hub.error = error
    line = refusal("hf://org/name@main", local_files_only=True)
    assert "org/name at main cannot be had" in line and type(error).__name__ in line
    assert "config.json, tokenizer.json, tokenizer_config.json, vocab.txt and model.saf" in line


def test_sizes_are_looked_at_before_and_after_a_download(hub):
    hub.sizes = {"model.safetensors": 9 * 10**9}
    assert "would be 9.0 GB to download" in refusal("hf://org/name")
    assert len(hub.calls) == 1  # nothing was fetched
    hub.sizes = {"vocab.txt": 10**6}
    assert "vocab.txt arrived with " in refusal("hf://org/name")


def test_without_a_network_the_cache_will_do(hub, monkeypatch):
    def offline(repository, **settings):
        if settings.get("dry_run"):
            raise ConnectionError("no route")
        assert settings["local_files_only"]
        return str(hub.folder)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", offline)
    assert load("hf://org/name")[0].revision == COMMIT


def test_a_repository_without_safetensors(hub):
    (hub.folder / "model.safetensors").unlink()
    assert f"org/name at {COMMIT} has no safetensors" in refusal("hf://org/name")


def test_the_sizes_of_a_built_in_name_need_no_file(hub, monkeypatch):
    hub.error = LocalEntryNotFoundError("not in the cache")
    tiny = models.DistilBertConfig(120, layers=1, width=8, heads=2, hidden=8, max_length=8)
    name = "distil_bert_base_en"
    repository = conversion.PRESETS[name].repository
    preset = conversion.builtin.Preset(repository, COMMIT, tiny)
    monkeypatch.setitem(conversion.PRESETS, name, preset)
    found, said = load(name, load_weights=False, key=KEY, local_files_only=True)
    assert (found.kind, found.config, found.tokenizer) == ("builtin", tiny, None) and not said
    assert same(found.params, models.create(tiny, KEY)[1])
    assert "cannot be had" in refusal(name, load_weights=False, key=KEY)
    assert "cannot be had" in refusal(name, local_files_only=True)
    assert "cannot be had" in refusal(
        "hf://o/n", load_weights=False, key=KEY, local_files_only=True
    )


@pytest.mark.parametrize(
    "name, backbone, whole",
    [
        ("distil_bert_base_en_uncased", 66_362_880, 66_985_530),
        ("distil_bert_base_en", 65_190_912, 65_812_036),
        ("distil_bert_base_multi", 134_734_080, 135_445_755),
    ],
)
def test_the_sizes_are_those_of_kerashub(name, backbone, whole):
    _, params = models.create_abstract(conversion.PRESETS[name].config)
    assert models.parameter_count(params["backbone"]) == backbone
    assert models.parameter_count(params) == whole


def test_a_run_keeps_the_revision_that_it_began_with(hub, tiny, tmp_path, monkeypatch):
    import train

    stopped = SimpleNamespace(exit_code=143, step=0)

    def train_in(workdir, run, **_):  # nothing is compiled
        run.begin(workdir, 0)
        return stopped

    monkeypatch.setattr("mlm.training.loop.train_in", train_in)
    fields = tiny | {"model.init_from": "distil_bert_base_en_uncased"}
    given = [f"--config.{name}={value}" for name, value in fields.items()]
    arguments = ["--config=configs/default.py", f"--workdir={tmp_path / 'run'}", *given]
    monkeypatch.setattr(sys, "argv", ["train.py", *arguments])
    assert train.main(arguments) == 143
    began = json.loads((tmp_path / "run/init.json").read_text())
    assert (began["place"], began["revision"]) == ("distil_bert_base_en_uncased", COMMIT)
    assert (
        hub.calls[-1][1]["revision"] == conversion.PRESETS["distil_bert_base_en_uncased"].revision
    )
    environment = json.loads((tmp_path / "run/environment.json").read_text())
    assert environment["command"].startswith("python train.py --config=configs/default.py --work")
