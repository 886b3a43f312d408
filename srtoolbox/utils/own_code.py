"""Errors in the code of users' own components: one line with class, file, line and reason."""

from __future__ import annotations

import inspect
import os
from traceback import walk_tb
from types import TracebackType
from typing import Any

from srtoolbox.errors import ComponentError, RunError, UserError, is_out_of_memory

DEBUG = "SRTOOLBOX_DEBUG"
"""If this environment variable is set, commands also print the traceback of an error."""

_MAX_REASON = 400  # characters; torch lists every tensor in some messages


def is_own(component: object) -> bool:
    """Returns whether a class, or the class of an object, is neither the toolbox's nor torch's."""
    return class_of(component).__module__.partition(".")[0] not in ("srtoolbox", "torch")


def class_of(component: object) -> type:
    return component if isinstance(component, type) else type(component)


def place_of(component: object, method: str) -> str:
    """Returns file and line of a method, or of the class that inherits it: ``" (net.py:12)"``.

    It is empty for code without a file.
    """
    cls = class_of(component)
    function = inspect.unwrap(getattr(cls, method, cls))
    code = getattr(function, "__code__", None)
    if code is None or (is_own(cls) and code.co_filename not in _own_files(cls)):
        try:
            file, line = inspect.getsourcefile(cls) or "", inspect.getsourcelines(cls)[1]
        except (OSError, TypeError):  # defined at a prompt
            return ""
    else:
        file, line = code.co_filename, code.co_firstlineno
    return f" ({_shown(file)}:{line})"


class calling:
    """Context of a call of a component's method.

    An exception of a user's own component becomes a ``ComponentError`` with one line. The toolbox's
    own errors, out of memory, errors of torch's compiler and interrupts pass unchanged.

    Args:
        component: A component, or its class.
        method: Name of the method, for the message.
        passed: Kinds of exceptions that pass too.
    """

    __slots__ = ("_component", "_method", "_passed")

    def __init__(
        self, component: object, method: str, passed: tuple[type[Exception], ...] = ()
    ) -> None:
        self._component, self._method = component, method
        self._passed = (UserError, RunError, *passed)

    def __enter__(self) -> None:
        pass

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if not isinstance(error, Exception) or isinstance(error, self._passed):
            return
        if not is_own(self._component) or is_out_of_memory(error) or _is_of_compiler(error):
            return
        raise ComponentError(describe_error(self._component, self._method, error)) from error


def describe_error(component: object, method: str, error: BaseException) -> str:
    """Returns one line about an exception that a method of a component raised."""
    cls = class_of(component)
    files = _own_files(cls)
    lines = [
        f" ({_shown(frame.f_code.co_filename)}:{line})"
        for frame, line in walk_tb(error.__traceback__)
        if frame.f_code.co_filename in files
    ]
    place = lines[-1] if lines else place_of(cls, method)
    reason = " ".join(str(error).split())
    if len(reason) > _MAX_REASON:
        reason = reason[:_MAX_REASON] + "…"
    kind = type(error).__name__
    return (
        f"{cls.__name__}.{method}{place}: {f'{kind}: {reason}' if reason else kind}; set the "
        f"environment variable {DEBUG}=1 to see the traceback"
    )


def raised_by(component: object, error: BaseException) -> bool:
    """Returns whether a component's own code raised an exception, not code that it calls."""
    *_, (frame, _) = walk_tb(error.__traceback__)
    return frame.f_code.co_filename in _own_files(class_of(component))


def _own_files(cls: type) -> set[str]:
    """Returns the files that define a class and its bases, without the toolbox's and torch's."""
    files = set()
    for base in cls.__mro__:
        if base is not object and is_own(base):
            for member in vars(base).values():
                if code := getattr(inspect.unwrap(member), "__code__", None):
                    files.add(code.co_filename)
    return files


def _is_of_compiler(error: BaseException) -> bool:
    return type(error).__module__.startswith(("torch._dynamo", "torch._inductor"))


def _shown(file: str) -> str:
    """Returns a path relative to the current directory if that is shorter."""
    try:
        return min(os.path.relpath(file), file, key=len)
    except ValueError:  # another drive
        return file


def describe_value(value: Any) -> str:
    """Describes in words what a component returned: ``"a tuple of 2"``."""
    if hasattr(value, "shape") and hasattr(value, "dtype"):
        kind = str(value.dtype).removeprefix("torch.")
        name = "a tensor" if type(value).__module__.startswith("torch") else "an array"
        return f"{name} of shape {tuple(value.shape)} and type {kind}"
    if value is None:
        return "None (is the return statement missing?)"
    if isinstance(value, dict):
        return f"a dict with {', '.join(map(repr, value)) or 'no keys'}"
    if isinstance(value, list | tuple):
        return f"a {type(value).__name__} of {len(value)}"
    return f"a value of type {type(value).__name__}"
