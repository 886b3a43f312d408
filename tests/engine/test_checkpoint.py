"""Checkpoints: what is kept, and what is said about damaged ones."""

from __future__ import annotations

import logging
import pickle
from pathlib import Path

import pytest
import torch

from srtoolbox.engine.checkpoint import CheckpointFolder

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

    def test_all_damaged(self, tmp_path: Path) -> None:
        folder = CheckpointFolder(tmp_path)
        folder.save(1, {"step": 1}).write_bytes(b"?")
        assert folder.load_latest(CPU) is None

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
            raise OSError(28, "No space left on device")

        monkeypatch.setattr("os.fsync", fail)
        with pytest.raises(OSError, match="No space left"):
            folder.save(2, {"step": 2})
        assert steps(tmp_path) == [1]
        assert folder.load_latest(CPU)["step"] == 1

    def test_what_a_killed_write_left_is_removed(self, tmp_path: Path) -> None:
        (tmp_path / ".step_00000001-0123456789abcdef.ckpt.x1y2.tmp").write_bytes(b"half")
        folder = CheckpointFolder(tmp_path)
        assert folder.load_latest(CPU) is None
        saved = folder.save(1, {"step": 1})
        assert list(tmp_path.iterdir()) == [saved]

    def test_other_files_are_left_alone(self, tmp_path: Path) -> None:
        (tmp_path / "notes.txt").write_text("mine")
        folder = CheckpointFolder(tmp_path, 1)
        for step in (1, 2):
            folder.save(step, {"step": step})
        assert (tmp_path / "notes.txt").exists()


def test_checkpoints_are_safe_to_load(tmp_path: Path) -> None:
    """A checkpoint is data: loading one from elsewhere cannot run code."""
    folder = CheckpointFolder(tmp_path)
    trace = tmp_path / "executed"

    class Evil:
        def __reduce__(self) -> tuple:
            return Path.touch, (trace,)

    folder.save(1, {"step": Evil()})
    with pytest.raises(pickle.UnpicklingError):
        folder.load_latest(CPU)
    assert not trace.exists()
