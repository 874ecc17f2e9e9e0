"""Arrays in HDF5 files that others made, opened without trust in what the files say.

HDF5 can reach beyond itself: links, external storage and virtual datasets have made model loaders
read files of their host (CVE-2026-1669), also by a link in the middle of a name, and 2 KB can
declare 64 GiB (CVE-2026-0897). So every name is opened one step at a time and only where it is a
hard link, arrays must lie in the file as one block, and nothing is read before the declared sizes
are seen to fit into the file. What shapes there must be is for the caller to compare first.
"""

import contextlib
import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path

import h5py
import jax.numpy as jnp
import numpy as np

from mlm.conversion.loaded import shown
from mlm.errors import CheckpointError

DAMAGED = (KeyError, OSError, RuntimeError, TypeError, ValueError)  # what h5py raises
PLAIN = (h5py.h5t.FLOAT, h5py.h5t.INTEGER, h5py.h5t.OPAQUE)
BLOCKS = (h5py.h5d.CONTIGUOUS, h5py.h5d.COMPACT)
BFLOAT16 = np.dtype("V2")  # how Keras stores it, with an attribute that says so
TO_FLOAT32 = ("float32", "float16", "bfloat16", "float64")


@dataclasses.dataclass(frozen=True)
class StoredArray:
    """An array in an open file, not read yet; `dtype` is a name such as 'float32'."""

    shape: tuple[int, ...]
    dtype: str
    dataset: h5py.Dataset
    path: Path

    def read(self) -> np.ndarray:
        """The array as float32; its `dtype` must be in `TO_FLOAT32`.

        Raises CheckpointError when the file does not hold all of it.
        """
        with _told(self.path):
            size, stored = self.dataset.nbytes, self.dataset.id.get_storage_size()
            if stored != size:
                raise _too_small(self.path, shown(self.dataset.name), size, stored)
            values = self.dataset[...]
        if self.dtype == "bfloat16":
            values = values.view(jnp.bfloat16)
        return values.astype(np.float32, copy=False)


@contextlib.contextmanager
def open_hdf5(paths: Sequence[Path]) -> Iterator[dict[str, StoredArray]]:
    """The arrays of one file, or of several that are one, by their whole names.

    Raises CheckpointError for a file that is missing, damaged or no HDF5, for anything in it that
    is not an array or a group in the file itself, and for a name that is in two files.
    """
    found: dict[str, StoredArray] = {}
    with contextlib.ExitStack() as stack:
        for path in paths:
            with _told(path):
                file = stack.enter_context(h5py.File(path, "r", locking=False))
                arrays = dict(_walk(file, "", path, set()))
                declared = sum(array.dataset.nbytes for array in arrays.values())
            if declared > (size := path.stat().st_size):
                raise _too_small(path, "its arrays", declared, size)
            if twice := sorted(arrays.keys() & found.keys()):
                raise CheckpointError(
                    f"{path} holds {shown(twice[0])}, which {found[twice[0]].path} holds as well; "
                    "save the model again"
                )
            found |= arrays
        yield found


@contextlib.contextmanager
def _told(path: Path) -> Iterator[None]:
    """What h5py raises, in a line of ours."""
    try:
        yield
    except CheckpointError:
        raise
    except FileNotFoundError as error:
        raise CheckpointError(f"{path} does not exist; copy or download it again") from error
    except DAMAGED as error:
        reason = shown(" ".join(str(error).split()))
        raise CheckpointError(
            f"{path} is no HDF5 file, or damaged ({reason}); copy or download it again"
        ) from error


def _walk(
    group: h5py.Group, prefix: str, path: Path, seen: set[int]
) -> Iterator[tuple[str, StoredArray]]:
    for step in group:
        name = prefix + step
        # A step with a slash would be followed through names that were not looked at.
        if "/" in step or not isinstance(group.get(step, getlink=True), h5py.HardLink):
            raise _suspicious(path, name, "is a link to another place")
        item = group[step]
        place = h5py.h5o.get_info(item.id).addr
        if place in seen:
            raise _suspicious(path, name, "is a second name of something else in the file")
        seen.add(place)
        if isinstance(item, h5py.Group):
            yield from _walk(item, f"{name}/", path, seen)
        elif isinstance(item, h5py.Dataset):
            _refuse_elsewhere(item, name, path)
            yield name, StoredArray(item.shape, _dtype(item), item, path)
        else:
            raise _suspicious(path, name, "is neither a group nor an array")


def _refuse_elsewhere(dataset: h5py.Dataset, name: str, path: Path) -> None:
    """Raises CheckpointError unless the values of an array are numbers in one block of the file."""
    plan = dataset.id.get_create_plist()
    if plan.get_external_count():
        raise _suspicious(path, name, "has its values in another file")
    if plan.get_layout() == h5py.h5d.VIRTUAL:
        raise _suspicious(path, name, "is put together from other arrays")
    if plan.get_layout() not in BLOCKS or plan.get_nfilters():
        raise _suspicious(path, name, "is stored in pieces or compressed")
    if dataset.id.get_type().get_class() not in PLAIN:
        raise _suspicious(path, name, "does not hold numbers")


def _dtype(dataset: h5py.Dataset) -> str:
    if dataset.dtype == BFLOAT16 and dataset.attrs.get("dtype") == "bfloat16":
        return "bfloat16"
    return dataset.dtype.name if dataset.dtype.isnative else dataset.dtype.str


def _too_small(path: Path, what: str, declared: int, held: int) -> CheckpointError:
    return CheckpointError(
        f"{path} declares {declared} bytes for {what} and holds {held}; copy or download it again"
    )


def _suspicious(path: Path, name: str, what: str) -> CheckpointError:
    return CheckpointError(
        f"{path}: {shown(name)} {what}, which weights that Keras saved never are; "
        "do not trust this file, get it from where the model was published"
    )
