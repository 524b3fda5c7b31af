"""The forms that a checkpoint is exported in, by name."""

from pathlib import Path

from recipe.checkpoint.reader import CheckpointReader
from recipe.errors import RunError
from recipe.export.hf import export_hf
from recipe.export.megatron import export_megatron
from recipe.export.minicpm import export_minicpm
from recipe.export.result import Export
from recipe.rundir import RunDir

FORMATS = {"hf": export_hf, "minicpm": export_minicpm, "megatron": export_megatron}
DTYPES = ("fp32", "bf16")


def export_checkpoint(
    checkpoint: Path, run: RunDir, out_dir: Path, *, format: str, dtype: str, max_shard_bytes: int, overwrite: bool,
    check: bool = True,
) -> Export:
    """Raises `RunError` for an unknown form or precision, and what the form raises.

    Without `check`, logits aren't compared, which takes the memory of two models; writing takes that of a shard.
    """
    if format not in FORMATS:
        raise RunError(f"--format {format}: one of {', '.join(FORMATS)}")
    if dtype not in DTYPES:
        raise RunError(f"--dtype {dtype}: one of {', '.join(DTYPES)}")
    return FORMATS[format](
        CheckpointReader(checkpoint), run, out_dir, dtype=dtype, max_shard_bytes=max_shard_bytes, overwrite=overwrite,
        check=check,
    )
