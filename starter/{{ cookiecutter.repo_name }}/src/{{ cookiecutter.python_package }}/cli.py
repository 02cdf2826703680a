"""The project's commands: selfie's. ``kedro`` finds them here."""

from selfie.cli import cli

__all__ = ["cli"]
