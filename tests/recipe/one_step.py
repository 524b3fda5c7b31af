"""`python -m tests.recipe.one_step DEVICE [adam=apex …]`: the losses and gradient norms of two steps of one process."""

import sys

import numpy as np

from tests.parity import SEQ, VOCAB, config_of


def main(device: str, *backends: str) -> None:
    import megatron_patches
    from recipe import distributed
    from recipe.batch import micro_batch
    from recipe.engine import Engine
    from recipe.lower import deepspeed_config, transformer_arguments
    from recipe.model import initialise_parallel
    from recipe.resolve import resolve

    distributed.start(device=device, timeout_s=60)
    resolved = resolve(config_of(dict(one.split("=") for one in backends)), world_size=1)
    with megatron_patches.apply(cpu=device == "cpu"):
        initialise_parallel(resolved)
        engine = Engine(
            resolved, transformer=transformer_arguments(resolved), deepspeed_config=deepspeed_config(resolved), device=device
        )
        engine.set_lr(0.01)
        for step in range(2):
            tokens = np.random.default_rng(step).integers(0, VOCAB, (2, SEQ + 1))
            result = engine.train_step([micro_batch(tokens, np.ones((2, SEQ), np.float32))], num_targets=2 * SEQ)
            print(result.loss, result.grad_norm)


if __name__ == "__main__":
    main(*sys.argv[1:])
