"""Checkpoints and weight files: what is kept, what is refused, and what is said about it."""

from __future__ import annotations

import logging
import pickle
from pathlib import Path

import pytest
import torch
from torch import nn

from srtoolbox.archs.edsr import EDSR
from srtoolbox.engine.checkpoint import (
    CheckpointFolder,
    load_weights,
    read_weights,
    save_weights,
    weights_hash,
)
from srtoolbox.errors import UserError

CPU = torch.device("cpu")


def net(seed: int = 0) -> EDSR:
    torch.manual_seed(seed)
    return EDSR(scale=2, num_feat=4, num_block=1)


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


class TestWeights:
    def test_round_trip(self, tmp_path: Path) -> None:
        path = tmp_path / "weights" / "net.pth"
        arch = {"type": "EDSR", "num_feat": 4}
        name = save_weights(path, arch, net(0))
        other = net(1)
        assert weights_hash(other) != name
        line = load_weights(other, path)
        assert weights_hash(other) == name == weights_hash(net(0))
        count = len(other.state_dict())
        assert line == f"{path}: {count} of {count} tensors loaded from params"
        assert read_weights(path)["arch"] == arch

    def test_the_average_is_preferred(self, tmp_path: Path) -> None:
        name = save_weights(tmp_path / "net.pth", {}, net(0), net(1))
        assert name == weights_hash(net(1))
        loaded = net(2)
        assert "params_ema" in load_weights(loaded, tmp_path / "net.pth")
        assert weights_hash(loaded) == name

    @pytest.mark.parametrize("prefix", ["", "module."])
    @pytest.mark.parametrize("entry", [None, "params", "params_ema"])
    def test_other_peoples_files(self, tmp_path: Path, prefix: str, entry: str | None) -> None:
        state = {prefix + key: value for key, value in net(0).state_dict().items()}
        torch.save({entry: state} if entry else state, tmp_path / "net.pth")
        loaded = net(1)
        line = load_weights(loaded, tmp_path / "net.pth")
        assert (entry or "a plain file") in line
        assert weights_hash(loaded) == weights_hash(net(0))

    def test_misfits_are_named(self, tmp_path: Path) -> None:
        state = net(0).state_dict()
        state["conv_1st.weight"] = state.pop("conv_first.weight")
        state["conv_last.bias"] = torch.zeros(7)
        torch.save(state, tmp_path / "net.pth")
        loaded = net(1)
        with pytest.raises(UserError, match=r"net\.pth: does not fit EDSR: \d+ of \d+") as caught:
            load_weights(loaded, tmp_path / "net.pth")
        for word in ("conv_first.weight", "conv_1st.weight", "conv_last.bias", "strict_load_g"):
            assert word in str(caught.value)
        assert weights_hash(loaded) == weights_hash(net(1))  # nothing was loaded
        count = len(state)
        line = load_weights(loaded, tmp_path / "net.pth", strict=False)
        assert f"{count - 2} of {count} tensors" in line
        assert torch.equal(loaded.conv_first.weight, net(1).conv_first.weight)
        assert torch.equal(loaded.conv_last.weight, net(0).conv_last.weight)

    def test_nothing_fits(self, tmp_path: Path) -> None:
        torch.save({"other": torch.zeros(1)}, tmp_path / "net.pth")
        with pytest.raises(UserError, match="none of its tensors fits EDSR"):
            load_weights(net(), tmp_path / "net.pth", strict=False)

    @pytest.mark.parametrize(
        ("content", "words"),
        [
            ([torch.zeros(1)], "holds a list, not a dict of tensors"),
            ({"params": torch.zeros(1)}, "'params' holds no named tensors"),
            ({0: torch.zeros(1)}, "holds no named tensors"),
            ({"state_dict": {"w": torch.zeros(1)}, "epoch": 3}, "does not fit EDSR: 0 of"),
        ],
    )
    def test_foreign_files(self, tmp_path: Path, content: object, words: str) -> None:
        torch.save(content, tmp_path / "net.pth")
        with pytest.raises(UserError, match=rf"net\.pth.*{words}"):
            load_weights(net(), tmp_path / "net.pth")

    @pytest.mark.parametrize("content", [b"", b"\x89PNG\r\n\x1a\n", b"text\n"])
    def test_no_weight_file(self, tmp_path: Path, content: bytes) -> None:
        (tmp_path / "net.pth").write_bytes(content)
        with pytest.raises(UserError, match=r"net\.pth: not a weight file of tensors"):
            load_weights(net(), tmp_path / "net.pth")

    def test_missing_file_and_folder(self, tmp_path: Path) -> None:
        with pytest.raises(UserError, match=r"none\.pth: no such weight file"):
            load_weights(net(), tmp_path / "none.pth")
        with pytest.raises(UserError, match=str(tmp_path)):
            load_weights(net(), tmp_path)

    def test_nothing_in_a_file_is_executed(self, tmp_path: Path) -> None:
        path, trace = tmp_path / "net.pth", tmp_path / "executed"

        class Evil:
            def __reduce__(self) -> tuple:
                return Path.touch, (trace,)

        for save in (torch.save, lambda value, file: file.write_bytes(pickle.dumps(value, 2))):
            save({"params": Evil()}, path)
            with pytest.raises(UserError, match=r"net\.pth: not a weight file of tensors"):
                load_weights(net(), path)
        assert not trace.exists()


class TestWeightsHash:
    def test_depends_on_every_value(self) -> None:
        one, two = net(), net()
        assert weights_hash(one) == weights_hash(two)
        with torch.no_grad():
            two.conv_last.bias[0].add_(1e-6)
        assert weights_hash(one) != weights_hash(two)

    def test_is_independent_of_memory_format(self) -> None:
        assert weights_hash(net().to(memory_format=torch.channels_last)) == weights_hash(net())

    def test_scalars_and_other_types(self) -> None:
        norm = nn.BatchNorm2d(2).bfloat16()
        before = weights_hash(norm)
        norm.num_batches_tracked += 1
        assert weights_hash(norm) != before
        assert len(before) == 12


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
