"""What a run can fail with, and the exit code that tells a scheduler whether to retry.

0 done, 2 config, 3 data, 4 checkpoint, 5 non-finite training, 6 workdir locked, 7 output not
writable or full, 75 retry (a step hangs, a process is lost), 130 / 143 stopped by Ctrl-C / SIGTERM
and saved.
"""


class MlmError(Exception):
    """A mistake or a condition that one line explains: the value, the rule and the way out."""

    exit_code = 1


class ConfigError(MlmError, ValueError):
    """The configuration or the command line cannot work; `problems` holds one line each."""

    exit_code = 2

    def __init__(self, *problems: str):
        super().__init__("\n".join(problems))
        self.problems = problems


class DataError(MlmError, ValueError):
    """The text, the tokenizer or the token store cannot be used."""

    exit_code = 3


class CheckpointError(MlmError, ValueError):
    """There is no checkpoint to read, or it does not belong to this run."""

    exit_code = 4


class NonFiniteError(MlmError, FloatingPointError):
    """The training loss is no longer a number."""

    exit_code = 5


class WorkdirLockedError(MlmError, RuntimeError):
    """Another process is training in this workdir."""

    exit_code = 6


class OutputError(MlmError, OSError):
    """Something the run must write cannot be written."""

    exit_code = 7


class PeerError(MlmError, ConnectionError):
    """Another process of the run is missing or gone; a restart may help."""

    exit_code = 75

    def __init__(self, message: str, *, exit_code: int = 75):
        super().__init__(message)
        self.exit_code = exit_code  # that of the process that failed first


class HungError(MlmError, TimeoutError):
    """A step takes so long that it will not end; a restart may help."""

    exit_code = 75
