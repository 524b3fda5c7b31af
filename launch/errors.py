"""The typed errors of this room; the command line turns each into one message on stderr and exit code 2."""


class LaunchError(Exception):
    """Something that was asked for can't be started: the message says what is wrong and what would be right."""


class ClusterError(LaunchError):
    """A site file, or a request that the site's cluster would never run."""


class SlurmError(LaunchError):
    """A SLURM command that failed; the message has the command and what it said."""
