"""Arrays of numbers in .npy files, mapped rather than read, and never unpickled."""

from pathlib import Path

import numpy as np


def map_array(file: str | Path) -> np.ndarray:
    """The array in a file that `np.save` wrote, read when it is looked at.

    NumPy reads the header as Python, whose tokenizer fails in its own ways, and takes other kinds
    of files as well; a shape beyond the file's end is refused because it is mapped.

    Raises:
      OSError: it cannot be opened.
      ValueError: it is no such file, cut short, or holds something else than numbers.
    """
    try:
        found = np.load(file, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError):
        raise
    except Exception as error:
        raise ValueError(f"{type(error).__name__}: {error}") from error
    if not isinstance(found, np.ndarray) or found.dtype.kind not in "biuf":
        raise ValueError(f"holds {getattr(found, 'dtype', 'several arrays')}")
    return found
