"""The catalogue as plain rows with verdicts: for the command line, RUN.md and `config/patches.json`. No torch."""

from megatron_patches import upstream
from megatron_patches.catalog import catalogue
from megatron_patches.errors import PatchError
from megatron_patches.patch import Patch


def rows() -> list[dict[str, str]]:
    """One dict a patch; `status` is `matches 0.16.1`, `outside megatron-core`, `not for this version` or `differs`."""
    return [_row(patch) for patch in catalogue()]


def _row(patch: Patch) -> dict[str, str]:
    status, problem = _verdict(patch)
    return {
        "name": patch.name,
        "area": patch.area,
        "rung": patch.rung.name,
        "target": patch.target,
        "versions": patch.versions,
        "upstream": upstream.version(),
        "fingerprint": upstream.fingerprint(upstream.watched(patch)) if status.startswith("matches") else "",
        "status": status,
        "problem": problem,
        "why": patch.why,
        "retires_when": patch.retires_when,
    }


def _verdict(patch: Patch) -> tuple[str, str]:
    try:
        tested = upstream.check(patch)
    except PatchError as error:
        return "differs", str(error)
    return (f"matches {tested}" if tested else "outside megatron-core"), ""
