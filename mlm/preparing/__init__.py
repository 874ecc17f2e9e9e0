"""From a corpus to token stores on disk: text -> documents on two sides -> ids -> a folder.

    documents.py     what is trained on and what is held out, streamed in passes
    once.py          pipes, functions and iterables kept in files meanwhile
    encode.py        ids at the tokenizer's own speed
    folder.py        the whole: found again, waited for, or gone on with
    collocations.py  bitmaps of what stands together, for masking
    lock.py          one process makes what several want
    vocabulary.py    a tokenizer by itself, trained on the same documents
    inspect.py       what a prepared folder holds, in numbers
    remote.py        one that lies in a bucket

Runs before training and without jax. `data` reads what this writes.
"""

from mlm.preparing.collocations import collocation_folder, top_collocations
from mlm.preparing.documents import TextSettings
from mlm.preparing.folder import PreparedText, default_cache_dir, open_prepared, prepare
from mlm.preparing.inspect import inspect_text, prepared_folder, unknown_warning
from mlm.preparing.remote import local_folder
from mlm.preparing.vocabulary import train_vocabulary

__all__ = [
    "PreparedText",
    "TextSettings",
    "collocation_folder",
    "default_cache_dir",
    "inspect_text",
    "local_folder",
    "open_prepared",
    "prepare",
    "prepared_folder",
    "top_collocations",
    "train_vocabulary",
    "unknown_warning",
]
