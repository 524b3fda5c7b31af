"""The embedding's output is × embedding_mult."""

from typing import Any

from megatron_patches.patch import Patch, Rung


def scale_output(module: Any, mult: float) -> None:
    """Hooks an embedding; a multiplier of 1 leaves the module untouched."""
    if mult != 1:
        module.register_forward_hook(lambda _module, _args, output: output * mult)


PATCH = Patch(
    name="mup/embedding",
    target="megatron.core.models.common.embeddings.language_model_embedding:LanguageModelEmbedding.forward",
    rung=Rung.HOOK,
    fingerprints={"0.16.1": "d4c21f3e5f3e", "0.19.2": "8ac7d6c452a8"},
    why="megatron-core 0.16 has no embedding multiplier, later ones only with use_mup",
    retires_when="the range starts at a version whose multiplier works without use_mup",
)
