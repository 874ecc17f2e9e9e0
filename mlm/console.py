"""Where people read: one way to make a rich console for every command."""

from rich.console import Console


def make_console(*, quiet: bool = False) -> Console:
    """A console as wide as the terminal, or wide enough for tables in a log.

    Text is printed as it is: brackets in paths and tokens are no markup. A quiet one prints none.
    """
    console = Console(highlight=False, markup=False, quiet=quiet)
    if console.is_terminal:
        return console
    return Console(highlight=False, markup=False, width=120, soft_wrap=True, quiet=quiet)
