"""What of a run's data may become another when it goes on, and how differences are shown.

A run repeats bit for bit because its data does, so another seed or text is refused unless it is
asked for; then it is written down.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

FLAG = "--allow_data_change"
DATA_FIELDS = ("seed", "masking.units")
# They are the number of embeddings, which a checkpoint holds.
FIXED_FIELDS = ("data.new_tokens", "data.vocabulary_size")
LONGEST = 60  # characters of a value that an error shows


class Change(NamedTuple):
    """A fact of a run's data that is another one now."""

    field: str
    then: object
    now: object

    def __str__(self) -> str:
        return f"{self.field}: {_shown(self.then)} then, {_shown(self.now)} now"


def differences(then: Mapping[str, object], now: Mapping[str, object]) -> list[Change]:
    """What has another value, as JSON holds it, by name."""
    then, now = (json.loads(json.dumps(dict(facts))) for facts in (then, now))
    names = sorted({*then, *now})
    return [Change(n, then.get(n), now.get(n)) for n in names if then.get(n) != now.get(n)]


def is_of_data(change: Change) -> bool:
    """Whether a config field says what is read or in which order, rather than what learns."""
    if change.field == "masking.weights":  # another kind of weights has other tables to save
        return all(str(value).endswith(".npy") for value in change[1:])
    of_data = change.field in DATA_FIELDS or change.field.startswith("data.")
    return of_data and change.field not in FIXED_FIELDS


def refused(workdir: Path, changes: Sequence[Change]) -> list[str]:
    """The lines of an error: every difference, then and now side by side, and the ways out."""
    number = "a difference" if len(changes) == 1 else f"{len(changes)} differences"
    return [
        *map(str, changes),
        f"--workdir {workdir} began with other data ({number}); give it back, choose another "
        f"folder, or let train.py go on with {FLAG}",
    ]


def _shown(value: object) -> str:
    text = str(value)
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 3]}..."
