"""`replay` against what training consumed: recorded inside the step, across a restart, and
re-created in a process with another number of devices."""

import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from mlm import experiment, learning
from mlm.__main__ import main
from mlm.cli import run_command
from mlm.config import apply_overrides, load_config
from mlm.errors import CheckpointError
from mlm.replay import replay, replay_lines
from mlm.stored_config import stored_config
from mlm.training.loop import train

ROOT = Path(__file__).parent.parent
SCHEDULED = {
    "masking.unit": "span",
    "masking.schedule": "linear",
    "masking.final_rate": 0.6,
    "masking.final_mask_token_rate": 0.2,
    "data.rows": "packed",
    "log.every_steps": 50,
    "eval.every_steps": 60,
    "train.total_steps": 60,
    "train.batch_size": 32,  # a row has two visits
}
ADAPTIVE = {"masking.weights": "loss", "masking.prediction_rate": 0.3, "checkpoint.keep_last": 9}


@pytest.fixture(scope="module")
def record(tiny, tmp_path_factory):
    """`record(steps, **fields)`: a run's workdir and the masked batches its steps consumed."""

    def record(steps, fields):
        config = load_config("configs/default.py")
        apply_overrides(config, tiny | fields)
        workdir, seen = tmp_path_factory.mktemp("run"), {}

        def recording(*args, **kwargs):
            mask = make_mask(*args, **kwargs)

            def wrapped(batch, step, table):
                masked, counts = mask(batch, step, table)
                jax.debug.callback(keep, step, masked)
                return masked, counts

            return wrapped

        def keep(step, masked):
            seen[int(step) + 1] = jax.tree.map(np.array, masked)

        make_mask = learning.make_mask
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(learning, "make_mask", recording)
            exp = experiment.build(config, say=str)
            quiet = dataclasses.replace(exp.run, evaluate=lambda params: EVALUATION)
            for stop in steps:  # from the checkpoint, as a new process would
                train(dataclasses.replace(quiet, total_steps=stop), workdir)
            jax.effects_barrier()
        return workdir, seen

    return record


EVALUATION = {"token@0.15": {"loss": 1.0, "unigram_loss": 1.0, "top1": 0.0}}


@pytest.fixture(scope="module")
def scheduled(record):
    return record((7, 60), SCHEDULED)


@pytest.fixture(scope="module")
def adaptive(record):
    return record((12,), ADAPTIVE)


def replayed(workdir, step, **kwargs):
    return replay(stored_config(workdir, {}), workdir, step, say=str, **kwargs)


def assert_same(found, consumed):
    assert len(consumed) >= 8
    for name, values in consumed.items():
        assert found[name].dtype == values.dtype, name
        np.testing.assert_array_equal(found[name], values, err_msg=name)


def test_every_step_is_what_training_consumed_across_a_restart(scheduled):
    workdir, seen = scheduled
    assert sorted(seen) == list(range(1, 61)) and seen[60]["visits"].max() >= 1
    for step in (1, 7, 8, 53, 60):
        assert_same(replayed(workdir, step).arrays, seen[step])
    weights = [seen[step]["mask_weights"].sum() for step in (1, 60)]
    assert weights[1] > 2 * weights[0]  # the schedule matters, so the step does


def test_on_another_number_of_devices(scheduled, tmp_path):
    workdir, seen = scheduled
    assert jax.device_count() == 8
    environment = {n: v for n, v in os.environ.items() if n != "XLA_FLAGS"}
    command = [sys.executable, "-m", "mlm", "replay", f"--workdir={workdir}", "--step=53"]
    done = subprocess.run(
        [*command, "--row=3", f"--out={tmp_path / 'step.npz'}"],
        cwd=ROOT,
        env=environment | {"JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    found = np.load(tmp_path / "step.npz")
    assert_same(found, seen[53])
    assert int(found["step"]) == 53 and str(found["mask_hash"]) in done.stdout
    assert f"row 3: example {seen[53]['example_ids'][3]}, visit" in done.stdout
    assert [path.name for path in tmp_path.iterdir()] == ["step.npz"]


def test_the_arrays_say_where_the_tokens_are_from(scheduled):
    workdir, _ = scheduled
    found = replayed(workdir, 8)
    a = found.arrays
    text = experiment.build(stored_config(workdir, {}), say=str).text
    starts = np.concatenate([[0], text.train.doc_ends])
    known = a["documents"] >= 0
    stored = text.train.tokens[starts[a["documents"][known]] + a["offsets"][known]]
    np.testing.assert_array_equal(a["original_ids"][known], stored)
    filled = a["mask_weights"] > 0
    labels = np.take_along_axis(a["original_ids"], a["mask_positions"], axis=1)
    np.testing.assert_array_equal(labels[filled], a["mask_ids"][filled])
    assert found.rates["rate"] == pytest.approx(0.15 + 0.45 * 7 / 59)
    assert found.mask_hash != replayed(workdir, 9).mask_hash


def test_a_row_is_printed_with_what_is_hidden(scheduled):
    workdir, seen = scheduled
    found = replayed(workdir, 53)
    lines = list(replay_lines(found, 2))
    assert lines[0].startswith("step 53 of 60, as in metrics.jsonl: batch 52, masked at state.step")
    row = {name: values[2] for name, values in seen[53].items()}
    token = found.tokenizer.token
    places = row["mask_positions"][row["mask_weights"] > 0]
    words = lines[-1 - len(places)].split()
    assert words[0] == "[CLS]" and len(words) == row["padding_mask"].sum()
    for place, label, line in zip(places, row["mask_ids"], lines[-len(places) :], strict=False):
        shown, label = token(int(row["token_ids"][place])), token(int(label))
        assert words[place] == f"{shown}<{label}>"
        assert line.split()[:2] == ["position", str(place)] and f"label {label} (" in line
    assert sum("<" in word for word in words) == len(places)
    assert len(list(replay_lines(found))) > 32 * 4


def test_adaptive_weights_come_from_the_checkpoint_before_the_step(adaptive):
    workdir, seen = adaptive
    for step in (1, 5, 9):
        found = replayed(workdir, step)
        assert_same(found.arrays, seen[step])
        assert len(found.arrays["original_ids"]) == 32  # two copies of each of 16 rows
    for step in (4, 6):
        with pytest.raises(CheckpointError, match="steps 1, 5, 9 can be replayed, or add --re"):
            replayed(workdir, step)


def test_adaptive_weights_between_checkpoints_by_training_again(adaptive):
    workdir, seen = adaptive
    found = replayed(workdir, 7, retrain=True)
    assert_same(found.arrays, seen[7])


def test_what_cannot_be_replayed_is_refused_in_a_line(scheduled, tmp_path, monkeypatch, capsys):
    workdir, _ = scheduled

    def refused(exit_code, words, *arguments):
        monkeypatch.setattr(sys, "argv", ["mlm", "replay", *map(str, arguments)])
        assert run_command(main) == exit_code
        *others, line = capsys.readouterr().err.splitlines()
        assert line.startswith("error: ") and words in line, line
        assert all(other.endswith(" now") for other in others), others

    here = f"--workdir={workdir}"
    refused(4, "config.json cannot be read", f"--workdir={tmp_path}", "--step=1")
    refused(2, "--step is 61; the run in", here, "--step=61")
    refused(2, "--step is 0", here, "--step=0")
    refused(2, "--row is 32; the batch has rows 0 to 31", here, "--step=2", "--row=32")
    refused(2, "masking.rate 0.15 -> 0.2", here, "--step=2", "--config.masking.rate=0.2")
    other = tmp_path / "other.txt"
    other.write_text("\n\n".join(f"the bird sees {n} of the cats." for n in range(900)))
    refused(4, "began with", here, "--step=2", f"--config.data.corpus={other}")
    refused(7, "cannot be written", here, "--step=2", f"--out={tmp_path / 'no' / 'x.npz'}")
