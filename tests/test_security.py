"""What docs/security.md says of the whole of our code: nothing here can unpickle, extract, run."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SOURCES = [ROOT / "train.py", ROOT / "eval.py", *sorted((ROOT / "mlm").rglob("*.py"))]
MODULES = {"pickle", "dill", "joblib", "shelve", "marshal", "tarfile", "zipfile", "yaml", "torch"}
CALLS = {"eval", "exec", "compile", "__import__", "extractall", "unpack_archive", "system", "popen"}
# What a user names on the command line or in a config is executed, and nothing else.
EXECUTE = {"mlm/config.py": "exec_module", "mlm/own.py": "import_module"}
OWN_NAMES = {"mlm/lazy.py", "mlm/text/tables.py"}  # import_module of names that stand in our code


def name_of(call: ast.Call) -> str:
    function = call.func
    return getattr(function, "attr", getattr(function, "id", ""))


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_code_is_made_of_data(path):
    tree, place = ast.parse(path.read_text()), str(path.relative_to(ROOT))
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            assert not {alias.name.split(".")[0] for alias in node.names} & MODULES
        if isinstance(node, ast.ImportFrom) and not node.level:
            assert node.module.split(".")[0] not in MODULES
        if not isinstance(node, ast.Call):
            continue
        name = name_of(node)
        if name == "compile":  # of regular expressions, and of jax, both as methods
            assert isinstance(node.func, ast.Attribute)
        else:
            assert name not in CALLS
        if name in ("exec_module", "import_module") and place not in OWN_NAMES:
            assert EXECUTE.get(place) == name
        for keyword in node.keywords:
            assert keyword.arg != "allow_pickle" or keyword.value.value is False
            assert keyword.arg not in ("trust_remote_code", "shell") or not keyword.value.value


def test_arrays_are_loaded_in_two_places():
    """`np.load` refuses pickles by itself; who calls it must look at what comes."""
    calls = [str(p.relative_to(ROOT)) for p in SOURCES if re.search(r"\bnp\.load\(", p.read_text())]
    assert calls == ["mlm/array_file.py", "mlm/data/plans.py"]


def test_the_page_names_tests_that_are_there():
    page = (ROOT / "docs/security.md").read_text()
    for name in re.findall(r"`(tests/[\w/.]+)`", page):
        assert (ROOT / name).exists(), name
