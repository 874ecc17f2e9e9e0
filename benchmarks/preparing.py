"""Preparing text: speed beside the tokenizer library alone, and peak memory for a large file.

Command:  python benchmarks/preparing.py --text=FILES --megabytes=5000 --folder=/tmp

The large file repeats the documents, each copy with a number so that no two are equal, and holds
one line of 20 MB and one word of 20 MB.
"""

import argparse
import os
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from mlm.preparing.documents import utf8_size  # noqa: E402
from mlm.preparing.encode import encode  # noqa: E402
from mlm.text import Reading, read_corpus, train_tokenizer  # noqa: E402

CALL = 1000  # documents in a call of the library


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--text", default="builtin:python_docs", help="as in data.corpus")
    parser.add_argument("--field", default="text", help="of .jsonl")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--sample", type=int, default=32, help="megabytes that are timed")
    parser.add_argument("--megabytes", type=int, default=0, help="of the large file; 0: none")
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()))
    args = parser.parse_args()
    documents = read_corpus(args.text, Reading(field=args.field)).documents
    compare_speed(documents, args.rounds, args.sample * 1_000_000)
    if args.megabytes:
        prepare_large(documents, args.megabytes, args.folder)


def compare_speed(documents: tuple[str, ...], rounds: int, sample: int) -> None:
    """Prints MB/s of the library and of our streaming, in turn, and the median ratio."""
    tokenizer = train_tokenizer(documents, vocabulary_size=8192, lowercase=True)
    size = sum(map(utf8_size, documents))
    texts = list(documents) * max(1, sample // size)
    size = sum(map(utf8_size, texts)) / 1e6

    def library():
        for start in range(0, len(texts), CALL):
            tokenizer.literal_backend.encode_batch_fast(texts[start : start + CALL])

    def ours():
        for ids in encode(tokenizer, texts):
            np.asarray(ids).astype("<u2").tobytes()

    ratios = []
    for _ in range(rounds):
        alone, streamed = seconds(library), seconds(ours)
        ratios.append(alone / streamed)
        print(f"library {size / alone:5.1f} MB/s   ours {size / streamed:5.1f} MB/s")
    print(f"ours / library, median of {rounds}: {statistics.median(ratios):.2f}")


def seconds(function) -> float:
    began = time.perf_counter()
    function()
    return time.perf_counter() - began


def prepare_large(documents: tuple[str, ...], megabytes: int, folder: Path) -> None:
    """Prints time and peak memory of `python -m mlm prepare` on a file of this size."""
    with tempfile.TemporaryDirectory(dir=folder) as place:
        corpus = Path(place) / "large.txt"
        write_large(corpus, documents, megabytes * 1_000_000)
        fields = {"data.corpus": corpus, "data.cache_dir": Path(place) / "cache"}
        command = [sys.executable, "-m", "mlm", "prepare", "--config=configs/default.py"]
        command += [f"--config.{name}={value}" for name, value in fields.items()]
        print(f"{corpus.stat().st_size / 1e6:,.0f} MB", flush=True)
        os.chdir(ROOT)
        began = time.perf_counter()
        _, status, usage = os.wait4(os.posix_spawn(sys.executable, command, os.environ), 0)
        took = time.perf_counter() - began
        print(
            f"exit {os.waitstatus_to_exitcode(status)}, {took:,.0f} s, "
            f"{corpus.stat().st_size / 1e6 / took:.1f} MB/s in all, "
            f"peak memory {usage.ru_maxrss / 1e6:.2f} GB"
        )
        shutil.rmtree(Path(place) / "cache", ignore_errors=True)


def write_large(file: Path, documents: tuple[str, ...], size: int) -> None:
    with file.open("w", encoding="utf-8") as stream:
        stream.write("word " * 4_000_000 + "\n\n" + "x" * 20_000_000 + "\n\n")
        written, copy = 40_000_000, 0
        while written < size:
            text = "".join(f"{document} {copy}\n\n" for document in documents)
            stream.write(text)
            written, copy = written + utf8_size(text), copy + 1


if __name__ == "__main__":
    main()
