"""A weights file reaches nothing beyond itself, and gives nothing that it does not hold."""

import re
import struct
import time

import h5py
import numpy as np
import pytest

from mlm.conversion.hdf5 import open_hdf5
from mlm.errors import CheckpointError

VALUES = np.arange(6, dtype=np.float32).reshape(2, 3)
NAME = "layers/dense/vars/0"


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "model.weights.h5"
    with h5py.File(path, "w") as file:
        file[NAME] = VALUES
        file["layers/dense/vars/1"] = np.float32(7)
        file["optimizer/vars/0"] = np.int32(3)
    return path


@pytest.fixture
def secret(tmp_path):
    """A file that no weights file may reach: HDF5 and bytes at once."""
    path = tmp_path / "secret.h5"
    with h5py.File(path, "w") as file:
        file[NAME] = VALUES
    return path


def edit(path, change):
    with h5py.File(path, "a") as file:
        change(file)


def replace(name, value):
    def change(file):
        del file[name]
        file[name] = value

    return change


def refusal(path) -> str:
    with pytest.raises(CheckpointError) as caught, open_hdf5([path]) as found:
        {name: array.read() for name, array in found.items()}
    message = str(caught.value)
    assert "\n" not in message and str(path) in message
    return message


def test_arrays_by_their_whole_names(path):
    with open_hdf5([path]) as found:
        assert {name: (array.shape, array.dtype) for name, array in found.items()} == {
            NAME: ((2, 3), "float32"),
            "layers/dense/vars/1": ((), "float32"),
            "optimizer/vars/0": ((), "int32"),
        }
        np.testing.assert_array_equal(found[NAME].read(), VALUES)


def test_several_files_are_one(path, tmp_path):
    other = tmp_path / "model_00001.weights.h5"
    with h5py.File(other, "w") as file:
        file["layers/dense_1/vars/0"] = VALUES + 1
    with open_hdf5([path, other]) as found:
        assert len(found) == 4
        np.testing.assert_array_equal(found["layers/dense_1/vars/0"].read(), VALUES + 1)
    edit(other, lambda file: file.create_dataset(NAME, data=VALUES))
    with pytest.raises(CheckpointError, match=f"holds {NAME}, which {path} holds as well"):
        with open_hdf5([path, other]):
            pass


@pytest.mark.parametrize("stored", [np.float16, np.float64])
def test_other_floats_become_float32(path, stored):
    edit(path, replace(NAME, VALUES.astype(stored)))
    with open_hdf5([path]) as found:
        assert found[NAME].dtype == np.dtype(stored).name
        values = found[NAME].read()
    assert values.dtype == np.float32
    np.testing.assert_array_equal(values, VALUES)


def test_bfloat16_as_keras_stores_it(path):
    bits = (VALUES.view(np.uint32) >> 16).astype(np.uint16)  # these values need no rounding
    edit(path, replace(NAME, bits.view("V2")))
    with open_hdf5([path]) as found:
        assert found[NAME].dtype == "void16"  # nothing says yet what the bytes are
    edit(path, lambda file: file[NAME].attrs.update(dtype="bfloat16"))
    with open_hdf5([path]) as found:
        assert found[NAME].dtype == "bfloat16"
        np.testing.assert_array_equal(found[NAME].read(), VALUES)


def test_the_other_byte_order_is_another_dtype(path):
    edit(path, replace(NAME, VALUES.astype(">f4")))
    with open_hdf5([path]) as found:
        assert found[NAME].dtype == ">f4"


@pytest.mark.parametrize("name", [NAME, "layers/dense/vars", "layers/dense", "layers"])
def test_links_anywhere_in_a_name(path, secret, name):
    edit(path, replace(name, h5py.ExternalLink(str(secret), name)))
    assert f"{name} is a link to another place" in refusal(path)
    edit(path, replace(name, h5py.SoftLink("/optimizer")))
    assert f"{name} is a link to another place" in refusal(path)


def test_values_in_another_file(path, secret):
    def change(file):
        del file[NAME]
        file.create_dataset(NAME, (2, 3), np.float32, external=[(str(secret), 0, 24)])

    edit(path, change)
    assert f"{NAME} has its values in another file" in refusal(path)


def test_virtual_arrays(path, secret):
    def change(file):
        del file[NAME]
        layout = h5py.VirtualLayout((2, 3), np.float32)
        layout[:] = h5py.VirtualSource(str(secret), NAME, (2, 3))
        file.create_virtual_dataset(NAME, layout)

    edit(path, change)
    assert f"{NAME} is put together from other arrays" in refusal(path)


@pytest.mark.parametrize("settings", [{"chunks": (1, 3)}, {"compression": "gzip"}])
def test_arrays_in_pieces(path, settings):
    def change(file):
        del file[NAME]
        file.create_dataset(NAME, data=VALUES, **settings)

    edit(path, change)
    assert f"{NAME} is stored in pieces or compressed" in refusal(path)


@pytest.mark.parametrize(
    "dtype", [h5py.string_dtype(), h5py.ref_dtype, h5py.vlen_dtype(np.float32), "S4", "f4,f4"]
)
def test_what_is_not_numbers(path, dtype):
    def change(file):
        del file[NAME]
        file.create_dataset(NAME, (2, 3), dtype)

    edit(path, change)
    assert f"{NAME} does not hold numbers" in refusal(path)


def test_second_names_and_circles(path):
    edit(path, lambda file: file.__setitem__("layers/again", file["layers/dense"]))
    assert "is a second name of something else in the file" in refusal(path)
    edit(path, replace("layers/again", np.float32(0)))
    edit(path, lambda file: file.__setitem__("layers/dense/up", file["layers"]))
    assert "layers/dense/up is a second name" in refusal(path)


def test_named_types(path):
    edit(path, lambda file: file.__setitem__("layers/type", np.dtype("f4")))
    assert "layers/type is neither a group nor an array" in refusal(path)


def test_groups_without_end(path):
    edit(path, lambda file: file.create_group("/".join(["deep"] * 2000)))
    assert "damaged (maximum recursion depth" in refusal(path)


def test_64_gib_in_2_kb(tmp_path):
    path = tmp_path / "bomb.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset(NAME, (2**29, 32), np.float32)
    assert path.stat().st_size < 8192
    start = time.monotonic()
    assert f"declares {2**36} bytes for its arrays and holds {path.stat().st_size};" in refusal(
        path
    )
    assert time.monotonic() - start < 1


def test_an_array_that_was_never_written(path):
    edit(path, lambda file: file.create_dataset("layers/empty", (100,), np.float32))
    assert "declares 400 bytes for /layers/empty and holds 0;" in refusal(path)


def test_a_block_beyond_the_end_of_the_file(path):
    with h5py.File(path, "w") as file:
        file[NAME] = np.zeros(50_000, np.float32)
    content = path.read_bytes()
    for written, told in ((50_000, 2**34), (200_000, 2**36)):  # its shape and its size
        assert struct.pack("<Q", written) in content
        content = content.replace(struct.pack("<Q", written), struct.pack("<Q", told))
    path.write_bytes(content)
    # Newer versions of the library notice by themselves.
    assert re.search(f"declares {2**36} bytes|invalid dataset size", refusal(path))


@pytest.mark.parametrize("size", [0, 7, 100, 2000])
def test_truncated_files(path, size):
    path.write_bytes(path.read_bytes()[:size])
    assert "is no HDF5 file, or damaged (" in refusal(path)


def test_other_files(path):
    path.write_bytes(b"PK\x03\x04" + bytes(4000))
    assert "is no HDF5 file, or damaged (" in refusal(path)
    path.unlink()
    assert refusal(path) == f"{path} does not exist; copy or download it again"


def test_bytes_changed_anywhere_give_arrays_or_one_line(path):
    """A damaged file never ends in anything but an array or a CheckpointError."""
    content, draw = path.read_bytes(), np.random.default_rng(0)
    refused = 0
    for _ in range(300):
        damaged = bytearray(content)
        for place in draw.integers(0, len(content), 3):
            damaged[place] = draw.integers(256)
        path.write_bytes(damaged)
        try:
            with open_hdf5([path]) as found:
                [array.read() for array in found.values() if array.dtype == "float32"]
        except CheckpointError as error:
            refused += 1
            assert re.match(re.escape(str(path)), str(error)) and "\n" not in str(error)
    assert 0 < refused < 300
