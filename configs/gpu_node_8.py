"""DistilBERT base on one node of 8 GPUs, one process: 262,144 tokens a step.

Command:   python train.py --config=configs/gpu_node_8.py --workdir=runs/node \\
             --config.data.corpus=books.txt --config.data.tokenizer=vocab.txt
Hardware:  8 GPUs of 40 GB or more with cuDNN: Ampere or newer. It has not been run: the step is
           lowered for GPUs, on a CPU.
Expect:    at most what the plan says, python -m mlm plan --topology=h100:8 and this config:

    plan of configs/gpu_node_8.py for h100:8: 8 devices
      mesh         slices 1, data 8, fsdp 1, tensor 1
      batch        512 rows of 512 tokens, 64 on each device; 77 mask slots in a row
      train        accumulation 1, remat none, bfloat16
      attention    cudnn: on cuda
      step         lowered for cuda by jax 0.10.2, not compiled: that takes such a GPU

    memory of a device           GiB
      arguments                 0.75   of 74.51: state and batch, by formula
      temporaries, outputs     not known: a GPU's compiler decides

    collectives              not known: a GPU's compiler decides

    a step takes at least         ms
      matrix products          10.10   304.8 MFLOP a token by formula, at 989 TFLOP/s
      state                     0.48   read and written, at 3,350 GB/s
      all at a time            10.10   MFU at most 100.0%, 25.96 M tokens/s, 3,244.8 k each
      one after the other      10.58   MFU at most 95.5%, 24.78 M tokens/s, 3,097.6 k each
    assumed: products in bfloat16, everything at the speed of its data sheet, activations unmoved
    left out, because it is not known: what devices send to each other
"""

from configs import distilbert_base


def get_config():
    config = distilbert_base.get_config()
    config.train.batch_size = 512  # 64 rows of 512 tokens on each GPU
    config.model.attention_dropout = 0.0  # 'auto' takes cuDNN's flash attention, which has none
    config.deterministic = False  # True: bits repeat, with einsum in place of cuDNN
    config.eval.batch_size = 128
    return config
