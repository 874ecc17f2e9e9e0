"""Files from elsewhere may be damaged or hostile: one line that names the file, nothing read."""

import json
import shlex
import shutil
import struct
import sys
import types

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from mlm.conversion.tensor_files import INDEX, SINGLE, find_tensors, write_tensors
from mlm.errors import CheckpointError, OutputError

TENSORS = {
    "a": np.arange(6, dtype=np.float32).reshape(2, 3),
    "b": np.ones(4, np.float16),
    "c": np.arange(3),
}


def header(**changes):
    return {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]} | changes


def file_with(header, data, length=None):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


DAMAGED = {
    "empty": b"",
    "cut in the header's length": b"\x10\0\0",
    "cut in the data": file_with({"a": header()}, bytes(7)),
    "bytes to spare": file_with({"a": header()}, bytes(9)),
    "header longer than the file": file_with({"a": header()}, bytes(8), length=4096),
    "header of a terabyte": file_with({"a": header()}, bytes(8), length=1 << 40),
    "not JSON": file_with(b"not JSON", b""),
    "no object": file_with(b"[]", b""),
    "nested deeply": file_with(b'{"a":' * 10_000, b""),
    "overlap": file_with({"a": header(), "b": header(data_offsets=[4, 12])}, bytes(12)),
    "hole": file_with({"a": header(data_offsets=[4, 12])}, bytes(12)),
    "offset outside": file_with({"a": header(data_offsets=[8, 16])}, bytes(8)),
    "shape that needs more": file_with({"a": header(shape=[3])}, bytes(8)),
    "shape beyond 64 bits": file_with({"a": header(shape=[1 << 40, 1 << 40])}, bytes(8)),
    "unknown type": file_with({"a": header(dtype="F33")}, bytes(8)),
    "a pickle": b"\x80\x04\x95\x0b\0\0\0\0\0\0\0}\x8c\x01a\x94K\x01s.",
}


@pytest.mark.parametrize("content", DAMAGED.values(), ids=DAMAGED)
def test_damaged_files(tmp_path, content):
    (tmp_path / SINGLE).write_bytes(content)
    with pytest.raises(CheckpointError) as error:
        find_tensors(tmp_path)
    assert str(error.value).startswith(f"{tmp_path / SINGLE} cannot be read as safetensors (")
    assert str(error.value).isprintable() and len(str(error.value)) < 400


def test_what_is_stored_is_known_before_it_is_read(tmp_path):
    save_file(TENSORS, tmp_path / SINGLE)
    tensors = find_tensors(tmp_path)
    assert [(t.name, t.shape, t.dtype) for t in tensors.values()] == [
        ("a", (2, 3), "float32"),
        ("b", (4,), "float16"),
        ("c", (3,), "I64"),
    ]
    np.testing.assert_array_equal(tensors["a"].read(), TENSORS["a"])
    assert tensors["b"].read().dtype == np.float32


def test_a_file_damaged_after_the_look_is_told_as_well(tmp_path):
    save_file(TENSORS, tmp_path / SINGLE)
    tensors = find_tensors(tmp_path)
    (tmp_path / SINGLE).unlink()
    with pytest.raises(CheckpointError, match=f"{SINGLE} cannot be read"):
        tensors["a"].read()


def test_types_that_hold_no_weights_have_a_name(tmp_path):
    (tmp_path / SINGLE).write_bytes(file_with({"a": header(dtype="F8_E4M3", shape=[8])}, bytes(8)))
    assert find_tensors(tmp_path)["a"].dtype == "F8_E4M3"


@pytest.fixture
def shards(tmp_path):
    """A folder with two shards, and a way to change what its index says."""
    folder = tmp_path / "model"
    folder.mkdir()
    save_file({"a": TENSORS["a"]}, folder / "1.safetensors")
    save_file({"b": TENSORS["b"], "c": TENSORS["c"]}, folder / "2.safetensors")
    names = {"a": "1.safetensors", "b": "2.safetensors", "c": "2.safetensors"}

    def say(**changes):
        weight_map = {n: file for n, file in (names | changes).items() if file is not None}
        (folder / INDEX).write_text(json.dumps({"weight_map": weight_map}))
        return folder

    return say


def test_shards_make_one_set_of_tensors(shards):
    folder = shards()
    tensors = find_tensors(folder)
    assert {n: t.file.name for n, t in tensors.items()} == {
        "a": "1.safetensors",
        "b": "2.safetensors",
        "c": "2.safetensors",
    }
    np.testing.assert_array_equal(tensors["a"].read(), TENSORS["a"])


@pytest.mark.parametrize(
    "changes, problem",
    [
        ({"a": "3.safetensors"}, "names 3.safetensors, which is not there"),
        ({"a": ""}, "which is not there"),
        ({"a": "n" * 5000}, "which is not there"),
        ({"a": "no\0thing"}, "which is not there"),
        ({"d": "1.safetensors"}, "d is not in 1.safetensors"),
        ({"b": "1.safetensors"}, "b is not in 1.safetensors; 2.safetensors holds b as well"),
        ({"c": None}, "2.safetensors holds c as well"),
        ({"a": 1}, "has no weight_map"),
    ],
)
def test_an_index_that_does_not_fit(shards, changes, problem):
    folder = shards(**changes)
    with pytest.raises(CheckpointError) as error:
        find_tensors(folder)
    assert str(folder / INDEX) in str(error.value)
    assert problem in str(error.value)
    assert str(error.value).isprintable()


@pytest.mark.parametrize("content", ["{}", '{"weight_map": []}'])
def test_an_index_without_a_map(tmp_path, content):
    (tmp_path / INDEX).write_text(content)
    with pytest.raises(CheckpointError, match="has no weight_map"):
        find_tensors(tmp_path)


def test_an_index_cannot_lead_out_of_its_folder(shards, tmp_path):
    outside = tmp_path / "outside.safetensors"
    save_file({"a": TENSORS["a"]}, outside)
    for name in (str(outside), "../outside.safetensors", "x/../../outside.safetensors"):
        with pytest.raises(CheckpointError, match="outside its folder"):
            find_tensors(shards(a=name))
    folder = shards(a="link.safetensors")
    (folder / "link.safetensors").symlink_to(outside)
    with pytest.raises(CheckpointError, match="a link that leads out of its folder"):
        find_tensors(folder)
    (folder / "link.safetensors").unlink()
    (folder / "link.safetensors").symlink_to("1.safetensors")
    assert find_tensors(folder).keys() == TENSORS.keys()


def test_a_snapshot_in_the_cache_of_the_hub_consists_of_links(shards, tmp_path):
    repository = tmp_path / "models--who--what"
    snapshot, blobs = repository / "snapshots" / "0123abc", repository / "blobs"
    blobs.mkdir(parents=True)
    shutil.copytree(shards(), snapshot)
    for number in "12":
        (snapshot / f"{number}.safetensors").rename(blobs / number)
        (snapshot / f"{number}.safetensors").symlink_to(f"../../blobs/{number}")
    assert find_tensors(snapshot).keys() == TENSORS.keys()
    (snapshot / "1.safetensors").unlink()
    (snapshot / "1.safetensors").symlink_to(tmp_path / "model" / "1.safetensors")
    with pytest.raises(CheckpointError, match="leads out"):
        find_tensors(snapshot)


def test_the_whole_file_wins_over_shards(shards):
    folder = shards()
    save_file({"a": TENSORS["a"]}, folder / SINGLE)
    assert find_tensors(folder).keys() == {"a"}


@pytest.mark.parametrize("pickle", ["pytorch_model.bin", "pytorch_model.bin.index.json"])
@pytest.mark.parametrize(
    "architectures, model",
    [
        (["DistilBertModel"], "DistilBertModel"),
        (["x; print()"], "AutoModelForMaskedLM"),
        (None, "AutoModelForMaskedLM"),
    ],
)
def test_a_pickle_is_refused_with_the_line_that_converts_it(tmp_path, pickle, architectures, model):
    folder = tmp_path / "it's $HOME"
    folder.mkdir()
    (folder / pickle).write_text("")
    (folder / "config.json").write_text(json.dumps({"architectures": architectures}))
    with pytest.raises(CheckpointError, match=f"has {pickle} but no {SINGLE}") as error:
        find_tensors(folder)
    command = shlex.split("python" + str(error.value).partition(": python")[2])
    assert command[:2] == ["python", "-c"] and len(command) == 3
    assert run_with_a_fake_transformers(command[2], model) == [str(folder), str(folder)]


def run_with_a_fake_transformers(code, model):
    """The folders that `code` loads from and saves to."""
    folders = []

    class Model:
        @classmethod
        def from_pretrained(cls, folder):
            folders.append(folder)
            return cls()

        def save_pretrained(self, folder, safe_serialization):
            assert safe_serialization
            folders.append(folder)

    fake = types.ModuleType("transformers")
    setattr(fake, model, Model)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "transformers", fake)
        exec(code, {})
    return folders


def test_neither_safetensors_nor_pickle(tmp_path):
    with pytest.raises(CheckpointError, match=f"has no {SINGLE}; write it with save_pretrained"):
        find_tensors(tmp_path)


def test_written_bytes_depend_on_the_tensors_alone(tmp_path):
    write_tensors(tmp_path / "1", TENSORS)
    write_tensors(tmp_path / "2", dict(reversed(TENSORS.items())))
    assert (tmp_path / "1").read_bytes() == (tmp_path / "2").read_bytes()
    assert b'"__metadata__":{"format":"pt"}' in (tmp_path / "1").read_bytes()


def test_others_may_read_it_as_they_may_other_files(tmp_path):
    (tmp_path / "other").touch()
    write_tensors(tmp_path / "1", TENSORS)
    assert (tmp_path / "1").stat().st_mode == (tmp_path / "other").stat().st_mode


def test_a_transposed_view_is_written_as_it_reads(tmp_path):
    write_tensors(tmp_path / "1", {"a": TENSORS["a"].T})
    np.testing.assert_array_equal(load_file(tmp_path / "1")["a"], TENSORS["a"].T)


def test_what_cannot_be_written_is_an_output_error(tmp_path):
    with pytest.raises(OutputError, match="nowhere/1 cannot be written"):
        write_tensors(tmp_path / "nowhere" / "1", TENSORS)
