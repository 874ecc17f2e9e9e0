"""Ten minutes of random faults; then every loss and the last state must be those of a quiet run.

Command:  python tests/faults/soak.py --minutes=10 [--seed=N]

A run is started again and again. Each attempt ends by a kill, a signal or a full disk at a random
moment, be it while Python imports, XLA compiles or a checkpoint is written, and before some of them
the newest checkpoint is damaged. The quiet run then takes as many steps without any of that. The
seed draws the faults; where exactly they strike is up to the machine.
"""

import argparse
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
sys.path.insert(0, str(ROOT))

from mlm.training.metrics import read_metrics  # noqa: E402
from mlm.training.workdir import read_json, saved_steps  # noqa: E402

FIELDS = {
    "data.vocabulary_size": 512,
    "data.length": 16,
    "model.layers": 1,
    "model.width": 16,
    "model.heads": 2,
    "model.hidden": 32,
    "model.max_length": 16,
    "optimizer.schedule": "constant",
    "optimizer.warmup_percent": 0.01,
    "train.total_steps": 1_000_000,
    "train.batch_size": 16,
    "log.every_steps": 1,
    "log.tensorboard": False,
    "checkpoint.every_steps": 50,
    "checkpoint.keep_last": 4,
    "eval.every_steps": 500,
    "eval.length": 16,
    "eval.max_examples": 32,
}
# Exit codes of an attempt that ends so; a signal before the loop ends Python as it ends any.
ENDS = {
    "SIGKILL": (-signal.SIGKILL,),
    "SIGTERM": (143, -signal.SIGTERM),
    "SIGINT": (130, -signal.SIGINT),
    "SIGTERM twice": (143, -signal.SIGTERM),
    "full disk": (7,),
}
PATIENCE = 180  # seconds until an attempt that was told to end is taken for one that hangs
DAMAGES = ("flipped bit", "truncated file", "removed file")


def start(workdir: Path, limit: int | None = None, **fields: object) -> subprocess.Popen:
    """A running train.py; no file of it may grow beyond `limit` bytes."""
    fields = FIELDS | {name.replace("__", "."): value for name, value in fields.items()}
    return subprocess.Popen(
        [
            *(sys.executable, "train.py", "--config=configs/default.py", f"--workdir={workdir}"),
            *(f"--config.{name}={value}" for name, value in fields.items()),
        ],
        cwd=ROOT,
        env=os.environ | caches(workdir.parent),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: _prepare(limit),
    )


def caches(folder: Path) -> dict[str, str]:
    """Where text and compiled steps are kept, so that most attempts come to train."""
    return {
        "XDG_CACHE_HOME": str(folder / "text"),
        "JAX_COMPILATION_CACHE_DIR": str(folder / "compiled"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }


def _prepare(limit: int | None) -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # a shell's background jobs ignore it
    if limit is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))


def end_by(name: str, workdir: Path, process: subprocess.Popen, draw: random.Random) -> None:
    """Waits a while, mostly until steps are taken, then sends what `name` says."""
    if draw.random() < 0.7:
        before = inode(workdir)
        while inode(workdir) == before and process.poll() is None:
            time.sleep(0.05)
    try:
        process.wait(timeout=draw.uniform(0.2, 6))
        return
    except subprocess.TimeoutExpired:
        pass
    signals = {"SIGTERM twice": ["SIGTERM", "SIGTERM"], "full disk": ["SIGKILL"]}
    for signum in signals.get(name, [name]):
        process.send_signal(signal.Signals[signum])
        time.sleep(draw.uniform(0, 0.05))


def inode(workdir: Path) -> int | None:
    """Of metrics.jsonl, which a run replaces when it begins to take steps."""
    file = workdir / "metrics.jsonl"
    return file.stat().st_ino if file.exists() else None


def attempt(workdir: Path, draw: random.Random, say: Callable) -> str:
    """One more start of the run and its end, which is told; raises if it ended otherwise."""
    name = draw.choice(list(ENDS))
    # A checkpoint's files have some 100 KB, metrics.jsonl grows for ever.
    limit = draw.choice([4_000, 30_000, 200_000]) if name == "full disk" else None
    process = start(workdir, limit)
    end_by(name, workdir, process, draw)
    error = process.communicate(timeout=PATIENCE)[1]
    code = process.returncode
    # A limit that nothing reached in that time: then it was a kill.
    expected = (*ENDS[name], -signal.SIGKILL) if name == "full disk" else ENDS[name]
    if code not in expected:
        raise SystemExit(f"after {name}: exit code {code}, not {expected}\n{error}")
    say(f"{name:<14} exit code {code:4}, checkpoints {saved_steps(workdir / 'checkpoints')}")
    return name


def damage(workdir: Path, draw: random.Random, say: Callable) -> str | None:
    """Damages a file of the newest checkpoint, if there is another to go back to."""
    steps = saved_steps(workdir / "checkpoints")
    if len(steps) < 2 or draw.random() > 0.4:
        return None
    folder = workdir / "checkpoints" / str(steps[-1])
    file = draw.choice(sorted(path for path in folder.rglob("*") if path.is_file()))
    name = draw.choice(DAMAGES)
    content = bytearray(file.read_bytes())
    if name == "removed file":
        file.unlink()
    elif name == "truncated file":
        file.write_bytes(content[: draw.randrange(len(content) + 1)])
    elif content:
        content[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
        file.write_bytes(content)
    say(f"{name:<14} {file.relative_to(workdir)}")
    return name


def stop_at_last(workdir: Path, process: subprocess.Popen) -> tuple[int, str]:
    """The step and digest at which a running process saves when it is told to stop."""
    process.send_signal(signal.SIGTERM)
    error = process.communicate(timeout=PATIENCE)[1]
    if process.returncode != 143:
        raise SystemExit(f"exit code {process.returncode}\n{error}")
    status = read_json(workdir / "status.json")
    return status["step"], status["digest"]


def disturbed(workdir: Path, minutes: float, draw: random.Random, say: Callable):
    """How often what struck, and the step and digest at the end."""
    struck, until = Counter(), time.monotonic() + 60 * minutes
    while time.monotonic() < until:
        struck[attempt(workdir, draw, say)] += 1
        if name := damage(workdir, draw, say):
            struck[name] += 1
    process = start(workdir)
    before = inode(workdir)
    wait_for(process, lambda: inode(workdir) != before)  # a signal before the loop saves nothing
    return struck, *stop_at_last(workdir, process)


def quiet(workdir: Path, step: int) -> str:
    """The digest at `step` of a run that nothing disturbs."""
    process = start(workdir, checkpoint__every_steps=step)
    wait_for(process, lambda: step in saved_steps(workdir / "checkpoints"))
    digest = (read_json(workdir / "status.json") or {}).get("digest", "")
    stop_at_last(workdir, process)
    return digest


def wait_for(process: subprocess.Popen, seen: Callable[[], bool]) -> None:
    while not seen():
        if process.poll() is not None:
            raise SystemExit(f"exit code {process.returncode}\n{process.communicate()[1]}")
        time.sleep(0.05)


def losses(workdir: Path, last: int) -> dict[int, str]:
    lines = [line for line in read_metrics(workdir / "metrics.jsonl") if "train/loss" in line]
    return {line["step"]: line["train/loss"].hex() for line in lines if line["step"] <= last}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--seed", type=int, default=random.randrange(10_000))
    args = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="soak-"))
    say = lambda text: print(text, flush=True)  # noqa: E731
    say(f"seed {args.seed}, in {folder}")

    struck, step, digest = disturbed(folder / "run", args.minutes, random.Random(args.seed), say)
    say(f"{step} steps, in spite of " + ", ".join(f"{n} {name}" for name, n in struck.items()))
    expected = quiet(folder / "quiet", step)
    found, wanted = losses(folder / "run", step), losses(folder / "quiet", step)
    differing = [n for n in wanted if found.get(n) != wanted[n]]
    if differing or len(found) != step or digest != expected:
        say(f"NOT equal: losses of steps {differing[:5]}, digest {digest}, quiet {expected}")
        return 1
    say(f"all {step} losses and the digest {digest} are those of a quiet run")
    shutil.rmtree(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
