"""The errors that end a command with one clear line instead of a traceback."""

from __future__ import annotations


class UserError(ValueError):
    """Something the user can put right: an option, a file, a path, a shape. Exit code 2."""


class RunError(RuntimeError):
    """A run that could not go on though its input was in order. Exit code 1."""
