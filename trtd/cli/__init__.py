"""The command line: one file per command, wired here."""

from trtd.cli.main import main

__all__ = ["main"]
