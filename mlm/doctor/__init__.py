"""Checks of a run, or of a config before one: numbers in, findings in plain words out.

    finding.py   a verdict and what it rests on
    sample.py    some hundred rows, masked as the run masks them
    amounts.py   how much is masked, predicted and lost, against what was asked for
    fates.py     [MASK], random or kept; special ids; units
    text.py      padding and [UNK]
    record.py    what metrics.jsonl says: rates, losses
    kept.py      what lies in the workdir: text, checkpoints, frozen masks
    upkeep.py    what lies beside the checkpoints; lock, space, status.json

Every check is a function without side effects that takes values and gives one `Finding`; which are
asked, `mlm.checkup` decides. A verdict 'bad' says that numbers of the run cannot be trusted or that
it cannot go on, 'warning' that a choice costs something. Chance alone gives one in a million checks
of amounts another verdict: `DEVIATIONS` standard deviations, of rows, which are independent.
"""
