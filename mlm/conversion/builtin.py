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
MOST_BYTES = 8_000_000_000  # of one model; BERT large has 1.3e9
TEXT_FILES = ("config.json", "tokenizer.json", "tokenizer_config.json", "vocab.txt")


@dataclass(frozen=True)
class Preset:
    """A public model: its repository, the commit that is meant, and what is known of it."""

    repository: str
    revision: str
    config: DistilBertConfig


# The commits are those that `main` is at since 2024; what moves later is not what was tested.
# All three are DistilBERT base (Sanh et al., arXiv:1910.01108), which the config's defaults are.
PRESETS = {
    "distil_bert_base_en_uncased": Preset(
        "distilbert/distilbert-base-uncased",
        "12040accade4e8a0f71eabdb258fecc2e7e948be",
        DistilBertConfig(vocabulary_size=30522),
    ),
    "distil_bert_base_en": Preset(
        "distilbert/distilbert-base-cased",
        "6ea81172465e8b0ad3fddeed32b986cdcdcffcf0",
        DistilBertConfig(vocabulary_size=28996),
    ),
    "distil_bert_base_multi": Preset(
        "distilbert/distilbert-base-multilingual-cased",
        "45c032ab32cc946ad88a166f7cb282f58c753c2e",
        DistilBertConfig(vocabulary_size=119547),
    ),
}


def repository_of(name: str) -> tuple[str, str | None] | None:
    """The Hub repository and revision that a name stands for; None if it is a path.

    Raises:
      CheckpointError: it is neither a built-in name, hf://org/name, nor a folder.
    """
    if name in PRESETS:
        return PRESETS[name].repository, PRESETS[name].revision
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
    patterns = [*TEXT_FILES, *(WEIGHTS if weights else ())]
    try:
        folder = _snapshot(repository, revision, patterns, local_files_only)
    except CheckpointError:
        raise
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


def _snapshot(
    repository: str, revision: str | None, patterns: list[str], local_files_only: bool
) -> str:
    """The folder in the cache. Sizes are asked for first, and compared with what has arrived."""
    import huggingface_hub  # takes half a second to import

    def ask(**how):
        return huggingface_hub.snapshot_download(
            repository,
            revision=revision,
            allow_patterns=patterns,
            ignore_patterns=["*/*"],  # a pattern with * looks into folders as well
            **how,
        )

    if local_files_only:
        return ask(local_files_only=True)
    try:
        files = ask(dry_run=True)
    except Exception as error:  # without a network: what is in the cache will do
        try:
            return ask(local_files_only=True)
        except Exception:
            raise error from None
    size = sum(file.file_size or 0 for file in files if file.will_download)
    if size > MOST_BYTES:
        raise CheckpointError(
            f"{repository} would be {size / 1e9:,.1f} GB to download, and a DistilBERT or BERT has "
            f"less than {MOST_BYTES / 1e9:,.0f}; download it yourself and name the folder"
        )
    folder = ask()
    for file in files:
        held = os.path.getsize(os.path.join(folder, file.filename))
        if file.file_size not in (None, held):
            raise CheckpointError(
                f"{repository}: {shown(file.filename)} arrived with {held:,} of "
                f"{file.file_size:,} bytes; remove {folder} and start again"
            )
    return folder
