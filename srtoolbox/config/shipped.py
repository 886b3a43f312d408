"""Finds the option files that are shipped with the toolbox."""

from __future__ import annotations

import difflib
import itertools
import os
import re
import textwrap
from pathlib import Path

from srtoolbox.errors import UserError

_KINDS = {"train": "run", "test": "test", "compare": "study", "bench": "bench"}
_WIDTH = 90  # characters of a description
# Up to a colon, a semicolon or the end of the sentence; what is in parentheses does not end it.
_SENTENCE = re.compile(r"(?:[^(.;:?]|\([^)]*\)|[.;:](?=\S))+\??")


def options_folder() -> Path:
    """Returns the folder of the shipped option files.

    An installed package contains it; in a checkout it lies beside the package.
    """
    package = Path(__file__).resolve().parents[1]
    installed = package / "options"
    return installed if installed.is_dir() else package.parent / "options"


def shipped_files() -> dict[str, Path]:
    """Returns all shipped option files by name, for example ``"compare/quickstart"``."""
    folder = options_folder()
    files = {
        path.relative_to(folder).with_suffix("").as_posix(): path for path in folder.rglob("*.yml")
    }
    return dict(sorted(files.items()))


def kind_of(name: str) -> str | None:
    """Returns the kind of a shipped file: run, test, study, bench; None for one to inherit."""
    return _KINDS.get(name.partition("/")[0])


def leading_comment(path: Path) -> list[str]:
    """Returns the comment lines at the beginning of an option file, without ``#``."""
    lines = path.read_text(encoding="utf-8").splitlines()
    comment = itertools.takewhile(lambda line: line.startswith("#"), lines)
    return [line.removeprefix("#").strip() for line in comment]


def description_of(path: Path) -> str:
    """Returns the first sentence of an option file's leading comment, or else its ``name``.

    A long sentence is cut to one line.
    """
    text = " ".join(leading_comment(path))
    if not text:
        lines = path.read_text(encoding="utf-8").splitlines()
        names = (line.removeprefix("name:").strip() for line in lines if line.startswith("name:"))
        return next(names, "")
    sentence = _SENTENCE.match(text)
    return textwrap.shorten(sentence[0] if sentence else text, _WIDTH, placeholder=" …")


def find_shipped(text: str | os.PathLike[str]) -> str | None:
    """Returns the name of the shipped file that ``text`` denotes; None if there is none.

    Args:
        text: A full name (``compare/quickstart``) or the unique end of one (``quickstart``), with
            or without a leading ``options/`` and with or without ``.yml``. Files in ``_base_``
            need their full names.

    Raises:
        UserError: if several files end with ``text``; the message lists them.
    """
    wanted, names = _normalized(text), list(shipped_files())
    if wanted in names:
        return wanted
    found = [name for name in names if kind_of(name) and f"/{name}".endswith(f"/{wanted}")]
    if len(found) > 1:
        raise UserError(
            f"{os.fspath(text)}: {len(found)} shipped option files have this name: "
            f"{', '.join(found)}; give one of these names"
        )
    return found[0] if found else None


def resolve(path: str | os.PathLike[str]) -> Path:
    """Returns the option file that a user denotes by a path or by the name of a shipped file.

    A file that exists at ``path`` comes first.

    Raises:
        UserError: if there is no such file, or several shipped files have this name.
    """
    given = Path(path)
    if given.exists() and not given.is_dir():
        return given
    name = find_shipped(path)
    if name is not None:
        return shipped_files()[name]
    if given.exists():  # a folder; reading it gives the right message
        return given
    raise UserError(explain_miss(path))


def explain_miss(path: str | os.PathLike[str]) -> str:
    """Returns a line for a file that does not exist; it names similar shipped files."""
    close = _close_names(_normalized(path))
    names = " or ".join(f"'{name}'" for name in close)
    hint = f"did you mean {names}? " if close else ""
    return (
        f"no such file: {os.fspath(path)}; {hint}`srtoolbox options list` shows the shipped "
        "option files"
    )


def _normalized(text: str | os.PathLike[str]) -> str:
    """Returns ``text`` in the form of shipped names, which have neither prefix nor suffix.

    A name with ``..`` or an absolute path equals no shipped name, so none can lead out of the
    folder.
    """
    wanted = Path(text).as_posix()
    return wanted.removeprefix("options/").removesuffix(".yml")


def _close_names(wanted: str) -> list[str]:
    """Returns up to three shipped names that, as a whole or at their ends, are like ``wanted``."""
    ends: dict[str, list[str]] = {}
    for name in shipped_files():
        if kind_of(name):
            parts = name.lower().split("/")
            for start in range(len(parts)):
                ends.setdefault("/".join(parts[start:]), []).append(name)
    matches = difflib.get_close_matches(wanted.lower(), ends, n=3, cutoff=0.6)
    return list(dict.fromkeys(name for match in matches for name in ends[match]))[:3]
