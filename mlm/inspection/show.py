"""What `python -m mlm inspect` does: masks in a terminal, and a page of them."""

from collections.abc import Sequence
from pathlib import Path

from ml_collections import ConfigDict

from mlm.console import make_console
from mlm.errors import OutputError
from mlm.inspection.page import make_page
from mlm.inspection.sample import inspect_masks
from mlm.inspection.sentences import lines, pick
from mlm.inspection.terminal import print_inspection
from mlm.whole_file import write_whole

SENTENCES = 4  # in a terminal
ON_THE_PAGE = 8
MOST_LINES = 100  # of a file


def show(
    config: ConfigDict,
    *,
    file: str = "",
    masks: Sequence[str] = (),
    html: Path | None = None,
    name: str = "",
) -> None:
    """Prints the masks of a config at step 0, and writes them to the page `html`.

    Args:
      file: its lines are masked, in place of the corpus.
      masks: what to compare with, see `choose_strategies`.
      name: of the config file, for the page.

    Raises:
      ConfigError, DataError: see `inspect_masks`.
      OutputError: the page cannot be written; found before anything else is done.
    """
    if html:
        _check_place(html)
    inspection = inspect_masks(config, file=file, masks=masks)
    on_screen = lines(inspection)[:MOST_LINES] if file else pick(inspection, SENTENCES)
    print_inspection(make_console(), inspection, on_screen)
    if html:
        on_page = on_screen if file else pick(inspection, ON_THE_PAGE)
        write_page(html, make_page(inspection, on_page, name=name))
        print(f"page: {html}")


def _check_place(html: Path) -> None:
    if html.is_dir():
        raise OutputError(
            f"--html {html} is a folder; name a file in it, such as {html}/masks.html"
        )
    if not html.parent.is_dir():
        raise OutputError(f"--html {html}: there is no folder {html.parent}; make it first")


def write_page(html: Path, page: str) -> None:
    """Puts the page in its place; raises OutputError, and what was there stays, if it cannot."""
    try:
        write_whole(html, page)
    except OSError as error:
        raise OutputError(
            f"--html {html} cannot be written ({error.strerror}); name another file, or free some "
            "space"
        ) from error
