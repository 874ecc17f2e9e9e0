"""The pages in docs/: what is ours in them runs, prints what it says, and names real fields."""

import importlib
import re
import shlex
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

import train as train_script
from mlm import DistilBertBackbone, DistilBertMaskedLM, DistilBertMaskedLMPreprocessor
from mlm.__main__ import main as mlm_command
from mlm.config import apply_overrides, flat, load_config
from mlm.data import read_rows
from mlm.input import prepare_text, training_rows
from mlm.masks import adaptive, copies, make_evaluation_masks, make_mask
from mlm.models import DistilBertConfig
from mlm.rules import validate
from mlm.text import train_tokenizer
from mlm.training.adaptive import init_table

ROOT = Path(__file__).parent.parent
PAGES = sorted((ROOT / "docs").rglob("*.md"))
PUBLIC = "distil_bert_base_en_uncased"  # a tiny model stands in for it: there is no network
# Words of the pages, which are whole tokens in the public vocabulary.
SENTENCES = ["The quick brown fox jumped.", "I forgot my homework.", "The capital of France is."]
THEIRS = ("# KerasHub", "python run_mlm")  # how blocks of other tools begin
BLOCK = r"^```(python|sh)\n(.*?)^```$(?:\n\n```text\n(.*?)^```$)?"
FIELD = r"--config\.([\w.]+)="
# In tables fields are named without the flag: `data.rows=blocks`.
TABLE_FIELD = (
    r"`((?:data|masking|model|optimizer|train|mesh|log|checkpoint|eval)\.[\w.]+)(?:=[^`]*)?`"
)
FILES = (".py", ".json", ".jsonl", ".safetensors", ".h5")


@pytest.fixture(scope="module", autouse=True)
def one_device(quick_compiles):
    """Which compiles sooner, as slow code does; nothing here depends on either."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jax, "device_count", lambda: 1)
        yield


@pytest.fixture(scope="module")
def public(corpus_file, tmp_path_factory) -> Path:
    """A folder with a model of a thousandth of the size, and its tokenizer."""
    texts = corpus_file.read_text().splitlines() + 1000 * SENTENCES
    tokenizer = train_tokenizer(texts, vocabulary_size=160, lowercase=True)
    sizes = {"layers": 1, "width": 16, "heads": 2, "hidden": 32, "max_length": 64}
    backbone = DistilBertBackbone(DistilBertConfig(tokenizer.vocabulary_size, **sizes))
    folder = tmp_path_factory.mktemp("models") / "public"
    preprocessor = DistilBertMaskedLMPreprocessor(tokenizer, sequence_length=64)
    DistilBertMaskedLM(backbone, preprocessor).save_to_preset(folder)
    return folder


@pytest.fixture
def small(tiny, tmp_path) -> Path:
    """A config that stands in for those that Python blocks load."""
    file = tmp_path / "small.py"
    file.write_text(
        "from configs import default\nfrom mlm.config import apply_overrides\n"
        f"TINY = {tiny!r}\n"
        "def get_config():\n"
        "    config = default.get_config()\n"
        "    apply_overrides(config, TINY)\n"
        "    return config\n"
    )
    return file


def mask_by(line: str, tiny: dict[str, object]) -> None:
    """Masks rows as a line of flags says, as shapes; the evaluation masks are made as well."""
    given = dict(f.removeprefix("--config.").split("=", 1) for f in shlex.split(line))
    config = load_config(str(ROOT / "configs/default.py"))
    apply_overrides(config, {**tiny, **given})
    validate(config)
    text = prepare_text(config, say=str)
    mask = make_mask(config, text, root=jax.random.key(0), total_steps=12)
    rows = np.arange(4, dtype=np.int32)
    batch = read_rows(training_rows(config, text, say=str), rows)
    batch = {**batch, "example_ids": rows, "visits": rows}
    adapt = adaptive(config, text.tokenizer.vocabulary_size)
    table = init_table(adapt) if adapt else ()
    masked, _ = jax.eval_shape(mask, batch, np.int32(0), table)
    assert masked["mask_positions"].shape[0] == 4 * copies(config)
    assert make_evaluation_masks(config, text.tokenizer)


def flags(tiny: dict[str, object], given: list[str]) -> list[str]:
    """What makes a run tiny, without the fields that a command sets itself."""
    taken = {argument.partition("=")[0] for argument in given}
    names = {name: f"--config.{name}" for name in tiny if not name.startswith("model.")}
    small = [f"{flag}={tiny[name]}" for name, flag in names.items() if flag not in taken]
    return [*small, "--config.train.total_steps=4", "--config.optimizer.warmup_steps=0"]


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT).with_suffix(""))


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_the_blocks_of_a_page_run_and_print_what_it_says(
    page, public, tiny, small, corpus_file, tmp_path, capsys, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    Path("my.txt").write_text(corpus_file.read_text())

    def run_line(line: str) -> None:
        command = shlex.split(line.replace(PUBLIC, str(public)))
        if line.startswith("--config."):
            mask_by(line, tiny)
        elif command[:3] == ["python", "-m", "mlm"]:
            mlm_command([a.replace("=configs/", f"={ROOT}/configs/") for a in command[3:]])
        elif command[:2] == ["python", "train.py"]:
            config, *rest = command[2:]
            config = config.replace("configs/", f"{ROOT}/configs/")
            small = [] if "--print_shardings" in rest else flags(tiny, rest)  # nothing is trained
            assert train_script.main([config, *small, *rest]) == 0
        else:
            raise AssertionError(f"no test knows how to run {line!r}")

    names: dict = {}
    for kind, block, printed in re.findall(BLOCK, page.read_text(), flags=re.S | re.M):
        if block.startswith(THEIRS):
            continue
        capsys.readouterr()
        if kind == "sh":
            for line in block.replace("\\\n", " ").splitlines():
                run_line(line)
        elif file := re.match(r"# (\w+\.py)\n", block):
            Path(file[1]).write_text(block)
            monkeypatch.delitem(sys.modules, Path(file[1]).stem, raising=False)
            importlib.invalidate_caches()
        else:
            block = block.replace(f'"{PUBLIC}"', repr(str(public)))
            block = block.replace("configs/quickstart.py", str(small))
            exec(compile(block, page.name, "exec"), names)
        assert not printed or capsys.readouterr().out == printed


@pytest.mark.parametrize("page", [ROOT / "README.md", *PAGES], ids=name_of)
def test_every_field_that_a_page_names_is_one_of_the_config(page):
    text = page.read_text()
    names = re.findall(FIELD, text) + re.findall(TABLE_FIELD, text)
    named = {_stem(name) for name in names if not name.endswith((*FILES, "..."))}
    known = {_stem(name) for name in flat(load_config(str(ROOT / "configs/default.py")))}
    assert named - {"x.y"} <= known, sorted(named - known)
    if page.stem in ("README", "coming_from_run_mlm"):
        assert len(named) > 10


@pytest.mark.parametrize("page", [ROOT / "README.md", *PAGES], ids=name_of)
def test_links_between_pages_lead_somewhere(page):
    for target in re.findall(r"\]\((?!https?:)([^)\s]+)\)", page.read_text()):
        file, _, anchor = target.partition("#")
        other = page.parent / file if file else page
        assert other.exists(), target
        headings = re.findall(r"^#+ (.*)$", other.read_text(), flags=re.M) if anchor else []
        # As GitHub makes them: lower case, no signs, hyphens for spaces.
        slugs = [re.sub(r"[^\w\- ]", "", h.lower()).replace(" ", "-") for h in headings]
        assert not anchor or anchor in slugs, target


def _stem(name: str) -> str:
    """A duration may have any of four suffixes."""
    return re.sub("_(steps|epochs|examples|percent)$", "", name)
