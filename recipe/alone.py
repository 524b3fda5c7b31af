"""A model without optimizer or training loop, in one process or in the layout that it trains in: for evaluation and export.

The patches stay in force for the rest of the process, since the model's forward needs them.
"""

import os
from pathlib import Path
from typing import TYPE_CHECKING

from recipe.checkpoint.reader import CheckpointReader
from recipe.config import ParallelConfig, RunConfig
from recipe.lower import transformer_arguments
from recipe.prepare import load_resolved
from recipe.resolve import ResolvedRun, padded_vocab_size, resolve_layout
from recipe.rundir import RunDir
from recipe.size import model_size

if TYPE_CHECKING:
    from megatron.core.models.gpt.gpt_model import GPTModel


def load_model(run: RunDir, checkpoint: Path, *, precision: str | None = None) -> "GPTModel":
    """The run's model (this rank's part of it) with the weights of a checkpoint of any layout, in evaluation mode.

    Args:
        precision: "fp32" or "bf16"; None is the recipe's.

    Raises:
        CheckpointError: The checkpoint is damaged or of another model.
        ConfigError: The processes that there are don't make up the layout.
    """
    import torch

    config = load_resolved(run).config
    reader = CheckpointReader(checkpoint)
    trained = {"model": config.model_at(reader.state["stage"]), "precision": precision or config.precision}
    model = build_alone(config.model_copy(update=trained))
    from megatron.core import parallel_state as ps

    from megatron_patches.mup.init import named_parameters

    tp, tp_rank = ps.get_tensor_model_parallel_world_size(), ps.get_tensor_model_parallel_rank()
    target = {"tp": tp, "tp_rank": tp_rank, "padded_vocab_size": padded_vocab_size(config.model.vocab_size, tp=tp)}
    with torch.no_grad():
        for name, parameter in named_parameters(model):
            if name == "output_layer.weight" and config.model.tied:
                continue
            parameter.copy_(reader.load_into(name, "weight", **target).view_as(parameter))
        if config.model.tied and model.post_process and not model.pre_process:  # the last stage's own copy
            copy = model.shared_embedding_or_output_weight()
            copy.copy_(reader.load_into("embedding.word_embeddings.weight", "weight", **target).view_as(copy))
    return model.eval()


def build_alone(config: RunConfig) -> "GPTModel":
    """A freshly initialised model of this recipe: whole in one process, else this rank's part."""
    import warnings

    import torch

    warnings.filterwarnings("ignore", module=r"(megatron|torch)\.")  # what is absent here is `windtunnel doctor`'s to say
    import megatron_patches
    from megatron_patches.apply import in_force
    from megatron_patches.capabilities import choose_all
    from recipe.model import build_chunks

    device = "cuda" if torch.cuda.is_available() else "cpu"
    os.environ.setdefault("DS_ACCELERATOR", device)  # DeepSpeed would guess, and say so
    if not in_force():
        megatron_patches.apply(cpu=device == "cpu")
    resolved = _start(config, device=device)
    backends = choose_all({})  # what is forced for training may not be here
    return build_chunks(resolved, transformer_arguments(resolved), backends=backends, device=device)[0].eval()


def for_evaluation(config: RunConfig, *, world_size: int) -> ResolvedRun:
    """The recipe's TP and PP over so many processes, the rest data parallel; alone, none. Stages don't matter here.

    Sequence and context parallelism and virtual stages only spare training memory or time; without them any length and
    number of rows will do.
    """
    parallel = ParallelConfig(zero=0)
    if world_size > 1:
        given = config.parallel
        parallel = ParallelConfig(tp=given.tp, pp=given.pp, zero=0, layers_per_stage=given.layers_per_stage)
    config = config.model_copy(update={"parallel": parallel})
    layout, size = resolve_layout(config, world_size=world_size), model_size(config.model)
    return ResolvedRun(
        config=config, layout=layout, stages=(), padded_vocab_size=padded_vocab_size(config.model.vocab_size, tp=layout.tp),
        num_parameters=size.num_total, num_non_embedding_parameters=size.num_non_embedding,
    )


def _start(config: RunConfig, *, device: str) -> ResolvedRun:
    """The process groups of the layout (a world of one, unless a launcher made a larger one), if there are none yet."""
    import torch.distributed as dist
    from megatron.core import parallel_state as ps

    from recipe import distributed
    from recipe.model import initialise_parallel

    if not dist.is_initialized():
        distributed.start(device=device, timeout_s=600)
    resolved = for_evaluation(config, world_size=dist.get_world_size())
    if not ps.model_parallel_is_initialized():
        initialise_parallel(resolved)
    return resolved
