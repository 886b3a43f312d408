"""Tests ``srtoolbox.media.output``."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from srtoolbox.errors import RunError
from srtoolbox.media.output import replacing


@pytest.mark.parametrize("name", ["a" * 251 + ".png", "日" * 83 + ".png"])
def test_the_longest_names(tmp_path, name):
    with replacing(tmp_path / name) as temporary:
        temporary.write_bytes(b"x")
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_a_read_only_disk(tmp_path, monkeypatch):
    def refuse(self: Path, *_: object, **__: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(self))

    monkeypatch.setattr(Path, "unlink", refuse)
    message = r"a\.png: cannot be written \(Read-only"
    with pytest.raises(RunError, match=message), replacing(tmp_path / "a.png") as temporary:
        refuse(temporary)
