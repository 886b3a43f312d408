"""Files are written whole or not at all, and logs survive a killed writer."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from srtoolbox.utils.files import append_lines, keep_lines, read_lines, remove_torn, write_atomic


def test_text_and_bytes(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "file.txt"
    write_atomic(path, "Grüße\n")
    assert path.read_text(encoding="utf-8") == "Grüße\n"
    write_atomic(path, b"\x00\xff")
    assert path.read_bytes() == b"\x00\xff"
    assert os.listdir(path.parent) == ["file.txt"]  # noqa: PTH208 (hidden files count)
    assert path.stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_failing_write_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    path = tmp_path / "file"
    write_atomic(path, "old")

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(*((os, call) if call == "fsync" else (Path, call)), fail)
    with pytest.raises(OSError, match="No space left"):
        write_atomic(path, "new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_records(tmp_path: Path) -> None:
    path = tmp_path / "run" / "log.jsonl"
    assert list(read_lines(path)) == []
    append_lines(path, [{"step": 1, "loss": 0.1}, {"step": 2, "loss": 1e-30}])
    append_lines(path, [{"step": 3, "name": "ü"}])
    assert list(read_lines(path)) == [
        {"step": 1, "loss": 0.1},
        {"step": 2, "loss": 1e-30},
        {"step": 3, "name": "ü"},
    ]


@pytest.mark.parametrize("exists", [False, True])
def test_records_that_could_not_be_synced_are_taken_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, exists: bool
) -> None:
    """Else a second try would write them twice."""
    path = tmp_path / "log.jsonl"
    if exists:
        append_lines(path, [{"step": 1}])
    before = list(read_lines(path))

    def fail(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", fail)
        with pytest.raises(OSError, match="No space left"):
            append_lines(path, [{"step": 2}])
    assert list(read_lines(path)) == before
    append_lines(path, [{"step": 2}])
    assert list(read_lines(path)) == [*before, {"step": 2}]


def test_what_killed_writers_left_is_removed(tmp_path: Path) -> None:
    write_atomic(tmp_path / "checkpoints" / "kept", "1")
    for torn in (".run.json.x1.tmp", "checkpoints/.step_1.ckpt.y2.tmp"):
        (tmp_path / torn).write_text("half")
    (tmp_path / "mine.tmp").write_text("not ours")
    remove_torn(tmp_path)
    assert {p.name for p in tmp_path.rglob("*")} == {"checkpoints", "kept", "mine.tmp"}


def test_a_torn_line_costs_itself_only(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    append_lines(path, [{"step": 1}])
    with path.open("a") as file:
        file.write('{"step": 2, "lo')
    assert list(read_lines(path)) == [{"step": 1}]
    append_lines(path, [{"step": 2}])
    assert list(read_lines(path)) == [{"step": 1}, {"step": 2}]


def test_later_steps_are_dropped(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    keep_lines(path, 5)
    assert not path.exists()
    append_lines(path, [{"step": step} for step in (2, 4, 6, 8)])
    keep_lines(path, 5)
    assert list(read_lines(path)) == [{"step": 2}, {"step": 4}]
    keep_lines(path, 0)
    assert list(read_lines(path)) == []
