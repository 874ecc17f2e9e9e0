"""`python -m mlm COMMAND`: the commands beside train.py and eval.py."""

import sys
from collections.abc import Sequence

from mlm.cli import run_command
from mlm.commands import launch, masks, models, plan, text
from mlm.errors import ConfigError

COMMANDS = {
    "prepare": (text.prepare, "text files into a token store"),
    "store": (text.store, "inspect or verify one"),
    "tokenizer": (text.tokenizer, "train, show or compare tokenizers"),
    "inspect": (masks.inspect, "see what a config masks, beside other strategies"),
    "replay": (masks.replay, "the batch, masks and labels that a step of a run consumed"),
    "doctor": (masks.doctor, "whether all is well with a run, or with a config before one"),
    "plan": (plan.plan, "whether a config fits a machine that is not here, and how fast it can be"),
    "launch": (launch.launch, "one run in several processes of this machine"),
    "fill-mask": (models.fill_mask, "what a model puts for [MASK]"),
    "convert": (models.convert, "a model into another format"),
}


def main(argv: Sequence[str]) -> int | None:
    if not argv or argv[0] in ("-h", "--help"):
        print("python -m mlm COMMAND; --help behind one lists its arguments", "", sep="\n")
        for name, (_, purpose) in COMMANDS.items():
            print(f"  {name:11}{purpose}")
        return None
    if argv[0] not in COMMANDS:
        raise ConfigError(f"there is no command {argv[0]!r}; choose one of {', '.join(COMMANDS)}")
    return COMMANDS[argv[0]][0](argv[1:])


if __name__ == "__main__":
    sys.exit(run_command(main))
