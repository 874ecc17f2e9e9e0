"""Benchmarks are not timed here, but they must run."""

import subprocess
import sys
from pathlib import Path

from benchmarks.masking_kinds import KINDS

ROOT = Path(__file__).parent.parent


def test_preparing_beside_the_library(corpus_file):
    command = [sys.executable, "benchmarks/preparing.py", f"--text={corpus_file}"]
    run = subprocess.run(
        [*command, "--rounds=1", "--sample=1"], cwd=ROOT, capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr
    assert "ours / library, median of 1: " in run.stdout


def test_masking_alone_runs_without_the_peers():
    command = [sys.executable, "benchmarks/masking.py", "--ours", "--shapes=2x16"]
    command += ["--rounds=1", "--seconds=0.01"]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert "2 x 16, 4 slots per row" in run.stdout
    table = run.stdout[run.stdout.index("Mtok/s") :]
    assert all(f"ours, {kind} " in table for kind in KINDS)


def test_masking_alone_refuses_kinds_that_there_are_not():
    command = [sys.executable, "benchmarks/masking.py", "--ours", "--kinds=word,wrod"]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 2 and "--kinds has wrod; choose from exact," in run.stderr


def test_training_steps_take_turns():
    command = [sys.executable, "benchmarks/train_step.py", "--contenders=ours,ours_full_logits"]
    command += ["--size=nano", "--rows=8", "--length=16", "--rounds=1", "--steps=1"]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert "nano, 8 x 16, dropout 0.0, 1 rounds of 1 steps" in run.stdout
    ours, full = (line.split() for line in run.stdout.splitlines()[2:])
    assert ours[0] == "ours" and ours[3] == "1.00" and full[0] == "ours_full_logits"


def test_training_steps_refuse_contenders_that_there_are_not():
    command = [sys.executable, "benchmarks/train_step.py", "--contenders=ours,flax"]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 2 and "--contenders is ours,flax; 'ours', then some" in run.stderr


def test_the_benchmark_of_a_gpu_runs_through_on_a_cpu():
    command = [sys.executable, "benchmarks/gpu.py", "--steps=1"]
    run = subprocess.run([*command, "--try_on_cpu"], cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert "L=16: loss " in run.stdout and ": ok\n" in run.stdout and "tokens/s" in run.stdout
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 2 and "error: jax computes on cpu" in run.stdout


def test_end_to_end_counts_the_tokens_of_the_text(corpus_file):
    command = [sys.executable, "benchmarks/end_to_end.py", f"--text={corpus_file}"]
    command += ["--contenders=ours", "--size=nano", "--rows=8", "--length=32", "--rounds=1"]
    run = subprocess.run([*command, "--lines=200"], cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert "nano, 8 x 32, dropout 0.0, 200 lines of stories.txt, 1 rounds" in run.stdout
    ours = run.stdout.splitlines()[2].split()
    steps, tokens = int(ours[4]), int(ours[5])
    assert ours[0] == "ours" and 0.4 * steps * 8 * 30 < tokens <= steps * 8 * 30


def test_end_to_end_needs_a_text():
    command = [sys.executable, "benchmarks/end_to_end.py", "--text=missing.txt"]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 2 and "--text is missing.txt: no such file" in run.stderr
