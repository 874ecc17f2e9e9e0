"""Models in and out: Hugging Face folders, KerasHub presets, folders of our own, built-in names.

Every reader gives a `Loaded`, and refuses what it cannot hold: nothing is left out without a note.

    loaded.py      what a reader gives, and how all of them refuse
    huggingface*.py, tensor_files.py   DistilBERT and BERT in safetensors, and the way back
    keras_*.py, hdf5.py                KerasHub's presets, and the way back
    own_folder.py  every bit and every setting, with a checksum
    builtin.py     names of public models, and their download

    loaded = load_huggingface("distilbert-base-uncased")
    print(*loaded.notes, sep="\n")
    save_huggingface("out", loaded.config, loaded.params, pad_token_id=0)
"""

from mlm.conversion.builtin import PRESETS, download, repository_of
from mlm.conversion.huggingface import load_huggingface
from mlm.conversion.huggingface_export import save_huggingface
from mlm.conversion.keras_export import save_keras_preset
from mlm.conversion.keras_preset import load_keras_preset
from mlm.conversion.loaded import Loaded
from mlm.conversion.own_folder import load_own, save_own

__all__ = [
    "PRESETS",
    "Loaded",
    "download",
    "load_huggingface",
    "load_keras_preset",
    "load_own",
    "repository_of",
    "save_huggingface",
    "save_keras_preset",
    "save_own",
]
