"""What a difference from upstream is: one `Patch`, one file.

A patch file holds one `PATCH = Patch(...)` and imports nothing heavy at its top, so the catalogue can be listed
without torch. WRAP and REPLACE patches have an `install` that turns the upstream attribute into ours; the lower
rungs (CONFIG, SUBCLASS, HOOK) change no upstream attribute: they are listed, and their fingerprint is held, because
we lean on what the symbol does.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any

SUPPORTED = ">=0.16.1,<0.20"  # megatron-core; both ends are tested


class Rung(IntEnum):
    """How deep a difference cuts, mildest first. Use the lowest that works."""

    CONFIG = 1
    SUBCLASS = 2
    HOOK = 3
    WRAP = 4
    REPLACE = 5


@dataclass(frozen=True, kw_only=True)
class Patch:
    """One difference from upstream.

    Attributes:
        name: `area/what`.
        target: Symbol as `package.module:attribute.path`.
        fingerprints: Tested megatron-core version -> `upstream.fingerprint` of what is watched.
        why: What upstream does and why that will not do.
        retires_when: What would let us delete the file.
        install: (upstream's attribute, `apply`'s argument for this area) -> what takes its place.
        watch: megatron-core symbols whose text matters; the target itself where empty. A target outside
            megatron-core with nothing to watch is checked for existence only.
    """

    name: str
    target: str
    rung: Rung
    why: str
    retires_when: str
    fingerprints: Mapping[str, str] = field(default_factory=dict)
    versions: str = SUPPORTED
    install: Callable[[Any, Any], Any] | None = None
    watch: tuple[str, ...] = ()

    @property
    def area(self) -> str:
        """The folder: cpu, mup, wsd, attention or zero."""
        return self.name.split("/")[0]
