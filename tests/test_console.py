"""Where people read, and what happens when they stop."""

import subprocess
import sys

from conftest import ROOT

PRINTS = """
import sys
from mlm.cli import run_command
from mlm.console import make_console
def main(argv):
    for _ in range(100_000):
        make_console().print("a line")
sys.exit(run_command(main))
"""


def test_a_reader_that_has_seen_enough_is_no_error():
    command = [sys.executable, "-c", PRINTS]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout.readline() == b"a line\n"
    process.stdout.close()
    assert process.stderr.read() == b"" and process.wait(60) == 1
