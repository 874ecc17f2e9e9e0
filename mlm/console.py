"""Where people read: one way to make a rich console for every command."""

from rich import console


class Console(console.Console):
    """To whom a reader who has seen enough, as `head` has, is what it is to `print`."""

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError  # rich would end the process as if a function had asked for it


def make_console(*, quiet: bool = False) -> Console:
    """A console as wide as the terminal, or wide enough for tables in a log.

    Text is printed as it is: brackets in paths and tokens are no markup. A quiet one prints none.
    """
    console = Console(highlight=False, markup=False, quiet=quiet)
    if console.is_terminal:
        return console
    return Console(highlight=False, markup=False, width=120, soft_wrap=True, quiet=quiet)
