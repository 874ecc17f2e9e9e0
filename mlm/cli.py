"""What every command shares: `--config.x.y=...` flags, one `error:` line, and exit codes."""

import argparse
import errno
import os
import sys
import threading
import traceback
from collections.abc import Callable, Sequence
from typing import NoReturn

from ml_collections import ConfigDict

from mlm.bucket import is_of_bucket, told
from mlm.config import apply_overrides, load_config
from mlm.errors import ConfigError, MlmError
from mlm.rules import validate

NOT_WRITABLE = {errno.ENOSPC, errno.EROFS, errno.EACCES, errno.EPERM, errno.EDQUOT, errno.EFBIG}


class HelpShown(SystemExit):
    """The one exit of our own that goes past `run_command`'s errors."""


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are config errors, and that never guesses abbreviations."""

    def __init__(self, **kwargs):
        super().__init__(allow_abbrev=False, **kwargs)
        self.add_argument("--verbose", action="store_true", help="show tracebacks of errors")

    def exit(self, status: int = 0, message: str | None = None):
        raise HelpShown(status)

    def error(self, message: str):
        raise ConfigError(f"{message}; {self.prog} --help lists the arguments")


def parse_with_config(parser: Parser, argv: Sequence[str]) -> tuple[argparse.Namespace, ConfigDict]:
    """Parsed flags and the checked config of `--config=FILE --config.x.y=VALUE ...`.

    Raises:
      ConfigError: for stray arguments and for every problem of the config.
    """
    parser.add_argument("--config", required=True, help="config file, such as configs/default.py")
    parser.epilog = "--config.SECTION.FIELD=VALUE changes a field of the config"
    args, rest = parser.parse_known_args(argv)
    overrides = config_overrides(rest)
    config = load_config(args.config)
    apply_overrides(config, overrides)
    validate(config)
    return args, config


def run_command(main: Callable[[Sequence[str]], int | None]) -> int:
    """The exit code of `main(arguments)`; a user's mistake becomes one `error:` line on stderr."""
    verbose = "--verbose" in sys.argv
    if not verbose:  # threads hand their errors to the main one, which tells them in a line
        threading.excepthook = lambda thread: None
    try:
        return main(sys.argv[1:]) or 0
    except MlmError as error:
        return _report(str(error), error.exit_code, verbose)
    except HelpShown:
        return 0
    except SystemExit as error:  # with code 0 it would look like a run that is complete
        return _report(f"sys.exit({error.code!r}) was called by code of the config", 1, verbose)
    except KeyboardInterrupt:
        return _report("interrupted; the same command goes on", 130, verbose)
    except BrokenPipeError:  # who read our output has seen enough, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:
        if is_of_bucket(error):
            return _report(f"a bucket cannot be used ({told(error)})", 7, verbose)
        if isinstance(error, OSError) and error.errno == errno.ENAMETOOLONG:
            name = f"{error.filename!s:.60}..."
            return _report(f"{name} is too long for the name of a file; correct it", 2, verbose)
        if isinstance(error, OSError) and error.errno in NOT_WRITABLE:
            return _report(f"{error.filename or 'output'}: {error.strerror}", 7, verbose)
        traceback.print_exc()  # our mistake, not the user's: all of it is shown
        return 1


def leave(exit_code: int) -> NoReturn:
    """Ends the process at once.

    Everything is on disk by now. After a save that failed, Orbax's threads would keep an ordinary
    exit waiting for five minutes.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(exit_code)


def _report(message: str, exit_code: int, verbose: bool) -> int:
    if verbose:
        traceback.print_exc()
    for line in message.splitlines():
        sys.stderr.write(f"error: {line}\n")  # at once: other processes may write there too
    return exit_code


def config_overrides(rest: Sequence[str]) -> dict[str, str]:
    """The fields of `--config.x.y=VALUE`; raises ConfigError for anything else."""
    overrides, problems = {}, []
    for argument in rest:
        name, equals, value = argument.partition("=")
        if name.startswith("--config.") and not equals:
            problems.append(f"{name} has no value; write {name}=VALUE")
        elif not equals or not name.startswith("--config."):
            problems.append(
                f"stray argument {argument!r}; fields are set by --config.SECTION.FIELD=VALUE"
            )
        overrides[name.removeprefix("--config.")] = value
    if problems:
        raise ConfigError(*problems)
    return overrides
