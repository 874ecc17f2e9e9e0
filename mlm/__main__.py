"""`python -m mlm COMMAND`: the commands beside train.py and eval.py."""

import sys
from collections.abc import Sequence
from pathlib import Path

from mlm.cli import Parser, parse_with_config, run_command
from mlm.errors import ConfigError

COMMANDS = (
    "commands: prepare (text files -> a token store), store (inspect or verify one); "
    "python -m mlm COMMAND --help"
)


def main(argv: Sequence[str]) -> None:
    if not argv or argv[0] in ("-h", "--help"):
        print(COMMANDS)
    elif argv[0] == "prepare":
        prepare(argv[1:])
    elif argv[0] == "store":
        store(argv[1:])
    else:
        raise ConfigError(f"there is no command {argv[0]!r}; {COMMANDS}")


def prepare(argv: Sequence[str]) -> None:
    """Makes the token stores of a config, in the cache or in a folder of one's own."""
    parser = Parser(prog="python -m mlm prepare", description=prepare.__doc__)
    parser.add_argument("--out", type=Path, help="folder for data.store; by default the cache")
    parser.add_argument("--stats", action="store_true", help="print what `store inspect` prints")
    args, config = parse_with_config(parser, argv)

    from mlm.experiment import prepare_text

    text = prepare_text(config, folder=args.out)
    if args.stats:
        from mlm.data.inspect import inspect_text

        print(*inspect_text(text), sep="\n")
        return
    for name, store in text.stores.items():
        print(f"{name}: {store.documents:,} documents, {store.token_count:,} tokens")
    print(f"vocabulary {text.tokenizer.vocabulary_size:,}, tokenizer {text.tokenizer.hash[:12]}")
    print(f"prepared text: {text.folder}")


def store(argv: Sequence[str]) -> None:
    """Prints what a prepared folder holds, or reads all of it and compares checksums."""
    parser = Parser(prog="python -m mlm store", description=store.__doc__)
    parser.add_argument("action", choices=("inspect", "verify"))
    parser.add_argument("folder", type=Path, help="what prepare wrote, or a store in it")
    args = parser.parse_args(argv)

    from mlm.data import verify_store
    from mlm.data.inspect import inspect_text, prepared_folder
    from mlm.data.prepare import open_prepared

    text = open_prepared(prepared_folder(args.folder))
    if args.action == "inspect":
        print(*inspect_text(text), sep="\n")
        return
    for part in text.stores.values():
        verify_store(part)
        print(f"{part.path}: as it was written, {part.tokens.nbytes:,} bytes of tokens")


if __name__ == "__main__":
    sys.exit(run_command(main))
