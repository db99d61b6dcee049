"""The command line."""

from serving.cli.app import main

__all__ = ["main"]
