"""Reads and checks the files of a study, which may be damaged or come from somebody else."""

from __future__ import annotations

import json
import logging
import types
from collections.abc import Callable, Iterator
from dataclasses import fields, is_dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Union, get_args, get_origin, get_type_hints

from srtoolbox.errors import UserError
from srtoolbox.utils.files import check_regular
from srtoolbox.utils.portable import number, numbers

_log = logging.getLogger("srtoolbox")

LIMIT = 2**63
"""The absolute value of integers is below this."""
_MAX_SIZE = 2**31  # bytes of a file
_KINDS = {str: "a text", int: "an integer", float: "a number", bool: "true or false"}


class Damage(ValueError):
    """A value that a file of a study cannot have."""


def check_value(value: Any, hint: Any, name: str) -> Any:
    """Returns a value read from JSON with the type of a hint.

    Args:
        value: The value.
        hint: A type hint of JSON values, ``Any``, or a dataclass, which is made from a dictionary.
        name: Name of the value for messages.

    Raises:
        Damage: if it has another type.
    """
    kind, parts = get_origin(hint), get_args(hint)
    if hint is Any:
        return value
    if kind in (Union, types.UnionType):
        if value is None and type(None) in parts:
            return None
        return check_value(value, next(part for part in parts if part is not type(None)), name)
    if is_dataclass(hint) and isinstance(hint, type):
        return _make(value, hint, name)
    if kind is dict:
        if not isinstance(value, dict):
            raise Damage(f"{name} must be a dictionary, got {_short(value)}")
        return {
            key: check_value(item, parts[1], f"{name}.{key}" if name else key)
            for key, item in value.items()
        }
    if kind is list:
        if not isinstance(value, list):
            raise Damage(f"{name} must be a list, got {_short(value)}")
        return [check_value(item, parts[0], f"{name}[{i}]") for i, item in enumerate(value)]
    value = number(value) if hint is float else value
    allowed: Any = (int, float) if hint is float else hint
    wrong = not isinstance(value, allowed) or (isinstance(value, bool) and hint is not bool)
    if wrong or (isinstance(value, int) and abs(value) >= LIMIT):
        raise Damage(f"{name} must be {_KINDS[hint]}, got {_short(value)}")
    return value


def check_path(text: str, name: str) -> None:
    """Checks that a name is a path below a folder.

    Raises:
        Damage: if it leads out of the folder, or is no path.
    """
    path = PurePosixPath(text.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or "\0" in text:
        raise Damage(f"{name} leads out of the study's folder: {_short(text)}")


def read_object(path: Path) -> dict[str, Any]:
    """Reads a file that holds one JSON object.

    Raises:
        FileNotFoundError: if there is no such file.
        UserError: if it is damaged; the message has the line.
    """
    content = _read(path)
    try:
        value = json.loads(content)
        _check_tree(value)
    except json.JSONDecodeError as error:
        raise _fault(f"{path}:{error.lineno}", error.msg) from None
    except (ValueError, RecursionError) as error:
        raise _fault(str(path), str(error)) from None
    if not isinstance(value, dict):
        raise _fault(str(path), f"expected a dictionary, got {_short(value)}")
    return value


class RecordFile:
    """Reads the records of a JSONL file of a study.

    Args:
        path: The file; it may be missing.
        check: Called with each record; raises ``Damage`` if it is wrong.
        quick: Called with the value of each line first; returns an equal record if nothing about
            it is unusual; ``check`` is not called then. It need not look for invalid texts.

    Attributes:
        unfinished: ``FILE:LINE`` of lines that a killed process left unfinished; they are skipped.
    """

    def __init__(
        self,
        path: Path,
        check: Callable[[dict[str, Any]], None],
        quick: Callable[[Any], dict[str, Any] | None] = lambda value: None,
    ) -> None:
        self._path, self._check, self._quick = path, check, quick
        self.unfinished: list[str] = []

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Yields the records.

        Raises:
            UserError: if a line is damaged; the message has its number.
        """
        if not self._path.exists():
            return
        for count, line in enumerate(_lines(self._path), 1):
            if not line.strip():
                continue
            try:
                record = self._quick(json.loads(line))
                if record is None:
                    record = self._thorough(line)
                elif "\\u" in line:  # only such an escape makes an invalid text
                    _check_tree(record)
            except json.JSONDecodeError as error:
                place = f"{self._path}:{count}"
                if line[0] == "{" and (line[-1] != "}" or error.pos >= len(line)):
                    self.unfinished.append(place)
                    _log.warning("%s is unfinished and was skipped", place)
                    continue
                raise _fault(place, f"{error.msg} at column {error.colno}") from None
            except (ValueError, RecursionError) as error:
                raise _fault(f"{self._path}:{count}", str(error)) from None
            yield record

    def _thorough(self, line: str) -> dict[str, Any]:
        record = json.loads(line, object_hook=numbers)
        _check_tree(record)
        if not isinstance(record, dict):
            raise Damage(f"expected a dictionary, got {_short(record)}")
        self._check(record)
        return record


def shape(**hints: Any) -> Callable[[dict[str, Any]], None]:
    """Returns a check of records: hints by key; the key of an ``Any | None`` may be missing."""

    def check(record: dict[str, Any]) -> None:
        for key, hint in hints.items():
            if key in record:
                record[key] = check_value(record[key], hint, key)
            elif type(None) not in get_args(hint):
                raise Damage(f"'{key}' is missing")

    return check


def _make(value: Any, kind: Any, name: str) -> Any:
    """Makes a dataclass from a dictionary."""
    hints = get_type_hints(kind)
    if not isinstance(value, dict):
        raise Damage(f"{name} must be a dictionary, got {_short(value)}")
    if unknown := sorted(value.keys() - hints.keys()):
        raise Damage(f"{name or 'the file'} has an unknown key {_short(unknown[0])}")
    checked = {
        key: check_value(item, hints[key], f"{name}.{key}" if name else key)
        for key, item in value.items()
    }
    try:
        return kind(**checked)
    except TypeError:
        missing = [field.name for field in fields(kind) if field.name not in checked]
        raise Damage(f"{name or 'the file'} lacks one of {', '.join(missing)}") from None


def _read(path: Path) -> str:
    return "\n".join(_lines(path))


def _lines(path: Path) -> Iterator[str]:
    """Yields the lines of a text file without line breaks."""
    try:
        check_regular(path, _MAX_SIZE)
    except UserError as error:
        raise UserError(f"{path} {error}") from None
    with path.open("rb") as file:
        for count, line in enumerate(file, 1):
            try:
                text = line.decode()
            except UnicodeDecodeError:
                raise _fault(f"{path}:{count}", "it is no UTF-8 text") from None
            yield text.removesuffix("\n")


def _check_tree(value: Any) -> None:
    """Checks all texts and keys of a value: lone surrogates cannot be written again."""
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError:
            raise Damage(f"{ascii(value)[:60]} is no valid text") from None
    elif isinstance(value, dict):
        for key, item in value.items():
            _check_tree(key)
            _check_tree(item)
    elif isinstance(value, list):
        for item in value:
            _check_tree(item)


def _fault(place: str, reason: str) -> UserError:
    return UserError(
        f"{place} is damaged: {reason}; restore the file from a copy, or run the comparison again "
        "without it"
    )


def _short(value: Any) -> str:
    text = ascii(value)
    return text if len(text) <= 60 else f"{text[:60]}…"
