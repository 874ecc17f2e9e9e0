"""Rows 46 and 47: files that want more than to be read."""

import io
import json
import pickle
import shutil
import tarfile
from pathlib import Path

import h5py
import numpy as np
import pytest
from refusals import ran, refused

PARITY = Path(__file__).parent.parent / "parity"
HUGGINGFACE, KERAS = PARITY / "hf_distilbert_tiny", PARITY / "kerashub_distilbert_tiny"
TABLE = "layers/token_and_position_embedding/token_embedding/vars/0"
NORM = "layers/layer_normalization/vars/0"


@pytest.fixture
def started_from(tiny, tmp_path):
    """`started_from(folder)`: train.py with weights from there."""

    def started_from(folder, **fields):
        fields = tiny | {"model.init_from": folder, "data.vocabulary_size": 120} | fields
        return ran("train.py", f"--workdir={tmp_path}/run", fields=fields)

    return started_from


def external(file, secret):
    del file[NORM]
    file[NORM] = h5py.ExternalLink(str(secret), "x")


def elsewhere(file, secret):
    shape = file[NORM].shape
    del file[NORM]
    file.create_dataset(NORM, shape, "f4", external=[(str(secret), 0, h5py.h5f.UNLIMITED)])


def virtual(file, secret):
    layout = h5py.VirtualLayout(file[NORM].shape, "f4")
    layout[:] = h5py.VirtualSource(str(secret), "x", shape=file[NORM].shape)
    del file[NORM]
    file.create_virtual_dataset(NORM, layout)


def bomb(file, secret):
    del file[TABLE]
    file.create_dataset(TABLE, (1 << 17, 1 << 17), "f4", chunks=(1 << 10, 1 << 10), compression=9)


@pytest.mark.fault(
    46,
    "HDF5 weights with a link to another file, values in another file, a virtual array, 64 GiB in "
    "2 KB",
    "exit 4 naming the array; nothing of the other file is read, and no memory is taken",
)
def test_evil_hdf5(started_from, tmp_path):
    secret = tmp_path / "secret.h5"
    with h5py.File(secret, "w") as file:
        file["x"] = np.full(99, 0.5, np.float32)
    for evil, words in (
        (external, f"{NORM} is a link to another place"),
        (elsewhere, f"{NORM} has its values in another file"),
        (virtual, f"{NORM} is put together from other arrays"),
        (bomb, f"{TABLE} is stored in pieces or compressed"),
    ):
        preset = tmp_path / evil.__name__
        shutil.copytree(KERAS, preset)
        with h5py.File(preset / "model.weights.h5", "a") as file:
            evil(file, secret)
        ended = started_from(preset)
        assert ended.exit_code == 4 and ended.peak < 2 << 30
        line = ended.error.strip().splitlines()[-1]
        assert line.startswith("error: ") and words in line and "Traceback" not in ended.error
    assert not (tmp_path / "run/init.json").exists()


class Evil:
    """What runs a command when it is unpickled."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return Path.touch, (Path(self.mark),)


@pytest.mark.fault(
    47,
    "pickled weights, pickled numbers, an index of shards that leads out of its folder, a tar "
    "archive and a YAML file as a model",
    "refused with exit 2, 3 or 4; nothing is unpickled, followed, extracted or executed",
)
def test_evil_formats(started_from, tmp_path, tiny):
    mark = tmp_path / "executed"
    folder = tmp_path / "model"
    shutil.copytree(HUGGINGFACE, folder)
    weights = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").unlink()

    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(Evil(mark)))
    ended = started_from(folder)
    assert ended.exit_code == 4 and "pickles are never opened" in ended.error
    (folder / "pytorch_model.bin").unlink()

    (tmp_path / "outside.safetensors").write_bytes(weights)
    index = {"weight_map": {"vocab_layer_norm.bias": "../outside.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    refused(
        started_from(folder), 4, "../outside.safetensors", "outside its folder", within=tmp_path
    )
    (folder / "model.safetensors.index.json").unlink()

    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        tar.addfile(tarfile.TarInfo(f"../{mark.name}"))
    (folder / "model.safetensors").write_bytes(archive.getvalue())
    refused(started_from(folder), 4, "cannot be read as safetensors", within=tmp_path)

    (folder / "config.json").write_text(f"!!python/object/apply:os.mknod ['{mark}']")
    refused(started_from(folder), 4, "config.json is not JSON", within=tmp_path)

    np.save(tmp_path / "table.npy", np.array([Evil(mark)] * 96), allow_pickle=True)
    fields = tiny | {"masking.weights": tmp_path / "table.npy"}
    ended = ran("train.py", f"--workdir={tmp_path}/run", fields=fields)
    refused(ended, 2, "table.npy", "no .npy file of numbers", within=tmp_path)
    assert not mark.exists()
