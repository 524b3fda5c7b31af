"""The typed error of this room."""

from launch.errors import LaunchError


class SearchError(LaunchError):
    """A study that can't be made, or that doesn't fit what lies in its folder."""
