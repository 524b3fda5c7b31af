"""A model in this process alone: no launcher, no other ranks. For evaluation, export and conversation.

The patches stay in force for the rest of the process, since the model's forward needs them.
"""

from pathlib import Path
from typing import TYPE_CHECKING

from recipe.checkpoint.reader import CheckpointReader
from recipe.config import ParallelConfig, RunConfig
from recipe.lower import transformer_arguments
from recipe.prepare import load_resolved
from recipe.resolve import Layout, ResolvedRun, padded_vocab_size
from recipe.rundir import RunDir
from recipe.size import model_size

if TYPE_CHECKING:
    from megatron.core.models.gpt.gpt_model import GPTModel


def load_model(run: RunDir, checkpoint: Path, *, precision: str | None = None) -> "GPTModel":
    """The run's model with the weights of a checkpoint of any layout, in evaluation mode.

    Args:
        precision: "fp32" or "bf16"; None is the recipe's.

    Raises:
        CheckpointError: The checkpoint is damaged or of another model.
    """
    import torch

    config = load_resolved(run).config
    reader = CheckpointReader(checkpoint)
    model = build_alone(config.model_copy(update={"precision": precision or config.precision}))
    from megatron_patches.mup.init import named_parameters

    padded = padded_vocab_size(config.model.vocab_size, tp=1)
    with torch.no_grad():
        for name, parameter in named_parameters(model):
            if not (name == "output_layer.weight" and config.model.tied):
                values = reader.load_into(name, "weight", tp=1, tp_rank=0, padded_vocab_size=padded)
                parameter.copy_(values.view_as(parameter))
    return model.eval()


def build_alone(config: RunConfig) -> "GPTModel":
    """A freshly initialised model of this recipe, whole, whatever layout the recipe trains in."""
    import warnings

    import torch

    warnings.filterwarnings("ignore", module=r"(megatron|torch)\.")  # what is absent here is `windtunnel doctor`'s to say
    import megatron_patches
    from megatron_patches.apply import in_force
    from recipe.model import build_chunks, initialise_parallel

    resolved = _one_process(config)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    if not in_force():
        megatron_patches.apply(cpu=device == "cpu")
    _start(resolved, device=device, initialise=initialise_parallel)
    return build_chunks(resolved, transformer_arguments(resolved), device=device)[0].eval()


def _one_process(config: RunConfig) -> ResolvedRun:
    """Layout of one process; stages don't matter here."""
    config = config.model_copy(update={"parallel": ParallelConfig(zero=0)})
    layout = Layout(
        tp=1, pp=1, vp=1, cp=1, dp=1, sp=False, zero=0, recompute="none", offload_optimizer=False,
        layers_per_stage=(config.model.num_layers,),
    )
    size = model_size(config.model)
    return ResolvedRun(
        config=config, layout=layout, stages=(), padded_vocab_size=padded_vocab_size(config.model.vocab_size, tp=1),
        num_parameters=size.num_total, num_non_embedding_parameters=size.num_non_embedding,
    )


def _start(resolved: ResolvedRun, *, device: str, initialise) -> None:
    """A world of one, unless there is one already."""
    import torch.distributed as dist
    from megatron.core import parallel_state as ps
    from megatron.core.tensor_parallel.random import model_parallel_cuda_manual_seed

    from recipe import distributed

    if not dist.is_initialized():
        distributed.start(device=device, timeout_s=600)
    if not ps.model_parallel_is_initialized():
        initialise(resolved)
        model_parallel_cuda_manual_seed(resolved.config.seed)
