"""The README's Python, run as it stands there; what it prints is what stands below it."""

import re
import sys
from pathlib import Path


def test_the_readmes_python_runs_and_prints_what_it_says(tiny, tmp_path, capsys, monkeypatch):
    text = (Path(__file__).parent.parent / "README.md").read_text()
    pattern = r"```python\n(.*?)```(?:\n\n```text\n(.*?)```)?"
    blocks = re.findall(pattern, text, flags=re.DOTALL)
    assert len(blocks) >= 4 and sum(bool(printed) for _, printed in blocks) >= 2
    # The same lines on a tiny config: only the file that they load and where they write change.
    small = tmp_path / "small.py"
    small.write_text(
        "from configs import default\nfrom mlm.config import apply_overrides\n"
        f"TINY = {tiny!r}\n"
        "def get_config():\n"
        "    config = default.get_config()\n"
        "    apply_overrides(config, TINY)\n"
        "    return config\n"
    )
    names: dict = {}
    monkeypatch.chdir(tmp_path)
    for block, printed in blocks:
        if file := re.match(r"# (\w+\.py)\n", block):
            Path(file[1]).write_text(block)
            monkeypatch.delitem(sys.modules, Path(file[1]).stem, raising=False)
            continue
        block = block.replace("configs/quickstart.py", str(small))
        block = block.replace("runs/notebook", str(tmp_path / "notebook"))
        capsys.readouterr()
        exec(compile(block, "README.md", "exec"), names)
        assert not printed or capsys.readouterr().out == printed
    assert names["metrics"].finite and names["outcome"].step == 12
    assert (tmp_path / "notebook/metrics.jsonl").exists()
