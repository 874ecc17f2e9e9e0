"""The built-in names of public models, and their download.

The names and sizes are those of KerasHub's presets; the weights are the Hugging Face repositories
that those were made from, which hold the MLM head that KerasHub's copies lack.
"""

import difflib
import os
import re
from dataclasses import dataclass
from pathlib import Path

from mlm.conversion.loaded import shown
from mlm.errors import CheckpointError
from mlm.models.distilbert import DistilBertConfig

HUB = "hf://"
# org/name and a branch, tag or commit; a name comes from outside and becomes part of a path.
REPOSITORY = re.compile(r"hf://(\w[\w.-]*/\w[\w.-]*)(?:@(\w[\w./-]*))?", re.ASCII)
# Weights as numbers only: nothing that would have to be unpickled is fetched.
WEIGHTS = ("*.safetensors", "*.safetensors.index.json")
TEXT_FILES = ("config.json", "tokenizer.json", "tokenizer_config.json", "vocab.txt")


@dataclass(frozen=True)
class Preset:
    """A public model: its repository and what is known of it without a network."""

    repository: str
    config: DistilBertConfig


# All three are DistilBERT base (Sanh et al., arXiv:1910.01108), which the config's defaults are.
PRESETS = {
    "distil_bert_base_en_uncased": Preset(
        "distilbert/distilbert-base-uncased", DistilBertConfig(vocabulary_size=30522)
    ),
    "distil_bert_base_en": Preset(
        "distilbert/distilbert-base-cased", DistilBertConfig(vocabulary_size=28996)
    ),
    "distil_bert_base_multi": Preset(
        "distilbert/distilbert-base-multilingual-cased", DistilBertConfig(vocabulary_size=119547)
    ),
}


def repository_of(name: str) -> tuple[str, str | None] | None:
    """The Hub repository and revision that a name stands for; None if it is a path.

    Raises:
      CheckpointError: it is neither a built-in name, hf://org/name, nor a folder.
    """
    if name in PRESETS:
        return PRESETS[name].repository, None
    if name.startswith(HUB):
        match = REPOSITORY.fullmatch(name)
        if match is None or ".." in name:
            raise CheckpointError(
                f"{shown(name)} names no repository; write hf://org/name or hf://org/name@revision"
            )
        return match.groups()
    if os.path.exists(name):  # Path.exists raises when a name is too long
        return None
    close = difflib.get_close_matches(name, PRESETS, n=1, cutoff=0.5)
    hint = f"did you mean {close[0]}? " if close else ""
    raise CheckpointError(
        f"{shown(name) or repr(name)} is neither a folder nor a known model; {hint}known are "
        f"{', '.join(PRESETS)}, hf://org/name[@revision], and folders"
    )


def download(
    repository: str, revision: str | None, *, weights: bool = True, local_files_only: bool = False
) -> tuple[Path, str]:
    """A folder in the Hub's cache with the files of a repository, and the commit that they are of.

    Args:
      repository: org/name.
      revision: branch, tag or commit; None for the newest.
      weights: False for config and tokenizer alone.
      local_files_only: look into the cache and nowhere else.

    Raises:
      CheckpointError: it cannot be had; the line says which files to place where.
    """
    import huggingface_hub  # takes half a second to import

    patterns = [*TEXT_FILES, *(WEIGHTS if weights else ())]
    try:
        folder = huggingface_hub.snapshot_download(
            repository,
            revision=revision,
            allow_patterns=patterns,
            ignore_patterns=["*/*"],  # a pattern with * looks into folders as well
            local_files_only=local_files_only,
        )
    except Exception as error:  # network, names, permissions, disk: all end the same way
        reason = " ".join(str(error).split())
        at = f" at {revision}" if revision else ""
        raise CheckpointError(
            f"{repository}{at} cannot be had ({type(error).__name__}: {reason:.160}); where "
            f"there is a network, download {', '.join(TEXT_FILES)} and model.safetensors into a "
            "folder, bring it here and name that folder instead"
        ) from error
    folder = Path(folder)
    if weights and not any(folder.glob("*.safetensors")):
        raise CheckpointError(
            f"{repository} at {folder.name} has no safetensors, or they are not in the cache here; "
            "pickles are never opened: where torch and transformers are, load it and save it "
            "with save_pretrained, and name that folder instead"
        )
    return folder, folder.name
