"""What is compared of the code at the start of several processes."""

import sys

import jax

from mlm.versions import versions


def test_code_of_the_users_counts_by_its_file_and_is_not_imported(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "package").mkdir()
    for file in ("my_loss.py", "package/__init__.py", "package/masks.py"):
        (tmp_path / file).write_text("raise RuntimeError('imported')\n")
    fields = {
        "train.loss": "my_loss:loss",
        "masking.unit": "package.masks:words",
        "model.custom": "package:model",
        "data.corpus": "builtin:python_docs",
        "data.cache_dir": "C:here",
        "seed": 3,
    }
    found = versions(fields)
    own = {name for name in found if name.startswith("code of ")} - {"code of mlm"}
    assert own == {"code of my_loss", "code of package.masks", "code of package"}
    assert found["jax"] == jax.__version__ and found["python"] in sys.version
    (tmp_path / "my_loss.py").write_text("raise RuntimeError('another')\n")
    again = versions(fields)
    assert [name for name in found if found[name] != again[name]] == ["code of my_loss"]
