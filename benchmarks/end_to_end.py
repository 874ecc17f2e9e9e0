"""From raw text to trained steps: `python benchmarks/end_to_end.py --text=FILE [--lines=640]`.

Ours beside KerasHub's `fit` on its own `tf.data` pipeline: the same lines of text, vocabulary,
model and optimizer. A process each, in turns of one pass over the text, reading and tokenizing
included, after one that compiles. Printed are useful tokens per second (of the text: no special
tokens, no padding, nothing that was cut off) and the median of the rounds' ratios.

`--keras_python` is the interpreter that has KerasHub and TensorFlow.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks.end_to_end_contenders import CONTENDERS, Pass  # noqa: E402
from benchmarks.train_step import answer, finish  # noqa: E402
from benchmarks.train_step_contenders import SIZES  # noqa: E402


def main() -> int:
    args = arguments()
    with tempfile.TemporaryDirectory() as folder:
        text, vocabulary = materials(args, Path(folder))
        facts = {n: getattr(args, n) for n in ("size", "rows", "length", "dropout")}
        facts = json.dumps(facts | {"text": str(text), "vocabulary": str(vocabulary)})
        contenders = {n: start(n, facts, args) for n in args.contenders.split(",")}
        first = {n: json.loads(answer(n, process)) for n, process in contenders.items()}
        rounds = [
            {n: turn(n, process) for n, process in contenders.items()} for _ in range(args.rounds)
        ]
        memory = {n: finish(n, process) for n, process in contenders.items()}
    show(args, rounds, first, memory)
    return 0


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--text", required=True, help="file; every line that is not blank is one")
    parser.add_argument("--lines", type=int, default=640, help="of the file, from its beginning")
    parser.add_argument("--size", choices=("nano", "tiny", "base"), default="tiny")
    parser.add_argument("--rows", type=int, default=32)
    parser.add_argument("--length", type=int, default=128)
    parser.add_argument("--dropout", type=float, default=0.0, help="everywhere, attention included")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--contenders", default=",".join(CONTENDERS))
    parser.add_argument("--keras_python", default=sys.executable)
    args = parser.parse_args()
    if not Path(args.text).is_file():
        parser.error(f"--text is {args.text}: no such file")
    unknown = {*args.contenders.split(",")} - {*CONTENDERS}
    if unknown or args.contenders.split(",")[0] != "ours":
        parser.error(
            f"--contenders is {args.contenders}; 'ours', then some of {', '.join(CONTENDERS)}"
        )
    return args


def materials(args: argparse.Namespace, folder: Path) -> tuple[Path, Path]:
    """The lines as a file, and a vocabulary trained on them."""
    from mlm.text import train_tokenizer

    lines = Path(args.text).read_text().splitlines()
    lines = [line.strip() for line in lines if line.strip()][: args.lines]
    text, vocabulary = folder / "lines.txt", folder / "vocab.txt"
    text.write_text("\n".join(lines) + "\n")
    tokenizer = train_tokenizer(lines, vocabulary_size=SIZES[args.size][-1], lowercase=True)
    ids = sorted(tokenizer.backend.get_vocab().items(), key=lambda item: item[1])
    vocabulary.write_text("\n".join(piece for piece, _ in ids) + "\n")
    return text, vocabulary


def start(name: str, facts: str, args: argparse.Namespace) -> subprocess.Popen:
    python = args.keras_python if name.startswith("keras") else sys.executable
    script = str(Path(__file__).with_name("end_to_end_contenders.py"))
    return subprocess.Popen(
        [python, script, name, facts],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"KERAS_BACKEND": "jax"},
    )


def turn(name: str, process: subprocess.Popen) -> Pass:
    process.stdin.write("turn\n")
    process.stdin.flush()
    return Pass(*json.loads(answer(name, process)))


def show(args, rounds: list[dict[str, Pass]], first: dict, memory: dict) -> None:
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    print(
        f"{args.size}, {args.rows} x {args.length}, dropout {args.dropout}, {args.lines} lines of "
        f"{Path(args.text).name}, {args.rounds} rounds; load {load}"
    )
    print(
        f"{'':12}{'useful/s':>10}{'ours /':>8}{'seconds':>9}{'steps':>7}{'tokens':>9}"
        f"{'start':>8}{'GiB':>7}  versions"
    )

    def speed(one: Pass) -> float:
        return one.tokens / one.seconds

    for name in first:
        passes = [turns[name] for turns in rounds]
        ratio = statistics.median(speed(turns["ours"]) / speed(turns[name]) for turns in rounds)
        print(
            f"{name:12}{statistics.median(map(speed, passes)):10.0f}{ratio:8.2f}"
            f"{statistics.median(one.seconds for one in passes):9.2f}{passes[0].steps:7}"
            f"{passes[0].tokens:9}{first[name]['seconds']:8.1f}{memory[name]:7.2f}"
            f"  {first[name]['versions']}"
        )


if __name__ == "__main__":
    sys.exit(main())
