"""Checkpoints: rotation, damaged files and a full disk."""

from __future__ import annotations

import errno
import hashlib
import io
import logging
import os
import signal
from pathlib import Path

import pytest
import torch

from srtoolbox.engine.training.checkpoint import CheckpointFolder
from srtoolbox.errors import RunError

CPU = torch.device("cpu")


def steps(folder: Path) -> list[int]:
    return sorted(int(path.name[5:13]) for path in folder.iterdir())


class TestCheckpointFolder:
    def test_round_trip(self, tmp_path: Path) -> None:
        folder = CheckpointFolder(tmp_path / "checkpoints")
        assert folder.load_latest(CPU) is None
        state = {"step": 3, "net": {"w": torch.rand(3)}, "best": {"value": float("inf")}}
        folder.save(3, state)
        loaded = folder.load_latest(CPU)
        assert torch.equal(loaded["net"]["w"], state["net"]["w"])
        assert loaded["best"] == state["best"]

    @pytest.mark.parametrize("keep", [1, 2, 3])
    def test_rotation(self, tmp_path: Path, keep: int) -> None:
        folder = CheckpointFolder(tmp_path, keep)
        for step in (5, 10, 15, 100_000_000):
            folder.save(step, {"step": step})
            assert folder.load_latest(CPU)["step"] == step
        assert len(list(tmp_path.iterdir())) == keep

    @pytest.mark.parametrize("damage", ["cut", "flip", "empty"])
    def test_damaged_newest(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture, damage: str
    ) -> None:
        folder = CheckpointFolder(tmp_path)
        folder.save(1, {"step": 1})
        newest = folder.save(2, {"step": 2})
        content = bytearray(newest.read_bytes())
        if damage == "flip":
            content[len(content) // 2] ^= 1
        newest.write_bytes({"cut": content[:100], "flip": content, "empty": b""}[damage])
        with caplog.at_level(logging.WARNING, "srtoolbox"):
            assert folder.load_latest(CPU)["step"] == 1
        assert f"{newest} is damaged (checksum differs)" in caplog.text

    def test_unreadable_newest(self, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        folder = CheckpointFolder(tmp_path)
        folder.save(1, {"step": 1})
        newest = folder.save(2, {"step": 2})
        newest.unlink()
        newest.mkdir()
        assert folder.load_latest(CPU)["step"] == 1
        assert f"{newest} cannot be read (" in caplog.text

    def test_all_damaged(self, tmp_path: Path) -> None:
        """A silent restart would lose the work."""
        folder = CheckpointFolder(tmp_path)
        for step in (1, 2):
            folder.save(step, {"step": step}).write_bytes(b"?")
        with pytest.raises(RunError, match=r"none of its checkpoints \(2\) can be used; restore"):
            folder.load_latest(CPU)

    def test_one_of_another_run(self, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        mine, other = (CheckpointFolder(tmp_path, run=name) for name in ("mine", "other"))
        mine.save(1, {"step": 1})
        path = other.save(2, {"step": 2})
        with caplog.at_level(logging.WARNING, "srtoolbox"):
            assert mine.load_latest(CPU)["step"] == 1
        assert f"{path} belongs to another run; trying the previous one" in caplog.text

    @pytest.mark.parametrize("kind", ["text", "tensor", "dict"])
    def test_one_of_another_program(self, tmp_path: Path, caplog, kind: str) -> None:
        folder = CheckpointFolder(tmp_path)
        folder.save(1, {"step": 1})
        content = {"tensor": torch.ones(2), "dict": {"params": {}}}
        buffer = io.BytesIO(b"whatever")
        if kind in content:
            torch.save(content[kind], buffer)
        data = buffer.getvalue()
        path = tmp_path / f"step_00000002-{hashlib.sha256(data).hexdigest()[:16]}.ckpt"
        path.write_bytes(data)
        assert folder.load_latest(CPU)["step"] == 1
        assert f"{path} is not a checkpoint" in caplog.text

    def test_a_damaged_one_never_drives_out_a_good_one(self, tmp_path: Path) -> None:
        folder = CheckpointFolder(tmp_path, 2)
        folder.save(10, {"step": 10})
        folder.save(20, {"step": 20}).write_bytes(b"?")
        assert folder.load_latest(CPU)["step"] == 10
        folder.save(25, {"step": 25})
        assert steps(tmp_path) == [10, 25]

    @pytest.mark.parametrize("again", [15, 20])
    @pytest.mark.parametrize("keep", [1, 2])
    def test_a_damaged_newest_never_outlives_what_replaces_it(
        self, tmp_path: Path, keep: int, again: int
    ) -> None:
        folder = CheckpointFolder(tmp_path, 2)
        folder.save(10, {"step": 10})
        folder.save(20, {"step": 20}).write_bytes(b"?")
        folder.keep = keep
        saved = folder.save(again, {"step": again, "tried": "again"})
        assert saved.exists()
        assert folder.load_latest(CPU)["tried"] == "again"
        assert steps(tmp_path) == ([10, again] if keep == 2 else [again])

    def test_saving_the_same_state_twice_keeps_it(self, tmp_path: Path) -> None:
        folder = CheckpointFolder(tmp_path, 1)
        paths = {folder.save(1, {"step": 1}) for _ in range(2)}
        assert set(tmp_path.iterdir()) == paths

    def test_a_failing_write_leaves_the_old_one(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        folder = CheckpointFolder(tmp_path, 1)
        folder.save(1, {"step": 1})

        def fail(*_: object) -> None:
            raise OSError(errno.EIO, "Input/output error")

        monkeypatch.setattr("os.fsync", fail)
        with pytest.raises(OSError, match="Input/output error"):
            folder.save(2, {"step": 2})
        assert steps(tmp_path) == [1]
        assert folder.load_latest(CPU)["step"] == 1

    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
    def test_a_signal_ends_the_wait_for_room(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
    ) -> None:
        folder = CheckpointFolder(tmp_path, 1)
        folder.save(1, {"step": 1})

        def fail(*_: object) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        monkeypatch.setattr("os.fsync", fail)
        monkeypatch.setattr("srtoolbox.utils.files.sleep", lambda _: signal.raise_signal(number))
        before = signal.getsignal(number)
        with pytest.raises(KeyboardInterrupt):
            folder.save(2, {"step": 2})
        assert signal.getsignal(number) is before
        assert steps(tmp_path) == [1]
        assert folder.load_latest(CPU)["step"] == 1

    def test_a_full_disk_is_waited_for(
        self,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        folder = CheckpointFolder(tmp_path, 1)
        folder.save(1, {"step": 1})
        pauses: list[float] = []
        fsync = os.fsync

        def full(handle: int) -> None:
            if len(pauses) < 9:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            fsync(handle)

        def pause(seconds: float) -> None:
            assert steps(tmp_path) == [1]  # the good one stays, and nothing half-written
            pauses.append(seconds)

        monkeypatch.setattr("os.fsync", full)
        monkeypatch.setattr("srtoolbox.utils.files.sleep", pause)
        with caplog.at_level(logging.INFO, "srtoolbox"):
            saved = folder.save(2, {"step": 2, "weights": torch.zeros(2**18)})
        assert pauses == [1, 2, 4, 8, 16, 32, 60, 60, 60]
        assert steps(tmp_path) == [2]
        assert folder.load_latest(CPU)["step"] == 2
        assert [record.message for record in caplog.records] == [
            f"the disk is full: waiting for room for {saved} (1.0 MiB); what was saved before is "
            "safe",
            f"there is room again: {saved} is written",
        ]

    def test_other_files_are_left_alone(self, tmp_path: Path) -> None:
        (tmp_path / "notes.txt").write_text("mine")
        folder = CheckpointFolder(tmp_path, 1)
        for step in (1, 2):
            folder.save(step, {"step": step})
        assert (tmp_path / "notes.txt").exists()


def test_checkpoints_are_safe_to_load(tmp_path: Path) -> None:
    """Loading a checkpoint from elsewhere cannot run code."""
    folder = CheckpointFolder(tmp_path)
    trace = tmp_path / "executed"

    class Evil:
        def __reduce__(self) -> tuple:
            return Path.touch, (trace,)

    folder.save(1, {"step": Evil()})
    with pytest.raises(RunError, match="can be used"):
        folder.load_latest(CPU)
    assert not trace.exists()
