"""DOC"""

from configs import distilbert_base


def get_config():
    config = distilbert_base.get_config()
    config.train.batch_size = 4096  # 16 rows of 512 tokens on each chip
    config.train.total_steps = 25_000  # of 2.1 million tokens each
    config.model.attention_dropout = 0.0  # it costs time, and splash and cuDNN have none
    config.optimizer.learning_rate = 6e-4  # RoBERTa's, for 8192 rows
    config.optimizer.warmup_percent = 6.0
    config.eval.batch_size = 256  # a row for each chip
    config.checkpoint.every_steps = 500
    config.eval.every_steps = 500
    return config
