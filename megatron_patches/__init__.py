"""How Megatron-Core is changed: muP, the WSD schedule, attention, the CPU platform.

Usable on its own from any Megatron-Core script: `megatron_patches.apply(mup=..., wsd=...)`.
Importing this package changes nothing and imports no torch. Start with `README.md`.
"""

from megatron_patches.apply import Applied, apply
from megatron_patches.errors import PatchError

__all__ = ["Applied", "PatchError", "apply"]
