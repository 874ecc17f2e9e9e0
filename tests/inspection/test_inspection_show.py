"""`python -m mlm inspect` and its page, on a tiny text."""

import contextlib
import io
import re
import sys
from html.parser import HTMLParser

import pytest
from rich.console import Console

from mlm.__main__ import main
from mlm.cli import run_command
from mlm.config import apply_overrides, load_config
from mlm.errors import OutputError
from mlm.inspection import inspect_masks
from mlm.inspection.sentences import lines
from mlm.inspection.show import write_page
from mlm.inspection.terminal import print_inspection

NAMES = ["config span@0.4", "word@0.4", "token@0.15"]
EMPTY_TAGS = {"meta"}


class Tags(HTMLParser):
    """Tags, attributes and text of a page; fails where a tag is not closed by its own."""

    def __init__(self):
        super().__init__()
        self.open, self.tags, self.text = [], [], []

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in EMPTY_TAGS:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


@pytest.fixture(scope="module")
def flags(tiny):
    fields = tiny | {"masking.unit": "span", "masking.rate": 0.4}
    return ["--config=configs/default.py", *(f"--config.{n}={v}" for n, v in fields.items())]


@pytest.fixture(scope="module")
def shown(flags, tmp_path_factory):
    """What is printed where no terminal is, and the page."""
    folder = tmp_path_factory.mktemp("shown")
    file, page = folder / "a & <b>.txt", folder / "masks.html"
    file.write_text("The cat sees the old dog.\nMy neighbour likes the teacher at school.\n")
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        masks = "--masks=word, token@0.15"
        main(["inspect", *flags, f"--text={file}", masks, f"--html={page}"])
    assert [entry.name for entry in folder.iterdir() if entry.suffix != ".txt"] == ["masks.html"]
    return printed.getvalue(), page.read_text(encoding="utf-8")


def test_prints_each_sentence_under_each_strategy(shown):
    printed, _ = shown
    assert "\x1b" not in printed
    blocks = printed.split("\n\n")
    sentences = [block.splitlines() for block in blocks if block.startswith("text ")]
    assert len(sentences) >= 2
    for original, *masked in sentences:
        assert [line.startswith(name) for line, name in zip(masked, NAMES, strict=True)] == [
            True
        ] * len(NAMES)
        # Without its marks each line is the sentence again, but for what is hidden.
        width = len(NAMES[0]) + 2
        words = original[width:].split()
        for line in masked:
            bare = re.sub(r"→\S+?(?=[ ⟧]|##|$)|[⟦⟧=]", "", line[width:]).split()
            pairs = list(zip(words, bare, strict=True))
            assert all(a == b.replace("##", "") or "[MASK]" in b for a, b in pairs)
    assert "[MASK]" in printed and "specials" in printed and "page: " in printed


def test_prints_rates_and_settings(shown):
    printed, _ = shown
    rows = {name: [line for line in printed.splitlines() if name in line] for name in NAMES}
    for name in NAMES:
        numbers = rows[name][-1].replace(name, "").split()
        assert numbers[0] == name.partition("@")[2] and numbers[8] == "0" and len(numbers) == 10
    assert rows[NAMES[0]][0].startswith(f"{NAMES[0]}: spans of up to 10 words")
    assert "80/10/10 % [MASK]/random/kept per unit" in rows[NAMES[0]][0]


def test_the_page_is_whole_and_needs_nothing_else(shown):
    _, page = shown
    tags = Tags()
    tags.feed(page)
    tags.close()
    assert not tags.open
    names = [tag for tag, _ in tags.tags]
    assert not set(names) & {"script", "link", "img", "iframe", "object"}
    assert not re.search(r"https?://|@import|url\(", page)
    assert not any("src" in found or "href" in found for _, found in tags.tags)
    assert "prefers-color-scheme: dark" in page and ("title", {}) in tags.tags
    viewport = [found for tag, found in tags.tags if found.get("name") == "viewport"]
    assert viewport == [{"name": "viewport", "content": "width=device-width, initial-scale=1"}]


def test_the_page_holds_each_strategy_everywhere(shown):
    _, page = shown
    printed_hashes = re.findall(r"\b[0-9a-f]{64}\b", page)
    assert len(set(printed_hashes)) == len(NAMES)
    for name in NAMES:
        assert page.count(f">{name}</b><span>") == page.count("<article>") >= 2
        assert page.count(f'scope="row">{name}<') + page.count(f'class="own">{name}</th>') == 1
        assert page.count(f"<figcaption><b>{name}</b>") == 5  # histograms
    assert page.count("<svg") == 5 * len(NAMES)
    assert "--config.masking.unit=span" in page and "Python 3" in page and "jax " in page
    assert '<span class="mask" title="' in page and "a &amp; &lt;b&gt;.txt" in page


def test_a_terminal_has_colours_and_wraps(tiny, monkeypatch):
    config = load_config("configs/default.py")
    apply_overrides(config, tiny)
    inspection = inspect_masks(config, masks=["token"], say=str)

    def printed():
        out = io.StringIO()
        console = Console(file=out, force_terminal=True, width=60, color_system="standard")
        print_inspection(console, inspection, lines(inspection)[:2])
        return out.getvalue()

    monkeypatch.delenv("NO_COLOR", raising=False)
    coloured = printed()
    assert "\x1b[1;36m[MASK]" in coloured
    monkeypatch.setenv("NO_COLOR", "1")
    plain = printed()
    assert not re.search(r"\x1b\[[\d;]*3\dm", plain) and "[MASK]" in plain
    bare = [re.sub(r"\x1b\[[\d;]*m", "", line) for line in plain.splitlines()]
    assert max(map(len, bare)) <= 60


@pytest.mark.parametrize(
    "exit_code, words, arguments",
    [
        (2, "--masks has 'wrod' of unknown unit 'wrod'; did you mean 'word'?", ["--masks=wrod"]),
        (3, "missing.txt", ["--text=missing.txt"]),
        (7, "there is no folder missing; make it first", ["--html=missing/page.html"]),
        (7, "is a folder; name a file in it", ["--html=configs"]),
        (2, "stray argument 'word'", ["word"]),
        (2, "masking.units is empty", ["--masks=external"]),
    ],
)
def test_refuses_in_one_line(exit_code, words, arguments, flags, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["mlm", "inspect", *flags, *arguments])
    assert run_command(main) == exit_code
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ") and words in line, line


def test_a_page_that_cannot_be_written_leaves_the_old_one(tmp_path, full_disk):
    page = tmp_path / "masks.html"
    page.write_text("old")
    with full_disk(1000), pytest.raises(OutputError, match="cannot be written"):
        write_page(page, "x" * 5000)
    assert page.read_text() == "old" and list(tmp_path.iterdir()) == [page]
