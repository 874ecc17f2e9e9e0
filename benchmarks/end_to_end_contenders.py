"""The contenders of benchmarks/end_to_end.py: each trains once on a text file, a document a line.

Ours does what `train.py` does with the file: tokenize it into a store, pack rows, mask in the step.
KerasHub's is `fit` on `tf.data`: lines, batches, its preprocessor, each as parallel as it goes, and
prefetching; what is longer than a row is cut off, as it is there.
"""

import json
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks.train_step_contenders import PACKAGES, RATE, SIZES, keras_model  # noqa: E402

SLOTS = 20  # of a row
MASK_RATE = 0.15


class Work(NamedTuple):
    """What is trained on what."""

    size: str
    rows: int  # in a step
    length: int
    dropout: float
    text: str  # file with a document a line
    vocabulary: str  # vocab.txt


class Pass(NamedTuple):
    """One time through the text."""

    seconds: float
    steps: int
    tokens: int  # that were trained on: no special tokens, no padding


def ours(work: Work) -> Callable[[], Pass]:
    from mlm.allocator import keep_freed_memory, use_one_heap

    one_heap = use_one_heap()
    import jax

    from mlm import experiment
    from mlm.data.prefetch import prefetch
    from mlm.input import batch_function, prepare_text, training_rows
    from mlm.training.metrics import host

    config = our_config(work)
    run = experiment.build(config, say=str).run
    step = keep_freed_memory(run.step) if one_heap else run.step
    state = run.init_state()
    state, _ = step(state, run.put(run.batch_at(0)))  # compiles
    jax.block_until_ready(state)

    def train() -> Pass:
        nonlocal state
        began, tokens, pending = time.perf_counter(), 0, None
        with tempfile.TemporaryDirectory() as folder:
            config.data.cache_dir = folder  # an empty one: all of it is prepared again
            text = prepare_text(config, say=str)
            rows = training_rows(config, text, say=str)
            batch_at = batch_function(config, rows)
            steps = len(rows) // work.rows
            for batch in prefetch(batch_at, start=0, stop=steps, put=run.put):
                state, metrics = step(state, batch)
                tokens += pending is not None and int(host(pending).counts.selectable)
                pending = metrics
            tokens += int(host(pending).counts.selectable)
        return Pass(time.perf_counter() - began, steps, tokens)

    return train


def our_config(work: Work):
    from mlm.config import apply_overrides, load_config

    layers, width, heads, hidden, _ = SIZES[work.size]
    config = load_config(str(Path(__file__).parent.parent / "configs/default.py"))
    fields = {
        "data.corpus": work.text,
        "data.document": "line",
        "data.tokenizer": work.vocabulary,
        "data.cache_dir": tempfile.mkdtemp(),
        "data.length": work.length,
        "masking.rate": MASK_RATE,
        "masking.mask_selection_length": min(SLOTS, work.length),
        "model.layers": layers,
        "model.width": width,
        "model.heads": heads,
        "model.hidden": hidden,
        "model.max_length": work.length,
        "model.dropout": work.dropout,
        "model.attention_dropout": work.dropout,
        "optimizer.learning_rate": RATE,
        "optimizer.schedule": "constant",
        "optimizer.clip_norm": 0.0,
        "train.batch_size": work.rows,
        "eval.length": work.length,
    }
    apply_overrides(config, fields)
    return config


def keras_jax(work: Work) -> Callable[[], Pass]:
    import keras_hub
    import tensorflow as tf

    vocabulary = Path(work.vocabulary).read_text().split("\n")
    vocabulary = [word for word in vocabulary if word]
    tokenizer = keras_hub.models.DistilBertTokenizer(vocabulary=vocabulary, lowercase=True)
    preprocess = keras_hub.models.DistilBertMaskedLMPreprocessor(
        tokenizer,
        sequence_length=work.length,
        mask_selection_rate=MASK_RATE,
        mask_selection_length=min(SLOTS, work.length),
    )
    model = keras_model(work, len(vocabulary), weighted_metrics=[])
    lines = tf.data.TextLineDataset(work.text).batch(work.rows, drop_remainder=True)
    batches = lines.map(preprocess, num_parallel_calls=tf.data.AUTOTUNE)
    batches = batches.prefetch(tf.data.AUTOTUNE)
    model.fit(batches.take(1), verbose=0)  # compiles
    kept = [batch[0]["padding_mask"].numpy() for batch in batches]
    tokens = sum(int(mask.sum()) - 2 * len(mask) for mask in kept)  # without [CLS] and [SEP]

    def train() -> Pass:
        began = time.perf_counter()
        before = int(model.optimizer.iterations)
        model.fit(batches, verbose=0)
        steps = int(model.optimizer.iterations) - before
        return Pass(time.perf_counter() - began, steps, tokens)

    return train


CONTENDERS = {"ours": ours, "keras_jax": keras_jax}


def main(name: str, facts: str) -> None:
    """Answers the start with compiling, then one line for each line read: a pass."""
    began = time.perf_counter()
    train = CONTENDERS[name](Work(**json.loads(facts)))
    seconds = time.perf_counter() - began
    versions = ", ".join(f"{p} {version(p)}" for p in PACKAGES[name.split("_")[0]])
    print("answer", json.dumps({"seconds": seconds, "versions": versions}), flush=True)
    for _ in sys.stdin:
        print("answer", json.dumps(train()), flush=True)
    print("answer", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
