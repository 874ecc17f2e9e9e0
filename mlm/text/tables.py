"""Documents out of tables: `.parquet` files, and datasets of the Hugging Face library.

Both need an extra package, which is imported when such a name is met.
"""

import importlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

from mlm.errors import DataError
from mlm.text.reading import Reading, record_text

DATASETS = "datasets:"


def read_parquet(path: Path, reading: Reading, counts: Counter) -> Iterator[str]:
    """The documents of a `.parquet` file, one per row, read in batches of rows.

    Raises:
      DataError: pyarrow is missing, or the file is missing, damaged or without the field.
    """
    parquet = _extra("pyarrow.parquet", "pyarrow", f"{path} is a .parquet file")
    arrow_error = importlib.import_module("pyarrow").ArrowException
    row = 0
    try:
        with parquet.ParquetFile(path) as table:
            names = table.schema_arrow.names
            columns = [name for name in reading.fields if name in names]
            if not columns:
                record_text(dict.fromkeys(names), reading, counts, f"{path} row 1")
            for batch in table.iter_batches(1024, columns=columns):
                for record in batch.to_pylist():
                    row += 1
                    yield record_text(record, reading, counts, f"{path} row {row}")
    except FileNotFoundError as error:
        raise DataError(f"corpus file {path} does not exist; correct the path") from error
    except DataError:
        raise
    except (arrow_error, OSError, ValueError) as error:  # the last of a text that is not UTF-8
        first = (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
        raise DataError(
            f"{path} is damaged after row {row}: {first}; make the file again"
        ) from error


def read_dataset(name: str, reading: Reading, counts: Counter, origin: dict) -> Iterator[str]:
    """The documents of `datasets:NAME[:CONFIGURATION[:SPLIT]]`, one per row, by default of 'train'.

    NAME is a dataset of the Hub, a folder of data files, or one that `save_to_disk` wrote. The
    library keeps it on disk and maps it, so it may be larger than memory.

    Raises:
      DataError: the library is missing, or the dataset cannot be had or lacks the field.
    """
    table = _load(name)
    origin.setdefault("datasets", []).append({"name": name, "rows": len(table)})
    columns = [field for field in reading.fields if field in table.column_names]
    for row, record in enumerate(table.select_columns(columns) if columns else table, start=1):
        if text := record_text(record, reading, counts, f"{name} row {row}").strip():
            yield text


def dataset_identity(name: str) -> str:
    """The library's own fingerprint, which follows the data and what was done to it."""
    return f"{name} {_load(name)._fingerprint}"


def _load(name: str):
    """The table of one split."""
    datasets = _extra("datasets", "datasets", name)
    parts = name.removeprefix(DATASETS).split(":", 2)  # a split may be train[:10%]
    place, configuration, split = [*parts, "", ""][:3]
    try:
        if Path(place, "state.json").is_file() and not split:
            return datasets.load_from_disk(place)
        if Path(place, "state.json").is_file():
            raise ValueError("a saved Dataset has no splits")
        split = split or "train"
        if Path(place, "dataset_dict.json").is_file():
            return datasets.load_from_disk(place)[split]
        return datasets.load_dataset(place, configuration or None, split=split)
    except Exception as error:  # whatever is wrong with names, files or the network
        reason = f"{type(error).__name__}: {' '.join(str(error).split())}".rstrip(".: ")
        raise DataError(
            f"corpus {name} cannot be loaded ({reason:.200}); write "
            "datasets:NAME[:CONFIGURATION[:SPLIT]], or download it where there is a network"
        ) from error


def _extra(module: str, package: str, what: str) -> ModuleType:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise DataError(f"{what}, which needs {package}: pip install {package}") from error
