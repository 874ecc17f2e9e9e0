"""Which process this is: by flags, by a cluster's environment, or none of several."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

import eval as eval_script
import train
from mlm import cluster
from mlm.cli import Parser
from mlm.commands.launch import launch
from mlm.errors import ConfigError
from mlm.lifeline import Place

ROOT = Path(__file__).parent.parent.parent
SLURM = {
    "SLURM_JOB_ID": "4097",
    "SLURM_STEP_NODELIST": "node[001-004],other7",
    "SLURM_NTASKS": "4",
    "SLURM_PROCID": "2",
    "SLURM_LOCALID": "1",
}
OPEN_MPI = {
    "OMPI_MCA_orte_hnp_uri": "1531576320.0;tcp://10.96.0.1,10.148.0.1:34911",
    "OMPI_COMM_WORLD_SIZE": "8",
    "OMPI_COMM_WORLD_RANK": "5",
    "OMPI_COMM_WORLD_LOCAL_RANK": "1",
}


@pytest.fixture
def find(monkeypatch):
    """`find(*flags, **environment)`: the place; of the environment no cluster is left but that."""
    for name in (*cluster.HINTS, *SLURM, *OPEN_MPI, "KUBERNETES_SERVICE_HOST"):
        monkeypatch.delenv(name, raising=False)

    def find(*flags, **environment):
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        parser = Parser(prog="train.py")
        cluster.add_flags(parser)
        return cluster.find_place(parser.parse_args(flags), seconds=1)

    return find


def test_a_plain_machine_is_none_of_several(find):
    assert find() is None
    assert find(KUBERNETES_SERVICE_HOST="10.0.0.1") is None  # a pod by itself
    assert cluster.is_first() and cluster.leave(3) == 3


def test_flags_come_before_a_cluster(find):
    flags = "--coordinator=10.0.0.1:8476", "--num_processes=4", "--process_id=3"
    assert find(*flags, **SLURM) == Place("10.0.0.1:8476", 4, 3)
    assert find("--num_processes=1") is None
    assert Place("[::1]:80", 2, 1).address == ("::1", 80)


def test_slurm_and_open_mpi_as_jax_detects_them(find, monkeypatch):
    assert find(**SLURM) == Place("node001:61441", 4, 2, (1,))
    assert find(JAX_COORDINATOR_PORT="999", JAX_LOCAL_DEVICE_IDS="0,1") == Place(
        "node001:999", 4, 2
    )
    assert find(SLURM_NTASKS="1") is None
    monkeypatch.delenv("SLURM_PROCID")
    monkeypatch.delenv("JAX_COORDINATOR_PORT")
    monkeypatch.delenv("JAX_LOCAL_DEVICE_IDS")
    place = find(**OPEN_MPI)
    assert place.coordinator.startswith("10.96.0.1:") and place[1:] == (8, 5, (1,))


def test_a_cluster_that_does_not_say_enough(find):
    with pytest.raises(ConfigError, match="looks like a cluster.*give --coordinator"):
        find(**SLURM | {"SLURM_NTASKS": "many"})


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--num_processes=2",), "--coordinator and --process_id are missing"),
        (("--coordinator=a:1", "--process_id=0"), "--num_processes is missing"),
        (("--coordinator=a", "--num_processes=2", "--process_id=0"), "--coordinator is 'a'"),
        (("--coordinator=a:0", "--num_processes=2", "--process_id=0"), "--coordinator is 'a:0'"),
        (("--coordinator=a:²", "--num_processes=2", "--process_id=0"), "--coordinator is 'a:²'"),
        (("--coordinator=a:1", "--num_processes=2", "--process_id=2"), "--process_id is 2"),
        (("--coordinator=a:1", "--num_processes=2", "--process_id=-1"), "--process_id is -1"),
        (("--coordinator=a:1", "--num_processes=0", "--process_id=0"), "--process_id is 0"),
        (("--coordinator=a:1", "--num_processes=x", "--process_id=0"), "invalid int value"),
    ],
)
def test_flags_that_cannot_be(find, flags, message):
    with pytest.raises(ConfigError, match=message):
        find(*flags)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--", "train.py"], "--processes"),
        (["--processes=0", "--", "train.py"], "--processes is 0"),
        (["--processes=2"], "nothing to launch"),
        (["--processes=2", "train.py"], "unrecognized arguments"),
        (["--processes=2", "--", "no.py", "--process_id=1"], "--process_id=1 is what launch gives"),
    ],
)
def test_launch_of_nothing(arguments, message):
    with pytest.raises(ConfigError, match=message):
        launch(arguments)


@pytest.mark.parametrize(
    ("script", "code"),
    [
        ("sys.exit(int(sys.argv[-1][-1]) * 3)", 3),  # process 1
        ("signal.raise_signal(signal.SIGKILL) if sys.argv[-1][-1] == '1' else time.sleep(60)", 75),
        ("sys.exit(0)", 0),
        ("sys.exit(143)", 143),
    ],
)
def test_the_exit_code_is_that_of_the_one_that_failed_first(tmp_path, script, code):
    file = tmp_path / "script.py"
    shown = "sys.stderr.write(sys.argv[-1] + chr(10))"  # at once: both write into one pipe
    file.write_text(f"import signal, sys, time\n{shown}\n{script}\n")
    command = [sys.executable, "-m", "mlm", "launch", "--processes=2", "--", str(file)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=30)
    assert done.returncode == code
    lines = done.stderr.splitlines()
    assert {"--process_id=0", "process 1: --process_id=1"} <= set(lines)
    assert any("process 1 was killed by SIGKILL" in line for line in lines) == (code == 75)


CALLED_BACK = """
import signal
from mlm import cluster

class Dropped:
    def __del__(self):  # as C calls Python: what is raised here is lost
        signal.raise_signal(signal.SIGINT)

with cluster.joined(None, None):
    Dropped()
    print("went on")
"""


def test_an_interrupt_is_never_lost():
    command = [sys.executable, "-c", CALLED_BACK]
    done = subprocess.run(
        command,
        cwd=ROOT,
        capture_output=True,
        text=True,
        # Python takes over nothing that is ignored, as it is in the background of a shell.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    told = "error: interrupted; the same command goes on\n"
    assert (done.returncode, done.stdout, done.stderr) == (130, "", told)


def test_an_interrupt_is_python_s_own_again_behind_a_run():
    before = signal.getsignal(signal.SIGINT)
    with cluster.joined(None, None):
        pass
    assert signal.getsignal(signal.SIGINT) is before


def test_nothing_of_several_processes_is_imported_by_one():
    script = "import sys, train, eval; print(sorted(n for n in sys.modules if n.startswith('jax')))"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr


@pytest.mark.parametrize("script", [train, eval_script])
def test_xla_is_told_to_be_deterministic_before_jax_joins_a_cluster(script, saved_run, monkeypatch):
    class Joined(Exception):
        pass

    def join(*args, **kwargs):
        raise Joined(told)

    told = []
    monkeypatch.setattr(script, "make_deterministic", told.append)
    monkeypatch.setattr(cluster, "find_place", join)
    config = ["--config=configs/default.py"] if script is train else []
    with pytest.raises(Joined):
        script.main([f"--workdir={saved_run}", *config])
    assert told == [False]
