"""Buckets that cannot be used: one line each, and no wait of minutes."""

import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from emulated import Store, ended, losses

from mlm.commands.launch import free_port

SHORT = """
import sys
from mlm import bucket
from mlm.training.workdir import saved_steps, workdir_path
bucket.SECONDS = 1
try:
    print(saved_steps(workdir_path(sys.argv[1])))
except TimeoutError:
    print("no answer")
"""


def test_a_bucket_that_is_not_there(run, fields):
    code, out, err = run("train.py", *fields, "--workdir=gs://none/run")
    assert (code, out) == (7, "")
    line = "error: --workdir gs://none/run cannot be used (there is no such bucket"
    assert err.startswith(line) and "\n" not in err
    code, _, err = run("eval.py", "--workdir=gs://none/run")
    assert code == 4 and err.startswith(line) and "\n" not in err


def test_a_folder_without_a_run(run):
    code, _, err = run("eval.py", "--workdir=gs://runs/nothing")
    assert code == 4 and "'gs://runs/nothing' holds no checkpoint of a run" in err
    code, _, err = run("-m", "mlm", "doctor", "--workdir=gs://runs/nothing")
    assert code == 4 and "gs://runs/nothing/config.json cannot be read" in err


@pytest.fixture
def forbidding():
    """A store that allows nothing."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            body = b'{"error": {"code": 403, "message": "no storage.objects.create access"}}'
            self.send_response(403)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_POST = do_GET

        def log_message(self, *args):
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield Store(f"http://127.0.0.1:{server.server_port}")
    server.shutdown()


def test_a_bucket_that_is_not_allowed(start_in, fields, forbidding, python):
    for script, code in (("train.py", 7), ("eval.py", 4)):
        flags = fields if script == "train.py" else ()
        command = (python, script, *flags, "--workdir=gs://runs/mine")
        found, _, err = ended(start_in(forbidding.environment, *command))
        assert found == code
        assert err.startswith("error: --workdir gs://runs/mine cannot be used (Forbidden: ")
        assert err.endswith("; may this account use the bucket?)") and "\n" not in err


def test_a_store_that_does_not_answer(start_in, fields, python):
    nobody = Store(f"http://127.0.0.1:{free_port()}").environment
    began = time.monotonic()
    commands = (("train.py", *fields), ("eval.py",))
    runs = [start_in(nobody, python, *command, "--workdir=gs://runs/mine") for command in commands]
    for process, code in zip(runs, (7, 4), strict=True):
        found, _, err = ended(process)
        assert found == code
        assert err == (
            "error: --workdir gs://runs/mine cannot be used (no answer in 20 s; is there a "
            "network?)"
        )
    assert time.monotonic() - began < 40
    process = start_in(nobody, python, "-c", SHORT, "gs://runs/mine/checkpoints")
    assert ended(process)[1] == "no answer\n"  # not that there are none


def test_prepared_text_in_a_bucket(run, store, fields, local, upload):
    prepared = local.parent / "prepared"
    text = [f for f in fields if f.startswith(("--config.data", "--config=")) and "cache" not in f]
    code, _, err = run("-m", "mlm", "prepare", *text, f"--out={prepared}")
    assert code == 0, err
    upload(prepared, "stores/mine")
    place = "--config.data.store=gs://runs/stores/mine"
    kept = [f for f in fields if not f.startswith("--config.data.corpus")]
    code, out, err = run("train.py", *kept, place, "--workdir=gs://runs/stored")
    assert (code, err) == (0, "") and "copying gs://runs/stores/mine to " in out
    expected = losses((local / "metrics.jsonl").read_text())
    assert losses(store.read("stored/metrics.jsonl")) == expected
