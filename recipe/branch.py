"""A decay branch: the stages of a recipe after some stable checkpoint, as a run directory of its own below the run.

The branch's recipe is the run's, with the stage that it leaves cut off at the checkpoint; so its steps, streams and
learning rate go on exactly where the checkpoint stands, and several branches of one stable stage are compared fairly.
"""

from pathlib import Path

from recipe.config import RunConfig, StageConfig
from recipe.errors import ConfigError, RunError
from recipe.lower import schedule_of
from recipe.resolve import BranchRef, ResolvedRun, resolve
from recipe.rundir import RunDir, tokens_of


def branch_config(config: RunConfig, *, name: str, stage: str, tokens: int, duration_tokens: int) -> RunConfig:
    """The recipe of a branch that leaves `stage` once the run has seen so many tokens.

    Args:
        config: Of the run, its decay stages changed as the branch wants them.
        name: Of the branch.
        stage: The stage that the checkpoint belongs to.
        tokens: Consumed at the checkpoint, over all stages.
        duration_tokens: Of the run, as the rule for batch and duration counts them: however long the branch is, its
            optimizer's values are those that the checkpoint was trained with.
    """
    names = [one.name for one in config.stages]
    index = names.index(stage)
    later = config.stages[index + 1 :]
    if not later:
        raise ConfigError(f"stages: none comes after {stage}; a branch needs at least one, with its tokens, mixture and lr")
    before_tokens = sum(one.tokens for one in config.stages[:index])
    left: StageConfig = config.stages[index].model_copy(update={"tokens": tokens - before_tokens})
    mup = config.mup
    if mup.duration_tokens_base is not None:
        mup = mup.model_copy(update={"duration_tokens": duration_tokens})
    return config.model_copy(update={"name": name, "stages": [*config.stages[:index], left, *later], "mup": mup})


def find_checkpoint(run: RunDir, resolved: ResolvedRun, *, at_tokens: int) -> tuple[int, Path]:
    """The checkpoint at the first step that has seen so many tokens; raises `RunError` naming those that there are."""
    found = {tokens_of(path): path for path in run.whole_checkpoints()}
    for step in range(resolved.num_steps + 1):
        tokens = resolved.tokens_before(step)
        if tokens >= at_tokens:
            if tokens in found:
                return tokens, found[tokens]
            break
    have = ", ".join(str(tokens) for tokens in found) or "none yet"
    raise RunError(f"{run.root}: no checkpoint at {at_tokens} tokens; there are: {have}")


def is_kept_multiple(tokens: int, resolved: ResolvedRun) -> bool:
    """Whether this is the first checkpoint at or after a multiple of keep_every_tokens."""
    every = resolved.config.checkpoint.keep_every_tokens
    step_tokens = resolved.config.checkpoint.every_tokens
    if not every or not step_tokens:
        return False
    return tokens // every > max(tokens - step_tokens, 0) // every


def branch_points(resolved: ResolvedRun) -> list[int]:
    """Tokens of the checkpoints before the last stage that a finished run still has: where branches can leave. Ascending."""
    every = resolved.config.checkpoint.every_tokens
    found = {stage.end_tokens for stage in resolved.stages[:-1]}
    last_start = resolved.stages[-1].start_tokens
    for step in range(resolved.num_steps):
        before, tokens = resolved.tokens_before(step), resolved.tokens_before(step + 1)
        if tokens > last_start:
            break
        if every and tokens // every > before // every and is_kept_multiple(tokens, resolved):
            found.add(tokens)
    return sorted(found)


def create_branch(
    run: RunDir, config: RunConfig, *, at_tokens: int, name: str, world_size: int, data_dir: Path | str = "data",
    workers: int = 1,
) -> RunDir:
    """Makes RUN/branches/NAME, ready to train from the checkpoint at that point.

    Raises:
        ConfigError: No stage follows, or the branch can't be carried out.
        RunError: There is no such checkpoint.
        PatchError: The branch would change the learning rate that lies behind the checkpoint.
    """
    from recipe.prepare import create_run, load_resolved

    parent = load_resolved(run)
    tokens, folder = find_checkpoint(run, parent, at_tokens=at_tokens)
    stage = folder.name.rpartition("-")[0]
    duration_tokens = parent.config.duration_tokens
    changed = branch_config(config, name=name, stage=stage, tokens=tokens, duration_tokens=duration_tokens)
    if changed.block_tokens != parent.config.block_tokens:
        raise ConfigError(
            f"stages: the branch's longest sequence is {changed.block_tokens} tokens, and the run drew its text in blocks of "
            f"{parent.config.block_tokens}; name the longest in the run's own recipe from the start, or go on from an export "
            "(windtunnel import)"
        )
    index = [one.name for one in changed.stages].index(stage)
    resolved = resolve(changed, world_size=world_size)
    landed = resolved.stages[index].end_tokens
    if landed != tokens:
        raise ConfigError(f"stages.{stage}: cut at {tokens} tokens its last step would end at {landed}; the batch differs")
    schedule_of(resolved).check_same(schedule_of(parent).state_dict(), consumed_tokens=tokens, branch=True)
    reference = BranchRef(parent=str(run.root.absolute()), checkpoint=str(folder.absolute()), at_tokens=tokens)
    return create_run(changed, run.branches / name, world_size=world_size, data_dir=data_dir, workers=workers, branch=reference)
