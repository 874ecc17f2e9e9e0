"""`fill-mask` and `convert`: a model from wherever it lies."""

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from mlm.bucket import is_url
from mlm.cli import Parser
from mlm.errors import ConfigError

MODEL = "a built-in name, hf://org/name[@revision], or a folder: Hugging Face, KerasHub, a workdir"


def fill_mask(argv: Sequence[str]) -> None:
    """Prints the most probable tokens for each [MASK] of a text."""
    parser = Parser(prog="python -m mlm fill-mask", description=fill_mask.__doc__)
    parser.add_argument("model", help=MODEL)
    parser.add_argument("texts", nargs="*", help="texts with [MASK]; none: a line each from stdin")
    parser.add_argument("--top_k", type=int, default=5, help="candidates per [MASK]")
    parser.add_argument("--json", action="store_true", help="a JSON object per text")
    args = parser.parse_args(argv)
    if args.top_k < 1:
        raise ConfigError(f"--top_k is {args.top_k}; give the number of candidates, 1 or more")
    texts = args.texts or _lines_of_standard_input()
    if not texts:
        raise ConfigError("no text with [MASK] is given, as an argument or on standard input")

    from mlm.filling import fill_lines

    for line in fill_lines(args.model, texts, top_k=args.top_k, as_json=args.json):
        print(line)


def _lines_of_standard_input() -> list[str]:
    try:
        return [line.strip() for line in sys.stdin if line.strip()]
    except UnicodeDecodeError as error:
        raise ConfigError(f"standard input is not UTF-8 ({error}); convert it first") from error


def convert(argv: Sequence[str]) -> None:
    """Writes a model and its tokenizer as a folder of another format."""
    parser = Parser(prog="python -m mlm convert", description=convert.__doc__)
    parser.add_argument("source", help=MODEL)
    parser.add_argument("folder", type=Path, help="new folder")
    parser.add_argument("--to", required=True, choices=("huggingface", "keras", "mlm"))
    parser.add_argument("--cast", action="store_true", help="turn half precision into float32")
    parser.add_argument(
        "--allow_epsilon_change",
        action="store_true",
        help="accept the epsilon that is fixed in the format; logits change a little",
    )
    args = parser.parse_args(argv)
    if is_url(args.folder):
        raise ConfigError(
            f"folder is {args.folder}; convert into a folder, and copy that to the URL"
        )

    import jax

    from mlm.export import export
    from mlm.pretrained import load_pretrained

    # The key is for the head of an encoder that comes alone; a note says that it is random.
    source = load_pretrained(args.source, key=jax.random.key(0), cast=args.cast)
    notes = export(
        source,
        args.folder,
        to=args.to,
        allow_epsilon_change=args.allow_epsilon_change,
        command=shlex.join(["python", "-m", "mlm", "convert", *argv]),
    )
    print(*notes, f"{args.folder}: {args.to}, from a {source.kind} folder", sep="\n")
