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
