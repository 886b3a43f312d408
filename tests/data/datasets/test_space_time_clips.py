"""Clips in space and time: which frames are given, wanted, scored; flow in training samples."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from srtoolbox.data.datasets.space_time_clips import SpaceTimeClips
from srtoolbox.data.stream import SampleStream, sample_rng, split_batch
from srtoolbox.data.transforms.flow import flow_between, orient_flow
from srtoolbox.errors import UserError


def save_clip(root: Path, name: str, frames: int, size: int = 48, lq: bool = True) -> None:
    """Frame t has the value t everywhere."""
    for folder, factor in (("GT", 1), ("LR4x", 4))[: 1 + lq]:
        (root / folder / name).mkdir(parents=True)
        for t in range(frames):
            image = np.full((size // factor, size // factor + 4 // factor, 3), t, np.uint8)
            assert cv2.imwrite(str(root / folder / name / f"{t:08d}.png"), image)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    save_clip(tmp_path, "a", 15)
    save_clip(tmp_path, "b", 7)
    return tmp_path


def values(frames: np.ndarray) -> list[int]:
    return frames[:, 0, 0, 0].tolist()


def test_windows_share_one_frame_which_is_scored_once(root: Path) -> None:
    data = SpaceTimeClips(dataroot=str(root))
    assert (data.time_scale, data.num_frame, data.reference, data.span) == (2, 4, None, 7)
    samples = [data[i] for i in range(len(data))]
    assert [s["key"] for s in samples] == ["a", "a", "b"]
    assert [values(s["lq"]) for s in samples] == [[0, 2, 4, 6], [6, 8, 10, 12], [0, 2, 4, 6]]
    assert values(samples[1]["gt"]) == [6, 7, 8, 9, 10, 11, 12]
    assert samples[1]["frames"][0] == "00000006"
    assert samples[0]["kinds"] == ["given", "interpolated"] * 3 + ["given"]
    assert [s["scored"] for s in samples] == [[*range(7)], [*range(1, 7)], [*range(7)]]
    assert samples[0]["lq"].shape == (4, 3, 12, 13)
    assert samples[0]["gt"].shape == (7, 3, 48, 52)


def test_other_rates_and_skipped_ends(root: Path) -> None:
    data = SpaceTimeClips(dataroot=str(root), time_scale=3, num_frame=2, skip_frames=1)
    sample = data[0]
    assert values(sample["lq"]) == [0, 3]
    assert sample["kinds"] == ["given", "interpolated", "interpolated", "given"]
    scored = [
        (s["key"], values(s["gt"])[t])
        for s in map(data.__getitem__, range(len(data)))
        for t in s["scored"]
    ]
    # Whole windows reach frame 12 of 15, and frame 6 of 7, which is an end.
    assert scored == [("a", t) for t in range(1, 13)] + [("b", t) for t in range(1, 6)]


def test_lr_is_made_where_there_is_none(tmp_path: Path) -> None:
    save_clip(tmp_path, "a", 7, lq=False)
    assert values(SpaceTimeClips(dataroot=str(tmp_path))[0]["lq"]) == [0, 2, 4, 6]


def test_training_windows(root: Path) -> None:
    data = SpaceTimeClips(dataroot=str(root), gt_size=32, random_reverse=True)
    seen = set()
    for step in range(150):
        sample = data.draw(0, sample_rng(0, step, 0))
        gt, lq = values(sample["gt"]), values(sample["lq"])
        assert gt[::2] == lq
        assert abs(gt[0] - gt[-1]) == 6
        assert sample["lq"].shape == (4, 3, 8, 8)
        assert "flow" not in sample
        seen.add((gt[0], gt[-1]))
    assert {(a, b) for a in range(15) for b in range(15) if abs(a - b) == 6} == seen


def test_legacy_repeats_the_last_frame(root: Path) -> None:
    data = SpaceTimeClips(dataroot=str(root), gt_size=32, legacy=True)
    sample = data.draw(1, sample_rng(0, 0, 0))
    assert values(sample["lq"]) == [6, 6, 6, 6]
    assert values(sample["gt"]) == [0, 1, 2, 3, 4, 5, 6]


def test_flow_comes_along_in_its_orientation(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    picture = cv2.GaussianBlur(rng.integers(0, 256, (200, 200, 3)).astype(np.float32), (0, 0), 8)
    picture = ((picture - picture.min()) / np.ptp(picture) * 255).astype(np.uint8)
    (tmp_path / "GT" / "a").mkdir(parents=True)
    for t in range(7):
        cut = picture[2 * t : 2 * t + 160, 4 * t : 4 * t + 160]
        assert cv2.imwrite(str(tmp_path / "GT" / "a" / f"{t:03d}.png"), cut)
    data = SpaceTimeClips(dataroot=str(tmp_path), gt_size=160, flow="DIS")
    stream, codes = SampleStream(data, 0, 3), set()
    for batch in stream.batches(0, 4):
        assert batch["flow"].shape == (3, 2, 3, 2, 40, 40)
        parts = list(split_batch(batch, 3))
        assert [len(part["flow"]) for part in parts] == [1, 1, 1]
        for lq, flow in zip(batch["lq"], batch["flow"], strict=True):
            # From frame to frame LR moves by (-2, -1); the flow of the turned frames says so too.
            ours = flow.median(-1).values.median(-1).values
            again = flow_between("DIS", lq.numpy())
            theirs = torch.from_numpy(np.median(again, (-2, -1)))
            torch.testing.assert_close(ours, theirs, atol=0.1, rtol=0)
            codes.add(tuple(ours[0, 0].round().int().tolist()))
    assert len(codes) > 4
    first = stream[0]
    turned = orient_flow(torch.from_numpy(first["flow"]), first["orientation"])
    assert torch.equal(next(stream.batches(0, 1))["flow"][0], turned)


def test_faults_name_the_clip(root: Path) -> None:
    with pytest.raises(UserError, match=r"b has 7 frames, too few for windows of 9 \(5 given"):
        SpaceTimeClips(dataroot=str(root), num_frame=5)
    with pytest.raises(UserError, match="expected at least 64×64"):
        SpaceTimeClips(dataroot=str(root), gt_size=64).check_training()
    for name, value in (("time_scale", 1), ("num_frame", 1), ("skip_frames", -1)):
        with pytest.raises(UserError, match=f"{name} must be at least"):
            SpaceTimeClips(dataroot=str(root), **{name: value})
    with pytest.raises(UserError, match="dataroot is missing"):
        SpaceTimeClips()
    with pytest.raises(UserError, match="not a multiple of scale"):
        SpaceTimeClips(dataroot=str(root), gt_size=30)


def test_the_real_clip(reference: Path) -> None:
    data = SpaceTimeClips("jilin189", str(reference / "data" / "Jilin"), "test")
    assert len(data) == 1
    sample = data[0]
    assert sample["lq"].shape == (4, 3, 160, 160)
    assert sample["gt"].shape == (7, 3, 640, 640)
    assert len(data.paths()) == 14
