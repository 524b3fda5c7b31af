"""`Tensor.cuda()` is the tensor itself."""

from typing import Any

from megatron_patches.patch import Patch, Rung


def _install(original: Any, option: Any) -> Any:
    return lambda self, *args, **kwargs: self


PATCH = Patch(
    name="cpu/tensor_cuda",
    target="torch:Tensor.cuda",
    rung=Rung.REPLACE,
    fingerprints={"0.16.1": "1496ae828dac", "0.19.2": "9f14c0b6eed0"},
    why="a tied embedding is moved with .cuda() before it is copied to the last pipeline stage",
    retires_when="LanguageModule.setup_embeddings_and_output_layer leaves the weight on its device",
    install=_install,
    watch=("megatron.core.models.common.language_module.language_module:LanguageModule.setup_embeddings_and_output_layer",),
)
