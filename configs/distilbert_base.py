"""DistilBERT base: six layers of width 768 on rows of 512 tokens (Sanh et al., arXiv:1910.01108).

Command:   python train.py --config=configs/distilbert_base.py --workdir=runs/base \\
             --config.data.corpus=books.txt --config.data.tokenizer=vocab.txt
Hardware:  an accelerator with 40 GB or more, or several. It has not been run to the end; the
           architecture is tested against recorded outputs of the public implementation.
Expect:    66,985,530 parameters with a vocabulary of 30,522. Masked language modelling alone: this
           is the shape of DistilBERT and its optimizer, not its distillation.
"""

from configs import default


def get_config():
    config = default.get_config()
    config.data.vocabulary_size = 30_522
    config.data.length = 512
    config.model.layers = 6
    config.model.width = 768
    config.model.heads = 12
    config.model.hidden = 3072
    config.model.max_length = 512
    config.model.dtype = "bfloat16"
    config.optimizer.learning_rate = 5e-4
    config.optimizer.warmup_percent = 5.0
    config.train.total_steps = 100_000
    config.train.batch_size = 256
    config.eval.length = 512
    config.eval.batch_size = 64
    return config
