"""docs/clusters.md: its shell and YAML can be read, and its links and files are there."""

import re
import subprocess
from pathlib import Path

import pytest
import yaml

from mlm.errors import ConfigError, MlmError

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "docs/clusters.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", TEXT, re.S)


@pytest.mark.parametrize("script", blocks("bash"), ids=lambda script: script.split()[0])
def test_shell_can_be_read(script):
    ran = subprocess.run(["bash", "-n"], input=script, capture_output=True, text=True)
    assert (ran.returncode, ran.stderr) == (0, "")


def test_the_kubernetes_job_ends_on_every_error_that_a_restart_does_not_help():
    """What cannot be written to a bucket may be, the next time."""
    [text] = blocks("yaml")
    service, job = yaml.safe_load_all(text)
    assert (service["kind"], job["kind"]) == ("Service", "Job")
    assert job["spec"]["completionMode"] == "Indexed"
    assert job["spec"]["template"]["spec"]["restartPolicy"] == "Never"  # or no podFailurePolicy
    [codes] = [
        r["onExitCodes"]
        for r in job["spec"]["podFailurePolicy"]["rules"]
        if len(r) == 2 and "onExitCodes" in r
    ]
    [container] = job["spec"]["template"]["spec"]["containers"]
    assert codes["containerName"] == container["name"]
    ends = {MlmError.exit_code, *(kind.exit_code for kind in MlmError.__subclasses__())} - {7, 75}
    assert set(codes["values"]) == ends and ConfigError.exit_code in ends


def test_files_and_links_are_there():
    for name in set(re.findall(r"configs/\w+\.py", TEXT)):
        assert (ROOT / name).is_file(), name
    for page, anchor in re.findall(r"\]\((\w+\.md)?(#[\w-]+)?\)", TEXT):
        text = (ROOT / "docs" / page).read_text() if page else TEXT
        headings = {h.lower().replace(" ", "-") for h in re.findall(r"^#+ (.*)$", text, re.M)}
        assert not anchor or anchor[1:] in headings, (page, anchor)
