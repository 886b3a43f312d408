"""Errors that end a command with one clear line instead of a traceback."""

from __future__ import annotations

from collections.abc import Iterable


class UserError(ValueError):
    """Invalid input that the user can correct: an option, a file, a path, a shape. Exit code 2."""


class ComponentError(UserError):
    """A mistake in the code of a user's own component, such as a network of a plugin."""


class RunError(RuntimeError):
    """A failure at run time although the input was valid. Exit code 1."""


def check_choice(name: str, value: object, choices: Iterable[object]) -> None:
    """Raises a UserError that lists ``choices`` if the option ``name`` has another ``value``."""
    *others, last = allowed = list(choices)
    if value not in allowed:
        raise UserError(f"{name} must be {', '.join(map(repr, others))} or {last!r}, got {value!r}")


def is_out_of_memory(error: BaseException) -> bool:
    """Returns whether an error says that a device or the machine ran out of memory."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":  # torch's
        return True
    return isinstance(error, RuntimeError) and "can't allocate memory" in str(error)
