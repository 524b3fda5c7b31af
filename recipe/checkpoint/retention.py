"""Which checkpoints stay: the last few, every stage's end, and the multiples that the recipe keeps."""

import shutil
from pathlib import Path

from recipe.branch import is_kept_multiple
from recipe.resolve import ResolvedRun
from recipe.rundir import RunDir, tokens_of, write_text


def to_remove(folders: list[Path], resolved: ResolvedRun) -> list[Path]:
    """Of whole checkpoints in order of tokens, those that nothing keeps."""
    config = resolved.config.checkpoint
    stage_ends = {stage.end_tokens for stage in resolved.stages}
    kept_back = folders[-config.keep_last :]
    return [
        folder
        for folder in folders
        if folder not in kept_back
        and tokens_of(folder) not in stage_ends
        and not is_kept_multiple(tokens_of(folder), resolved)
    ]


def remove_old(run: RunDir, resolved: ResolvedRun) -> None:
    """Removes what nothing keeps and names the newest in LATEST; the one being written isn't seen yet, so never counts."""
    folders = run.whole_checkpoints()
    for folder in to_remove(folders, resolved):
        hidden = folder.with_name(f".removing-{folder.name}")
        folder.rename(hidden)  # never half a checkpoint under a whole one's name
        shutil.rmtree(hidden)
    if folders:
        write_text(run.latest, folders[-1].name + "\n")
