"""DOC"""

from configs import distilbert_base


def get_config():
    config = distilbert_base.get_config()
    config.train.batch_size = 512  # 64 rows of 512 tokens on each GPU
    config.model.attention_dropout = 0.0  # 'auto' takes cuDNN's flash attention, which has none
    config.deterministic = False  # True: bits repeat, with einsum in place of cuDNN
    config.eval.batch_size = 128
    return config
