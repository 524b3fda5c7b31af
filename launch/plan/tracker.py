"""Counts the bytes of every live tensor storage, by what it is for: on fake tensors (a plan) and on real ones (a check).

The number is what the program asks of an allocator; no allocator, no device and no data are needed. Storages are tagged as
they appear: by the module whose forward runs, as workspace during backward, and as weights, gradients, masters or moments
where the training program holds them as such.
"""

import weakref
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter

KINDS = (  # part of a module's name → what its tensors count as, first match
    ("layernorm", "norms"), ("core_attention", "attention"), ("self_attention", "qkv"), ("mlp", "mlp"),
    ("output_layer", "logits and loss"), ("embedding", "norms"), ("decoder", "norms"),
)  # fmt: skip


class StorageTracker(TorchDispatchMode):
    """Running and peak bytes of live storages, by tag. `peak()` is the snapshot at the highest total."""

    def __init__(self) -> None:
        super().__init__()
        self.live: dict[str, int] = defaultdict(int)
        self.total = 0
        self.highest = 0
        self._at_peak: dict[str, int] = {}
        self._stack: list[str] = []
        self._tags: dict[int, tuple[str, int]] = {}
        self._refs: dict[int, weakref.ref] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for value in tree_iter(result):
            if isinstance(value, torch.Tensor) and value.device.type != "meta":
                self._see(value, self._stack[-1] if self._stack else "workspace")
        return result

    def _see(self, tensor: torch.Tensor, tag: str) -> None:
        storage = tensor.untyped_storage()
        key = storage._cdata
        size = storage.nbytes()
        if key in self._tags and self._refs[key]() is not None:
            return
        self._tags[key] = (tag, size)
        self._refs[key] = weakref.ref(storage, partial(self._gone, key))
        self._add(tag, size)

    def _gone(self, key: int, _: object = None) -> None:
        tag, size = self._tags.pop(key, ("", 0))
        self._refs.pop(key, None)
        self._add(tag, -size)

    def _add(self, tag: str, size: int) -> None:
        self.live[tag] += size
        self.total += size
        if self.total > self.highest:
            self.highest = self.total
            self._at_peak = dict(self.live)

    def tag(self, tensor: torch.Tensor | None, tag: str) -> None:
        """Counts a tensor's storage as `tag` from now on (also in the snapshot, where it was alive at the peak)."""
        if tensor is None:
            return
        self._see(tensor, tag)
        key = tensor.untyped_storage()._cdata
        before, size = self._tags[key]
        if before != tag:
            self._tags[key] = (tag, size)
            self.live[before] -= size
            self.live[tag] += size

    @contextmanager
    def kind(self, tag: str) -> Iterator[None]:
        """Tags what appears inside."""
        self._stack.append(tag)
        try:
            yield
        finally:
            self._stack.pop()

    def watch(self, module: torch.nn.Module) -> None:
        """Tags by the module whose forward runs, and gradients as soon as they are accumulated."""
        for name, part in module.named_modules():
            tag = next((kind for word, kind in KINDS if word in name.rpartition(".")[2]), None)
            if tag:
                part.register_forward_pre_hook(
                    lambda *_, tag=tag: self._stack.append(f"activations: {tag}" if "logits" not in tag else tag)
                )
                part.register_forward_hook(lambda *_: self._stack.pop() and None, always_call=True)
        for parameter in module.parameters():
            self.tag(parameter.data, "weights")
            if parameter.requires_grad:
                parameter.register_post_accumulate_grad_hook(lambda p: self.tag(p.grad, "gradients"))

    def restart(self) -> None:
        """Forgets the peak; what is alive stays counted."""
        self.highest = self.total
        self._at_peak = dict(self.live)

    def peak(self) -> dict[str, int]:
        return {tag: size for tag, size in self._at_peak.items() if size}
