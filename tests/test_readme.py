"""The README's Python, run as it stands there."""

import re
from pathlib import Path


def test_the_notebook_lines_run(tiny, tmp_path, monkeypatch):
    text = (Path(__file__).parent.parent / "README.md").read_text()
    blocks = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    assert len(blocks) >= 2
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
    for block in blocks:
        block = block.replace("configs/quickstart.py", str(small))
        block = block.replace("runs/notebook", str(tmp_path / "notebook"))
        exec(compile(block, "README.md", "exec"), names)
    assert names["metrics"].finite and names["outcome"].step == 12
    assert (tmp_path / "notebook/metrics.jsonl").exists()
