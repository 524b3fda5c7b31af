"""The typed errors that a user of a recipe can meet; the command line turns each into one line and an exit code.

A message names the key, file or rank at fault and what would be right there.
"""


class RecipeError(Exception):
    """Bad input (exit code 2)."""


class ConfigError(RecipeError):
    """A recipe or cluster file that can't be carried out; the message starts with the key."""


class RunError(RecipeError):
    """A run directory that is missing, damaged or belongs to something else."""


class CheckpointError(RunError):
    """A checkpoint that is damaged, incomplete, or of another recipe."""


class UnknownFormatError(CheckpointError):
    """A checkpoint of another version of this program: not damaged."""


class CheckFailed(Exception):
    """A check ran and its verdict is no (exit code 1)."""


class TrainingFault(Exception):
    """Training can't go on (non-finite values, a stalled or diverged replica); the message is the diagnosis."""
