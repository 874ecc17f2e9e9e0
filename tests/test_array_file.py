"""Arrays are mapped and never unpickled, whatever the header of their file says."""

import numpy as np
import pytest

from mlm.array_file import map_array


def test_numbers_are_mapped(tmp_path):
    np.save(tmp_path / "a.npy", np.arange(6).reshape(2, 3))
    found = map_array(tmp_path / "a.npy")
    assert isinstance(found, np.memmap) and found.tolist() == [[0, 1, 2], [3, 4, 5]]


def header(shape):
    text = f"{{'descr': '<i8', 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode()


@pytest.mark.parametrize(
    "content",
    [
        header("(1000000000000,)") + b"\0" * 64,  # 8 TB in 192 bytes
        header("(60,"),  # no end
        header("(60,)")[:40],
        b"PK\x05\x06" + b"\0" * 18,  # an empty archive
        b"",
    ],
)
def test_other_files_are_value_errors(tmp_path, content):
    (tmp_path / "a.npy").write_bytes(content)
    with pytest.raises(ValueError):
        map_array(tmp_path / "a.npy")


@pytest.mark.parametrize("array", [np.array([{}]), np.array(["a"]), np.array([1j])])
def test_what_holds_no_numbers_is_refused(tmp_path, array):
    np.save(tmp_path / "a.npy", array, allow_pickle=True)
    with pytest.raises(ValueError, match="holds|Python objects"):
        map_array(tmp_path / "a.npy")


def test_a_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError):
        map_array(tmp_path / "none.npy")
