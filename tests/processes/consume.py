"""Run by tests in several processes: writes the masked batch of a step as all of them see it."""

import sys

import numpy as np

from mlm import cluster
from mlm.cli import Parser, leave, parse_with_config, run_command


def main(argv):
    parser = Parser(prog="consume.py")
    parser.add_argument("--out", required=True)
    parser.add_argument("--step", type=int, required=True)
    cluster.add_flags(parser)
    args, config = parse_with_config(parser, argv)
    with cluster.joined(cluster.find_place(args, seconds=60), config):
        import jax

        # As jax may do on real hardware: the first rows are of the last process.
        make_mesh, devices = jax.make_mesh, jax.devices()[::-1]
        jax.make_mesh = lambda *args, **given: make_mesh(*args, **given | {"devices": devices})
        from mlm import experiment
        from mlm.masks import make_mask
        from mlm.settings import run_keys
        from mlm.training.sharding import replicated

        exp = experiment.build(config, say=lambda line: None)
        assert jax.process_count() == jax.device_count() == args.num_processes
        root = run_keys(config.seed).masks
        mask = make_mask(config, exp.text, root=root, total_steps=exp.run.total_steps)
        assert list(exp.mesh.devices.flat) == devices
        local = exp.run.batch_at(args.step - 1)
        assert len(local["token_ids"]) == config.train.batch_size // args.num_processes
        whole = jax.jit(mask, out_shardings=replicated(exp.mesh))
        masked, _ = whole(exp.run.put(local), np.int32(args.step - 1), ())
        if cluster.is_first():
            np.savez(args.out, **jax.device_get(masked))


if __name__ == "__main__":
    assert not any(name.startswith("jax") for name in sys.modules)
    leave(cluster.leave(run_command(main)))
