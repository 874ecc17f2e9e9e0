"""DistilBERT base on a TPU v5e pod of 256 chips: 2,097,152 tokens a step.

Command:   python train.py --config=configs/pod_v5e_256.py --workdir=gs://BUCKET/runs/pod \\
             --config.data.store=gs://BUCKET/books
           on every host, as docs/processes.md says.
Hardware:  v5e-256, or another by its own plan (docs/planning.md). It has not been run: the step is
           compiled for the pod, on a CPU.
Expect:    at most what the plan says, python -m mlm plan --topology=v5e:16x16 and this config:

    plan of configs/pod_v5e_256.py for v5e:16x16: 256 devices
      mesh         slices 1, data 256, fsdp 1, tensor 1
      batch        4,096 rows of 512 tokens, 16 on each device; 77 mask slots in a row
      train        accumulation 1, remat none, bfloat16
      attention    einsum: splash runs on one device, there are 256
      step         compiled in 63 s by libtpu 0.0.52, jax 0.10.2

    memory of a device           GiB
      arguments                 0.75   state and batch
      outputs                   0.75   0.75 in the place of arguments
      temporaries               2.99
      peak                      3.61   of 15.75 that a program can use, 23%

    collectives of a step    devices   count         MB   MB sent by each
      all-reduce                 256       5      228.6             455.5

    a step takes at least         ms
      matrix products          12.67   304.8 MFLOP a token by formula, at 197 TFLOP/s
      state                     1.96   read and written, at 819 GB/s
      links                     2.28   collectives, at 200 GB/s
      all at a time            12.67   MFU at most 100.0%, 165.46 M tokens/s, 646.3 k each
      one after the other      16.91   MFU at most 74.9%, 123.98 M tokens/s, 484.3 k each
    assumed: products in bfloat16, everything at the speed of its data sheet, activations unmoved

Two pods, with twice the rows: --slices=2 --config.train.batch_size=8192; what differs:

    plan of configs/pod_v5e_256.py for v5e:16x16, 2 slices: 512 devices
      batch        8,192 rows of 512 tokens, 16 on each device; 77 mask slots in a row
      peak                      3.95   of 15.75 that a program can use, 25%
    collectives of a step    devices   count         MB   MB sent by each
      all-reduce                 256       6      363.2             723.6
      all-gather                 256       2      140.6             140.1
      send to slices                      44       16.9              16.9
    a step takes at least         ms
      matrix products          12.67   304.8 MFLOP a token by formula, at 197 TFLOP/s
      state                     1.96   read and written, at 819 GB/s
      links                     4.32   collectives, at 200 GB/s
      network                   5.40   send to slices, at 3.125 GB/s
      one after the other      24.35   MFU at most 52.0%, 172.22 M tokens/s, 336.4 k each
"""

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
