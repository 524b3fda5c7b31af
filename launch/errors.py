"""The typed errors of this room; the command line turns each into one message on stderr and exit code 2."""

from recipe.exits import BAD_INPUT, FAILED


class LaunchError(Exception):
    """Something that was asked for can't be started: the message says what is wrong and what would be right."""


class ClusterError(LaunchError):
    """A site file, or a request that the site's cluster would never run."""


class SlurmError(LaunchError):
    """A SLURM command that failed; the message has the command and what it said."""


def exit_code_of(error: BaseException) -> int | None:
    """The exit code of a typed error of any room; None for anything else, which is a defect and keeps its traceback."""
    from data_prep.errors import DataError
    from megatron_patches.errors import PatchError
    from recipe.errors import CheckFailed, RecipeError, TrainingFault

    if isinstance(error, CheckFailed | TrainingFault):
        return FAILED
    return BAD_INPUT if isinstance(error, LaunchError | RecipeError | DataError | PatchError) else None
