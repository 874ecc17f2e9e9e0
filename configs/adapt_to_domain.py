"""A public DistilBERT on your own text: trained further, and measured before and after.

Command:   python train.py --config=configs/adapt_to_domain.py --workdir=runs/adapted \\
             --config.data.corpus=my.txt
Hardware:  an accelerator: a step needs 8 GB as compiled, 1.4 GB with the backbone frozen. On 2 CPU
           cores it would take 17 s, 8 s with the backbone frozen (measured on 8 rows).
Expect:    one table at the end: loss, perplexity and top-1 on held-out text, before -> after. It
           has not been run on the public weights, which nobody here could download; tests run all
           of it on tiny models.

The weights decide the sizes of the model and bring their tokenizer. `model.init_from` may also be
the folder of such a checkpoint, or the workdir of a run of train.py.

Words of the domain that are cut into many pieces can become tokens; in a config of your own,
`tuple(Path("words.txt").read_text().split())` reads a list of them. On little text
`--config.train.freeze='backbone/.*'` trains the head alone.
"""

from configs import default
from mlm.config import apply_overrides


def get_config():
    config = default.get_config()
    config.model.init_from = "distil_bert_base_en_uncased"
    config.data.new_tokens = ()  # such as ("transformer", "tokenizer")
    config.train.freeze = ()  # such as ("backbone/embeddings/.*", "backbone/layers/[0-3]/.*")
    config.train.batch_size = 64
    config.optimizer.learning_rate = 5e-5  # a tenth of what random weights take
    config.eval.batch_size = 64
    durations = {"train.total_epochs": 3, "eval.every_percent": 10, "checkpoint.every_percent": 10}
    apply_overrides(config, durations)
    return config
