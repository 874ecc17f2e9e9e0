"""The config of a run that has begun, read back from its workdir; without jax."""

from collections.abc import Mapping
from pathlib import Path

from ml_collections import ConfigDict

from mlm.added_fields import with_added
from mlm.config import apply_overrides, flat, from_flat
from mlm.errors import CheckpointError
from mlm.rules import validate
from mlm.training.workdir import check_config, read_json

# What a command that takes such fields says of them.
OVERRIDES = (
    "--config.data.FIELD=VALUE tells where the text of the run is now, --config.mesh.FIELD=N how "
    "the devices here share the work"
)


def stored_config(workdir: Path, overrides: Mapping[str, object]) -> ConfigDict:
    """The config of the run in `workdir`, with fields that a run may change, such as its text's.

    Raises:
      CheckpointError: `workdir` holds no run, or its config.json cannot be read.
      ConfigError: an override that would make another run of it.
    """
    fields = read_json(workdir / "config.json")
    if fields is None:
        raise CheckpointError(
            f"{workdir / 'config.json'} cannot be read; name the folder of a run of train.py as "
            "--workdir, or put the file back"
        )
    try:
        config = from_flat(with_added(fields))
    except (AttributeError, TypeError, ValueError) as error:
        raise CheckpointError(
            f"{workdir / 'config.json'} is not what train.py wrote ({error!s:.80}); put it back"
        ) from error
    apply_overrides(config, overrides)
    check_config(workdir, flat(config))
    validate(config)
    return config
