"""Eight virtual CPU devices for the whole suite; they must be asked for before jax starts.

XLA has as many threads as cores or devices, whichever is more, and one waits in each collective.
Where devices came to two of them in another order, no thread was left to go on, and jax aborted
after 40 seconds (tensor meshes on two busy cores); with `PJRT_NPROC` there are threads to spare.
"""

import os

os.environ["XLA_FLAGS"] = (
    os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=8"
)
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("PJRT_NPROC", "32")

import contextlib  # noqa: E402
import random  # noqa: E402
import resource  # noqa: E402
from pathlib import Path  # noqa: E402

import pytest  # noqa: E402

ROOT = Path(__file__).parent.parent

SUBJECTS = "the cat|the old dog|a small bird|my neighbour|the teacher|one of the children".split(
    "|"
)
VERBS = "sees|follows|likes|hears|forgets".split("|")
PLACES = "in the garden|under the table|near the river|behind the house|at school".split("|")


def pytest_collection_modifyitems(items):
    """Results of fault tests carry their row, see tests/faults/scoreboard.py."""
    for item in items:
        if fault := item.get_closest_marker("fault"):
            names = ("row", "injection", "promise")
            item.user_properties += zip(names, fault.args, strict=True)


@pytest.fixture(scope="module")
def quick_compiles():
    """Slow code, which compiles sooner; for tests of what does not depend on it."""
    import jax

    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


@pytest.fixture(scope="session")
def corpus_file(tmp_path_factory) -> Path:
    """600 short documents from a small grammar, so that a tiny model can learn something."""
    draw = random.Random(0)

    def sentence():
        parts = (draw.choice(SUBJECTS), draw.choice(VERBS), draw.choice(SUBJECTS))
        return " ".join((*parts, draw.choice(PLACES))) + "."

    file = tmp_path_factory.mktemp("corpus") / "stories.txt"
    file.write_text("\n\n".join(" ".join(sentence() for _ in range(2)) for _ in range(600)))
    return file


@pytest.fixture(scope="session")
def tiny(corpus_file, tmp_path_factory) -> dict[str, object]:
    """Overrides that turn any config into one that trains a step in milliseconds."""
    return {
        "data.corpus": str(corpus_file),
        "data.cache_dir": str(tmp_path_factory.mktemp("cache")),
        "data.tokenizer": "",
        "data.vocabulary_size": 96,
        "data.length": 16,
        "model.layers": 1,
        "model.width": 16,
        "model.heads": 2,
        "model.hidden": 32,
        "model.max_length": 16,
        "train.total_steps": 12,
        "train.batch_size": 16,
        "log.every_steps": 1,
        "log.tensorboard": False,
        "checkpoint.every_steps": 4,
        "eval.every_steps": 6,
        "eval.length": 16,
        "eval.batch_size": 16,
        "eval.max_examples": 40,
        "eval.fill": (),
    }


@pytest.fixture(scope="session")
def saved_run(tiny, tmp_path_factory) -> Path:
    """The workdir of a run at step 12; it compiles no step, so nothing is learnt. Do not write."""
    import jax

    from mlm import experiment
    from mlm.config import apply_overrides, load_config
    from mlm.training.checkpoint import checkpoints_in
    from mlm.training.workdir import write_json

    config = load_config("configs/default.py")
    apply_overrides(config, tiny)
    workdir = tmp_path_factory.mktemp("saved_run")
    exp = experiment.build(config, say=str)
    params = jax.tree.map(lambda leaf: leaf + 0.1, exp.run.init_state().params)  # no zero biases
    with checkpoints_in(workdir / "checkpoints") as checkpoints:
        state = exp.run.init_state()._replace(params=params)
        exp.run.keep(workdir)
        checkpoints.save(12, state, interval={}, loss=None)
    write_json(workdir / "config.json", exp.run.config)
    return workdir


@pytest.fixture
def full_disk():
    """`with full_disk(size)`: no file of this process can grow beyond `size` bytes."""

    @contextlib.contextmanager
    def full_disk(size):
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    return full_disk
