"""Which URLs can be a workdir; what is done there is tested in tests/clusters."""

import importlib.util

import pytest

import eval as eval_script
import train as train_script
from mlm.bucket import absolute, bucket_folder, is_in_bucket, is_url
from mlm.errors import ConfigError
from mlm.training.workdir import locked_workdir, workdir_path


def test_a_path_of_this_machine_stays_one(tmp_path):
    for place in ("runs/mine", tmp_path, str(tmp_path / "a:b"), "c:/runs", "runs/gs://x"):
        assert not is_url(place)
        assert str(workdir_path(place)) == str(tmp_path.__class__(place))
        assert not is_in_bucket(workdir_path(place))


@pytest.mark.parametrize(
    "url",
    [
        "gs://",
        "gs://bucket",
        "gs://bucket/",
        "gs:///run",
        "gs:/bucket/run",
        "gs://bucket//run",
        "gs://bucket/../run",
        "gs://bucket/run/..",
        "gs://bucket/a run",
        "gs://bucket/run*",
        "gs://Bucket/run",
        "s3://bucket/run",
        "http://host/run",
        "file:///runs/mine",
    ],
)
def test_other_urls_are_refused(url):
    with pytest.raises(ConfigError, match=r"--workdir is '.*'; give a folder .*, or gs://BUCKET/"):
        with locked_workdir(url):
            pass


def test_without_gcsfs_it_says_how_to_get_it(monkeypatch, tiny):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda n: None if n == "gcsfs" else find(n))
    line = "--workdir gs://bucket/run needs another package; pip install gcsfs$"
    with pytest.raises(ConfigError, match=line):
        train_script.main(["--config=configs/default.py", "--workdir=gs://bucket/run"])
    with pytest.raises(ConfigError, match=line):
        eval_script.main(["--workdir=gs://bucket/run"])


def test_a_folder_in_a_bucket_is_a_path(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name)  # nothing is asked of it
    folder = bucket_folder("gs://my-bucket.x/runs/one/", named="--workdir")
    assert is_in_bucket(folder) and is_in_bucket(folder / "checkpoints")
    assert str(absolute(folder) / "eval.json") == "gs://my-bucket.x/runs/one/eval.json"
    assert folder.parent.name == "runs"
