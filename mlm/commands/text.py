"""`prepare`, `store` and `tokenizer`: text on its way into a token store."""

from collections.abc import Sequence
from pathlib import Path

from mlm.bucket import is_url
from mlm.cli import Parser, parse_with_config
from mlm.errors import ConfigError

TOKENIZER = "tokenizer.json, vocab.txt (read as uncased) or a folder with one of them"


def prepare(argv: Sequence[str]) -> None:
    """Makes the token stores of a config, in the cache or in a folder of one's own."""
    parser = Parser(prog="python -m mlm prepare", description=prepare.__doc__)
    parser.add_argument("--out", type=Path, help="folder for data.store; by default the cache")
    parser.add_argument("--stats", action="store_true", help="print what `store inspect` prints")
    args, config = parse_with_config(parser, argv)
    if args.out and is_url(args.out):
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
    if is_url(args.out):
        raise ConfigError(f"--out is {args.out}; write a file, and copy that to the URL")
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
