"""Errors that end a command with one clear line instead of a traceback."""

from __future__ import annotations


class UserError(ValueError):
    """Invalid input that the user can correct: an option, a file, a path, a shape. Exit code 2."""


class RunError(RuntimeError):
    """A failure at run time although the input was valid. Exit code 1."""
