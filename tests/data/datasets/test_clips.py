"""Clips: windows, whole clips, training draws, LR made on the fly, cache, and faulty clips."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.images import assert_same, chw, picture, save

from srtoolbox.archs import Bicubic
from srtoolbox.data.datasets.clips import Clips
from srtoolbox.data.resize.array import imresize
from srtoolbox.data.stream import to_float
from srtoolbox.errors import UserError
from srtoolbox.metrics import get_protocol
from srtoolbox.metrics.psnr import PSNR

SCALE = 2
LENGTHS = {"a": 5, "b": 9, "c": 12}


def frame(clip: str, t: int, dtype: type = np.uint8) -> np.ndarray:
    return picture(24, 28, 1000 + 100 * ord(clip) + t, dtype)


def write(root: Path, lengths: dict[str, int], *, lq: bool = True, dtype: type = np.uint8) -> Path:
    """Clips whose LR frames are the bicubic reductions of their HR frames."""
    for clip, length in lengths.items():
        for t in range(length):
            image = frame(clip, t, dtype)
            save(root / "GT" / clip / f"{t:08d}.png", image)
            if lq:
                small = imresize(image, 1 / SCALE, edge="replicate")
                save(root / "LR" / clip / f"{t:08d}.png", small)
    return root


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("clips"), LENGTHS)


def clips(root: Path, **more: Any) -> Clips:
    given = {"dataroot": str(root), "scale": SCALE, "gt_size": 8, "round_between_passes": False}
    return Clips(**{**given, **more})


def lq_of(clip: str, t: int) -> np.ndarray:
    return chw(imresize(frame(clip, t), 1 / SCALE, edge="replicate"))


def times(clip: str, lq: np.ndarray) -> list[int]:
    """Which frames of a clip whole LR frames are."""
    known = {lq_of(clip, t).tobytes(): t for t in range(LENGTHS[clip])}
    return [known[np.ascontiguousarray(image).tobytes()] for image in lq]


def drawn_times(root: Path, index: int, seed: int, **more: Any) -> list[int]:
    """The frames of a training window: crops of the full size are whole frames."""
    dataset = clips(root, gt_size=24, **more)
    sample = dataset.draw(index, np.random.default_rng(seed))
    clip = sample["key"]
    found = []
    for image in sample["gt"] if sample["gt"].ndim == 4 else [sample["gt"]]:
        found += [
            t
            for t in range(LENGTHS[clip])
            for x in range(5)
            if np.array_equal(chw(frame(clip, t))[:, :, x : x + 24], image)
        ]
    return found


def test_every_frame_is_the_centre_of_a_window(root: Path) -> None:
    dataset = clips(root)
    assert len(dataset) == sum(LENGTHS.values())
    assert dataset.num_source == 3
    assert (dataset.num_frame, dataset.reference, dataset.channels) == (5, 2, 3)
    keys = [dataset[i]["key"] for i in range(len(dataset))]
    assert keys[:2] == ["a/00000000", "a/00000001"]
    assert len(set(keys)) == len(keys)
    sample = dataset[5 + 4]  # frame 4 of clip b
    assert sample["key"] == "b/00000004"
    assert sample["lq"].shape == (5, 3, 12, 14)
    assert times("b", sample["lq"]) == [2, 3, 4, 5, 6]
    assert np.array_equal(sample["gt"], chw(frame("b", 4)))
    assert "orientation" not in sample


@pytest.mark.parametrize(
    ("rule", "frames"),
    [
        ("centre", [0, 0, 0, 1, 2]),
        ("reflection", [2, 1, 0, 1, 2]),
        ("mirror", [1, 0, 0, 1, 2]),
        ("reflection_circle", [4, 3, 0, 1, 2]),
        ("circle", [3, 4, 0, 1, 2]),
    ],
)
def test_missing_neighbours(root: Path, rule: str, frames: list[int]) -> None:
    sample = clips(root, missing_neighbours=rule)[5]
    assert times("b", sample["lq"]) == frames
    assert np.array_equal(sample["gt"], chw(frame("b", 0)))


def test_target_all(root: Path) -> None:
    dataset = clips(root, target="all", num_frame=3)
    assert dataset.reference is None
    with pytest.raises(UserError, match="set num_frame: null to evaluate whole clips"):
        dataset[5]
    drawn = dataset.draw(1, np.random.default_rng(0))
    assert drawn["lq"].shape == (3, 3, 4, 4)
    assert drawn["gt"].shape == (3, 3, 8, 8)


def test_windows_that_are_followed_by_their_reversal(root: Path) -> None:
    more = {"num_frame": 3, "target": "all", "random_reverse": True}
    for seed in range(6):
        plain = clips(root, **more).draw(2, np.random.default_rng(seed))
        long = clips(root, mirror_sequence=True, **more).draw(2, np.random.default_rng(seed))
        assert long["orientation"] == plain["orientation"]
        for name in ("lq", "gt"):
            assert len(long[name]) == 6
            assert np.array_equal(long[name][:3], plain[name])
            assert np.array_equal(long[name][3:], plain[name][::-1])
    with pytest.raises(UserError, match=r"mirror_sequence needs .*; set target to 'all'"):
        clips(root, mirror_sequence=True)


def test_whole_clips(root: Path) -> None:
    dataset = clips(root, num_frame=None, target="all")
    assert (len(dataset), dataset.num_frame, dataset.reference) == (3, None, None)
    for index, (clip, length) in enumerate(LENGTHS.items()):
        sample = dataset[index]
        assert sample["key"] == clip
        assert times(clip, sample["lq"]) == list(range(length))
        assert sample["gt"].shape == (length, 3, 24, 28)
        assert sample["frames"] == [f"{t:08d}" for t in range(length)]
    words = "training needs windows of one length; set num_frame"
    with pytest.raises(UserError, match=words):
        dataset.check_training()
    with pytest.raises(UserError, match=words):
        dataset.draw(0, np.random.default_rng(0))


def test_skipped_frames(root: Path) -> None:
    dataset = clips(root, skip_frames=2)
    assert [dataset[i]["key"] for i in range(2)] == ["a/00000002", "b/00000002"]
    assert len(dataset) == 1 + 5 + 8
    assert times("b", dataset[1]["lq"]) == [0, 1, 2, 3, 4]  # left out as centres only
    with pytest.raises(UserError, match="a has 5 frames; skip_frames 3 leaves none"):
        clips(root, skip_frames=3)


@pytest.mark.slow
def test_training_windows_are_aligned(root: Path) -> None:
    dataset = clips(root, dataroot_lq=None)
    dataset.check_training()
    seen = set()
    for seed in range(24):
        sample = dataset.draw(seed % 3, np.random.default_rng(seed))
        assert sample["key"] == "abc"[seed % 3]
        assert sample["lq"].shape == (5, 3, 4, 4)
        assert sample["gt"].shape == (3, 8, 8)
        assert sample["lq"].flags.c_contiguous
        places = [
            (t, y, x)
            for t in range(LENGTHS[sample["key"]])
            for y in range(9)
            for x in range(11)
            if np.array_equal(lq_of(sample["key"], t)[:, y : y + 4, x : x + 4], sample["lq"][2])
        ]
        assert len(places) == 1
        t, y, x = places[0]
        whole = chw(frame(sample["key"], t))
        assert np.array_equal(whole[:, 2 * y : 2 * y + 8, 2 * x : 2 * x + 8], sample["gt"])
        for offset in range(-2, 3):
            part = lq_of(sample["key"], t + offset)[:, y : y + 4, x : x + 4]
            assert np.array_equal(part, sample["lq"][2 + offset])
        seen.add((t, y, x, sample["orientation"]))
    assert len(seen) == 24


@pytest.mark.slow
def test_windows_begin_anywhere(root: Path) -> None:
    more = {"num_frame": 3, "target": "all"}
    windows = {tuple(drawn_times(root, 0, seed, **more)) for seed in range(30)}
    assert windows == {(0, 1, 2), (1, 2, 3), (2, 3, 4)}


@pytest.mark.slow
def test_intervals_and_reversal(root: Path) -> None:
    more = {"num_frame": 3, "target": "all", "interval_list": [1, 3], "random_reverse": True}
    windows = [drawn_times(root, 2, seed, **more) for seed in range(40)]
    steps = {(b - a, c - b) for a, b, c in windows}
    assert steps == {(1, 1), (-1, -1), (3, 3), (-3, -3)}
    short = [drawn_times(root, 0, seed, **more) for seed in range(10)]  # 3 does not fit 5 frames
    assert {abs(b - a) for a, b, _ in short} == {1}


@pytest.mark.parametrize("num_frame", [2, 4, 5])
def test_the_reference_has_the_ground_truth_also_backwards(root: Path, num_frame: int) -> None:
    dataset = clips(root, num_frame=num_frame, random_reverse=True, gt_size=24, interval_list=[1])
    for seed in range(8):
        sample = dataset.draw(1, np.random.default_rng(seed))
        made = imresize(sample["gt"].transpose(1, 2, 0), 1 / SCALE, edge="replicate")
        inner = np.s_[:, :, 3:-3]  # where the crop's sides have no influence
        assert np.array_equal(chw(made)[inner], sample["lq"][dataset.reference][inner])


def test_draws_are_a_function_of_the_given_numbers(root: Path) -> None:
    more = {"interval_list": [1, 2], "random_reverse": True}
    forth, back = clips(root, **more), clips(root, **more)
    one = {i: forth.draw(i % 3, np.random.default_rng(i)) for i in range(9)}
    two = {i: back.draw(i % 3, np.random.default_rng(i)) for i in reversed(range(9))}
    assert_same([one[i] for i in range(9)], [two[i] for i in range(9)])


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_disk_cache_and_lr_made_here_give_the_same(tmp_path: Path, dtype: type) -> None:
    write(tmp_path / "both", LENGTHS, dtype=dtype)
    write(tmp_path / "gt", LENGTHS, lq=False, dtype=dtype)
    plain = clips(tmp_path / "both")
    others = [
        clips(tmp_path / "gt"),
        clips(tmp_path / "both", cache=str(tmp_path / "cache")),
        clips(tmp_path / "gt", cache=str(tmp_path / "cache")),
    ]
    others.append(pickle.loads(pickle.dumps(others[-1])))
    assert plain[0]["lq"].dtype == plain[0]["gt"].dtype == dtype
    for other in others:
        assert len(other) == len(plain)
        picks = (0, 7, 25)
        assert_same([other[i] for i in picks], [plain[i] for i in picks])
        assert_same(
            [other.draw(i % 3, np.random.default_rng(i)) for i in range(12)],
            [plain.draw(i % 3, np.random.default_rng(i)) for i in range(12)],
        )
    assert {path.parts[-3] for path in plain.paths()} == {"GT", "LR"}
    assert {path.parts[-3] for path in others[0].paths()} == {"GT"}


def test_lr_elsewhere(root: Path, tmp_path: Path) -> None:
    (tmp_path / "gt").mkdir()
    (tmp_path / "lq").mkdir()
    (tmp_path / "gt" / "GT").symlink_to(root / "GT")
    (tmp_path / "lq" / "LR").symlink_to(root / "LR")
    dataset = clips(tmp_path / "gt", dataroot_lq=str(tmp_path / "lq"))
    assert any(tmp_path / "lq" in path.parents for path in dataset.paths())
    assert_same([dataset[3]], [clips(root)[3]])


def test_clips_that_are_too_short(root: Path) -> None:
    dataset = clips(root, num_frame=7, missing_neighbours="reflection")
    assert times("a", dataset[0]["lq"]) == [3, 2, 1, 0, 1, 2, 3]  # fine for evaluation
    words = r"a has 5 frames, too few for windows of 7 at interval 1"
    with pytest.raises(UserError, match=words):
        dataset.check_training()
    with pytest.raises(UserError, match=words):
        dataset.draw(0, np.random.default_rng(0))
    with pytest.raises(UserError, match=r"windows of 5 at interval 2"):
        clips(root, interval_list=[3, 2]).check_training()


def test_frames_smaller_than_the_crop(root: Path) -> None:
    dataset = clips(root, gt_size=26)
    with pytest.raises(UserError, match=r"00000000\.png"):
        dataset.check_training()
    with pytest.raises(UserError, match="b is 14×12 in LR, smaller than the crop of 13"):
        dataset.draw(1, np.random.default_rng(0))


def test_clips_of_which_the_middle_frame_alone_has_a_ground_truth(tmp_path: Path) -> None:
    names = [f"00001/000{i}" for i in range(1, 3)]
    (tmp_path / "sep_testlist.txt").write_text("\n".join(names))
    for seed, name in enumerate(names):
        save(tmp_path / "target" / name / "im4.png", picture(32, 48, seed))
        for t in range(7):
            save(
                tmp_path / "low_resolution" / name / f"im{t + 1}.png", picture(8, 12, 10 * seed + t)
            )
    vimeo = {"layout": "vimeo90k", "split": "test", "scale": 4, "gt_size": 32}
    for num_frame in (7, 4):
        dataset = clips(tmp_path, num_frame=num_frame, random_reverse=True, **vimeo)
        dataset.check_training()
        assert len(dataset) == dataset.num_source == 2
        sample = dataset[1]
        assert sample["key"] == "00001/0002/im4"
        assert np.array_equal(sample["lq"][dataset.reference], chw(picture(8, 12, 13)))
        assert np.array_equal(sample["gt"], chw(picture(32, 48, 1)))
        for seed in range(6):
            drawn = dataset.draw(1, np.random.default_rng(seed))
            x = [
                x
                for x in range(5)
                if np.array_equal(
                    drawn["lq"][dataset.reference], chw(picture(8, 12, 13))[:, :, x : x + 8]
                )
            ]
            assert np.array_equal(drawn["gt"], chw(picture(32, 48, 1))[:, :, 4 * x[0] :][:, :, :32])
    with pytest.raises(UserError, match="ground truth for its middle frame only"):
        clips(tmp_path, target="all", **vimeo)
    with pytest.raises(UserError, match="windows of 7 at interval 2"):
        clips(tmp_path, num_frame=7, interval_list=[2], **vimeo).check_training()


def test_splits_and_scales_of_a_layout(reference: Path) -> None:
    jilin = {"layout": "jilin189", "dataroot": str(reference / "data" / "Jilin")}
    assert len(Clips(split="test", **jilin)) == 7
    with pytest.raises(UserError, match="'jilin189' has the splits train, test; name one"):
        Clips(**jilin)
    with pytest.raises(UserError, match="eval"):
        Clips(split="eval", **jilin)
    with pytest.raises(UserError, match="'jilin189': scale is one of 4, got 2"):
        Clips(split="test", scale=2, **jilin)


def test_missing_frame(tmp_path: Path) -> None:
    write(tmp_path, {"a": 5})
    (tmp_path / "LR" / "a" / "00000003.png").unlink()
    with pytest.raises(UserError, match="Clips"):
        clips(tmp_path)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"gt_size": 9}, "gt_size 9 is not a multiple of scale 2"),
        ({"num_frame": 0}, "num_frame must be at least 1"),
        ({"num_frame": None}, "set target to 'all'"),
        ({"skip_frames": -1}, "skip_frames must not be negative"),
        ({"interval_list": []}, "interval_list needs"),
        ({"interval_list": [0]}, "interval_list needs"),
        ({"dataroot": None}, "dataroot is missing"),
        ({"layout": "folder"}, "layout 'folder' describes images, not clips.*PairedImages"),
    ],
)
def test_impossible_options(root: Path, options: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words):
        clips(root, **options)


@pytest.mark.slow
def test_jilin_is_scored_as_published(reference: Path) -> None:
    dataset = Clips(dataroot=str(reference / "data" / "Jilin"), missing_neighbours="centre")
    assert [dataset[i]["key"] for i in range(7)] == [f"001/0000000{i}" for i in range(7)]
    net = Bicubic(scale=4)
    names = {"rgb": 29.04, "jilin189": 30.37, "jilin189-table": 29.66}
    scores: dict[str, list[float]] = {name: [] for name in names}
    for i in range(len(dataset)):
        sample = dataset[i]
        with torch.no_grad():
            lq = to_float(torch.from_numpy(sample["lq"][dataset.reference]))
            sr = net(lq[None])[0]
        gt = to_float(torch.from_numpy(sample["gt"]))
        for name in names:
            scores[name].append(PSNR()(sr, gt, protocol=get_protocol(name), scale=4))
    for name, expected in names.items():
        assert np.mean(scores[name]) == pytest.approx(expected, abs=0.01)


def test_jilin_lr_is_exact(reference: Path, tmp_path: Path) -> None:
    """LR made by the layout's rule is the published LR, whole and in crops."""
    root = reference / "data" / "Jilin"
    (tmp_path / "test_set" / "GT").mkdir(parents=True)
    (tmp_path / "test_set" / "GT" / "001").symlink_to(root / "001" / "GT")
    jilin = {"layout": "jilin189", "split": "test", "gt_size": 128}
    published, ours = (Clips(dataroot=str(folder), **jilin) for folder in (root, tmp_path))
    assert not any("LR" in path.parts for path in ours.paths())
    assert_same([ours[i] for i in (0, 6)], [published[i] for i in (0, 6)])
    rngs = [[np.random.default_rng(i) for i in range(4)] for _ in range(2)]
    assert_same([ours.draw(0, r) for r in rngs[0]], [published.draw(0, r) for r in rngs[1]])


def test_vid4_without_lr(reference: Path) -> None:
    root = reference / "data" / "Vid4"
    dataset = Clips(layout="vid4", dataroot=str(root), num_frame=3, skip_frames=2)
    assert len(dataset) == 4 * 5
    sample = dataset[2]
    assert sample["key"] == "calendar/004"
    assert sample["lq"].shape == (3, 3, 144, 180)
    assert sample["gt"].shape == (3, 576, 720)
    made = imresize(sample["gt"].transpose(1, 2, 0), 1 / 4, edge="symmetric")
    assert np.array_equal(sample["lq"][1], chw(made))
