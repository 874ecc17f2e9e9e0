"""What tests of clusters share: the store as it is without gcsfs, and processes that end."""

import json
import signal
import subprocess
import time
import urllib.request


class Store:
    """The emulator, asked without gcsfs."""

    def __init__(self, url: str):
        self.url = url
        self.environment = {
            "STORAGE_EMULATOR_HOST": url,
            "TENSORSTORE_GCS_HTTP_URL": url,
            "GCE_METADATA_ROOT": "127.0.0.1:1",
            "GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT": "false",
            "FSSPEC_GCS_TOKEN": "anon",
        }

    def names(self, folder: str) -> list[str]:
        """The objects in gs://runs/`folder`, without that."""
        with urllib.request.urlopen(f"{self.url}/storage/v1/b/runs/o?prefix={folder}/") as answer:
            return [item["name"].removeprefix(f"{folder}/") for item in json.load(answer)["items"]]

    def read(self, name: str) -> str:
        with urllib.request.urlopen(f"{self.url}/runs/{name}") as answer:
            return answer.read().decode()

    def write(self, name: str, content: bytes) -> None:
        place = f"{self.url}/upload/storage/v1/b/runs/o?uploadType=media&name={name}"
        urllib.request.urlopen(urllib.request.Request(place, content)).close()


def wait_for(call, seconds: float = 60):
    """What `call` returns, once it is true."""
    deadline = time.monotonic() + seconds
    while not (found := call()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return found


def ended(process: subprocess.Popen, seconds: float = 300) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=seconds)
    lines = [line for line in err.splitlines() if "google_auth_provider" not in line]
    return process.returncode, out, "\n".join(lines)


def kill(process: subprocess.Popen) -> None:
    process.send_signal(signal.SIGKILL)
    process.wait()


def losses(metrics: str) -> dict[int, float]:
    """`train/loss` by step; each step must be there once."""
    lines = [json.loads(line) for line in metrics.splitlines()]
    found = [(line["step"], line["train/loss"]) for line in lines if "train/loss" in line]
    assert len(dict(found)) == len(found)
    return dict(found)
