"""`python -m mlm COMMAND`: the commands beside train.py and eval.py."""

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from mlm import audit_commands
from mlm.cli import Parser, parse_with_config, run_command
from mlm.errors import ConfigError

COMMANDS = (
    "commands: prepare (text files -> a token store), store (inspect or verify one), tokenizer "
    "(train, show or compare), inspect (what a config masks), replay (what a step of a run consumed), "
    "doctor (is all well with a run, or a config), fill-mask (what a model puts for [MASK]), convert "
    "(a model into another format); python -m mlm COMMAND --help"
)
MODEL = "a built-in name, hf://org/name[@revision], or a folder: Hugging Face, KerasHub, a workdir"
TOKENIZER = "tokenizer.json, vocab.txt (read as uncased) or a folder with one of them"


def main(argv: Sequence[str]) -> int | None:
    if not argv or argv[0] in ("-h", "--help"):
        print(COMMANDS)
    elif argv[0] == "prepare":
        prepare(argv[1:])
    elif argv[0] == "store":
        store(argv[1:])
    elif argv[0] == "tokenizer":
        tokenizer(argv[1:])
    elif argv[0] == "inspect":
        inspect(argv[1:])
    elif argv[0] == "fill-mask":
        fill_mask(argv[1:])
    elif argv[0] == "convert":
        convert(argv[1:])
    elif argv[0] == "replay":
        audit_commands.replay(argv[1:])
    elif argv[0] == "doctor":
        return audit_commands.doctor(argv[1:])
    else:
        raise ConfigError(f"there is no command {argv[0]!r}; {COMMANDS}")
    return None


def prepare(argv: Sequence[str]) -> None:
    """Makes the token stores of a config, in the cache or in a folder of one's own."""
    parser = Parser(prog="python -m mlm prepare", description=prepare.__doc__)
    parser.add_argument("--out", type=Path, help="folder for data.store; by default the cache")
    parser.add_argument("--stats", action="store_true", help="print what `store inspect` prints")
    args, config = parse_with_config(parser, argv)
    if args.out and ":/" in str(args.out):
        raise ConfigError(f"--out is {args.out}; prepare into a folder, and copy that to the URL")

    from mlm.data import token_counts
    from mlm.input import prepare_text
    from mlm.preparing import inspect_text, unknown_warning

    text = prepare_text(config, folder=args.out)
    if args.stats:
        print(*inspect_text(text), sep="\n")
        return
    for name, store in text.stores.items():
        print(f"{name}: {store.documents:,} documents, {store.token_count:,} tokens")
    print(f"vocabulary {text.tokenizer.vocabulary_size:,}, tokenizer {text.tokenizer.hash[:12]}")
    print(f"prepared text: {text.folder}")
    if warning := unknown_warning(token_counts(text.train), text.tokenizer):
        print(warning)


def store(argv: Sequence[str]) -> None:
    """Prints what a prepared folder holds, or reads all of it and compares checksums."""
    parser = Parser(prog="python -m mlm store", description=store.__doc__)
    parser.add_argument("action", choices=("inspect", "verify"))
    parser.add_argument("folder", help="what prepare wrote, or a store in it; may be a URL")
    args = parser.parse_args(argv)

    from mlm.data import verify_store
    from mlm.preparing import (
        default_cache_dir,
        inspect_text,
        local_folder,
        open_prepared,
        prepared_folder,
    )

    folder = local_folder(args.folder, cache_dir=default_cache_dir())
    text = open_prepared(prepared_folder(folder))
    if args.action == "inspect":
        print(*inspect_text(text), sep="\n")
        return
    for part in text.stores.values():
        verify_store(part)
        print(f"{part.path}: as it was written, {part.tokens.nbytes:,} bytes of tokens")


def tokenizer(argv: Sequence[str]) -> None:
    """Trains a tokenizer without preparing text, shows one, or compares several."""
    actions = {"train": train_tokenizer, "show": show_tokenizer, "compare": compare_tokenizers}
    parser = Parser(
        prog="python -m mlm tokenizer",
        description=tokenizer.__doc__,
        epilog="python -m mlm tokenizer ACTION --help tells the arguments of one",
    )
    parser.add_argument("action", choices=tuple(actions))
    args = parser.parse_args(argv[:1])
    actions[args.action](argv[1:])


def train_tokenizer(argv: Sequence[str]) -> None:
    """Trains the WordPiece vocabulary that prepare would train on a config's text."""
    parser = Parser(prog="python -m mlm tokenizer train", description=train_tokenizer.__doc__)
    parser.add_argument("--out", type=Path, required=True, help="new file for data.tokenizer")
    args, config = parse_with_config(parser, argv)
    if config.data.store:
        raise ConfigError(
            f"data.store {config.data.store} is prepared already, by the tokenizer in it; leave "
            "data.store empty"
        )
    if config.model.init_from:
        raise ConfigError(
            f"model.init_from {config.model.init_from} brings its tokenizer, so none would be "
            "trained; leave it empty"
        )

    from mlm.input import cache_dir, text_settings
    from mlm.preparing import train_vocabulary

    trained = train_vocabulary(text_settings(config), args.out, cache_dir=cache_dir(config))
    print(f"vocabulary {trained.vocabulary_size:,}, tokenizer {trained.hash[:12]}")
    print(f"to train or prepare with it: --config.data.tokenizer={args.out}")


def show_tokenizer(argv: Sequence[str]) -> None:
    """Prints what a tokenizer is, and the pieces and ids of texts."""
    parser = Parser(prog="python -m mlm tokenizer show", description=show_tokenizer.__doc__)
    parser.add_argument("path", type=Path, help=TOKENIZER)
    parser.add_argument("texts", nargs="*", help="what to cut; [MASK] is the mask token in it")
    args = parser.parse_args(argv)

    from mlm.text import load_tokenizer
    from mlm.text.show import describe, show_texts

    loaded = load_tokenizer(args.path)
    print(*describe(loaded), *show_texts(loaded, args.texts), sep="\n")


def compare_tokenizers(argv: Sequence[str]) -> None:
    """Prints what several tokenizers make of texts, or what their vocabularies share."""
    parser = Parser(prog="python -m mlm tokenizer compare", description=compare_tokenizers.__doc__)
    parser.add_argument("paths", nargs="+", help=f"{TOKENIZER}; one is enough with --text")
    parser.add_argument("--text", help="files, folders and globs, as in data.corpus")
    parser.add_argument("--field", default="text", help="where .jsonl has its text: data.field")
    args = parser.parse_args(argv)
    if args.text is None and len(args.paths) < 2:
        raise ConfigError("one tokenizer alone has nothing to compare; name two, or give --text")

    from mlm.console import make_console
    from mlm.text import Reading, compare, load_tokenizer
    from mlm.text.show import kind

    loaded = [load_tokenizer(path) for path in args.paths]
    for i, (path, one) in enumerate(zip(args.paths, loaded, strict=True)):
        print(f"{compare.letter(i)}: {path}, vocabulary {one.vocabulary_size:,}, {kind(one)}")
    if args.text is None:
        print(*compare.shared_pieces(loaded), sep="\n")
        return
    measures = compare.compare_texts(args.text, loaded, Reading(field=args.field))
    make_console().print(compare.comparison_table(measures))
    print(*compare.NOTES, *compare.warnings(measures), sep="\n")


def inspect(argv: Sequence[str]) -> None:
    """Shows what a config masks at step 0, beside other strategies on the same text."""
    parser = Parser(prog="python -m mlm inspect", description=inspect.__doc__)
    parser.add_argument("--text", default="", help="mask the lines of this file, not the corpus")
    parser.add_argument(
        "--masks",
        default="",
        help="what to compare with, such as word,span@0.15; by default every unit there is",
    )
    parser.add_argument("--html", type=Path, help="write a page with histograms to this file")
    args, config = parse_with_config(parser, argv)

    from mlm.inspection import show

    masks = [name.strip() for name in args.masks.split(",") if name.strip()]
    show(config, file=args.text, masks=masks, html=args.html, name=args.config)


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


if __name__ == "__main__":
    sys.exit(run_command(main))
