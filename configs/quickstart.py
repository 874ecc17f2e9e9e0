"""A small model on the Python documentation, from text to evaluation in under three minutes.

Command:   make train, or python train.py --config=configs/quickstart.py --workdir=runs/quickstart
Hardware:  2 CPU cores (AMD EPYC): 2 min 42 s in all while the machine was busy, when a step took
           0.21 s; it takes 0.15 s on a quiet one.
Expect:    loss 4.77 on the frozen masks at 15 %, 1.20 nats below the unigram line (5.97), top-1
           0.234, with the text of CPython 3.11. More steps go on helping: 900 reached 4.54.
"""

from configs import default


def get_config():
    config = default.get_config()
    config.data.vocabulary_size = 2048
    config.data.length = 64
    config.masking.rate = 0.4  # more predictions per step than BERT's 15 %
    config.model.layers = 2
    config.model.width = 128
    config.model.hidden = 512
    config.model.max_length = 64
    config.model.dropout = 0.0
    config.model.attention_dropout = 0.0
    config.optimizer.learning_rate = 2e-3  # 3e-3 stays on the unigram plateau
    config.optimizer.warmup_percent = 12.0
    config.train.total_steps = 700
    config.train.batch_size = 64
    config.log.every_steps = 50
    config.checkpoint.every_steps = 350
    config.eval.every_steps = 100
    config.eval.length = 64
    config.eval.max_examples = 1024
    config.eval.fill = (
        "Return [MASK] if the object is a string.",
        "Open a [MASK] for reading.",
        "Convert a [MASK] to an integer.",
        "Raised when an [MASK] occurs.",
        "A class [MASK] defines a class object.",
    )
    return config
