"""What can be wrong with a question to the planner. Exit code 2: the message says what would be right."""

from launch.errors import LaunchError


class PlanError(LaunchError):
    """An impossible cluster, an unknown device, a layout that can't be, a file that can't be read."""
