"""One run of two processes, as the schedulers of clusters start them."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import slurm as slurm_here
from emulated import ended, losses, wait_for

from mlm.commands.launch import free_port

DOCS = Path(__file__).parent.parent.parent / "docs" / "clusters.md"


@pytest.fixture(scope="module")
def slurm(tmp_path_factory):
    if missing := slurm_here.missing():
        pytest.skip(f"not installed: {', '.join(missing)}")
    with slurm_here.slurm(tmp_path_factory.mktemp("slurm")) as environment:
        yield environment


def check_one_run(process, workdir, local) -> None:
    """Two processes have taken the steps that one takes."""
    code, out, err = ended(process)
    assert code == 0, err
    assert len(re.findall(r"processes:\s+2", out)) == 1  # process 0 speaks for both
    alone = losses((local / "metrics.jsonl").read_text())
    assert losses((workdir / "metrics.jsonl").read_text()) == pytest.approx(alone, abs=1e-5)


def test_srun(start_in, slurm, fields, local, tmp_path):
    command = ("srun", "--ntasks=2", sys.executable, "train.py", *fields, f"--workdir={tmp_path}")
    check_one_run(start_in(slurm, *command), tmp_path, local)


@pytest.mark.parametrize(("code", "restarts"), [(75, 1), (143, 1), (2, 0), (0, 0)])
def test_the_sbatch_script_queues_a_run_again_that_a_restart_helps(
    slurm, environment, tmp_path, code, restarts
):
    script = next(
        b for b in re.findall(r"```bash\n(.*?)```", DOCS.read_text(), re.S) if "#SBATCH" in b
    )
    command = re.compile(r"srun --kill-on-bad-exit=0 .*?--workdir=\S+\n", re.S)
    script, found = command.subn(f"srun --kill-on-bad-exit=0 sh -c 'exit {code}'\n", script)
    assert found == 1
    given = "#SBATCH --ntasks-per-node=8\n#SBATCH --gpus-per-node=8\n#SBATCH --cpus-per-task=8\n"
    assert given in script and "--nodes=2\n" in script
    script = script.replace(given, "#SBATCH --ntasks=2\n").replace("--nodes=2\n", "--nodes=1\n")
    (tmp_path / "job.sh").write_text(script)

    def said(*command):
        kept = {"env": environment | slurm, "cwd": tmp_path, "text": True, "check": True}
        return subprocess.run(command, capture_output=True, **kept).stdout

    job = said("sbatch", "--parsable", "job.sh").strip()
    # A job that is queued again waits for two minutes: enough to see that it is.
    done = f"JobState={'PENDING' if restarts else 'COMPLETED' if code == 0 else 'FAILED'}"
    shown = wait_for(
        lambda: (
            (text := said("scontrol", "show", "job", job))
            and done in text
            and f"Restarts={restarts}" in text
            and text
        )
    )
    if not restarts:
        assert f"ExitCode={code}:0" in shown
    said("scancel", job)


def test_mpirun(start_in, fields, local, tmp_path):
    if shutil.which("mpirun") is None:
        pytest.skip("not installed: mpirun")
    flags = ("--allow-run-as-root", "--oversubscribe", "-n", "2")
    command = (sys.executable, "train.py", *fields, f"--workdir={tmp_path}")
    check_one_run(start_in({}, "mpirun", *flags, *command), tmp_path, local)


def test_the_command_of_the_kubernetes_job(start_in, store, fields):
    """In two pods that are processes here, with the bucket that it trains into."""
    import yaml

    [text] = re.findall(r"```yaml\n(.*?)```", DOCS.read_text(), re.S)
    service, job = yaml.safe_load_all(text)
    spec = job["spec"]["template"]["spec"]
    [container] = spec["containers"]
    name = f"{job['metadata']['name']}-0.{spec['subdomain']}"  # of the first pod
    assert spec["subdomain"] == service["metadata"]["name"]
    assert service["spec"]["selector"] == {"job-name": job["metadata"]["name"]}
    count = job["spec"]["completions"]
    assert count == job["spec"]["parallelism"]

    [line] = container["args"]
    for given, here in {
        "exec python ": f"exec {sys.executable} ",
        "--config=configs/distilbert_base.py ": " ".join(fields).replace("()", "'()'") + " ",
        "gs://BUCKET/runs/one": "gs://runs/pods",
        f"{name}:8476": f"127.0.0.1:{free_port()}",
        f"--num_processes={count}": "--num_processes=2",
    }.items():
        assert line.count(given) == 1
        line = line.replace(given, here)
    pods = [
        start_in(store.environment | {"JOB_COMPLETION_INDEX": str(i)}, *container["command"], line)
        for i in range(2)
    ]
    for pod in pods:
        code, _, err = ended(pod)
        assert code == 0, err
    assert json.loads(store.read("pods/status.json"))["state"] == "complete"
