"""The sample stream is a pure function of (seed, step, index)."""

from __future__ import annotations

import multiprocessing
import os

import numpy as np
import pytest
import torch

from srtoolbox.data.datasets.sample_bursts import SampleBursts
from srtoolbox.data.stream import (
    SampleStream,
    collate,
    nearest_frames,
    sample_rng,
    scale_of,
    source_of,
    split_batch,
    to_float,
)
from srtoolbox.data.transforms.orientation import orient_batch
from srtoolbox.utils import malloc
from srtoolbox.utils.malloc import freed_memory_kept

BATCH = 4


class Numbered:
    """Samples that show which source and which random numbers they came from."""

    scale, num_frame, reference = 2, 1, 0

    def __init__(self, length: int = 6) -> None:
        self.length = length

    def __len__(self) -> int:
        return self.length

    def draw(self, index: int, rng: np.random.Generator) -> dict:
        lq = rng.integers(0, 256, (1, 3, 2, 2), dtype=np.uint8)
        return {"key": str(index), "lq": lq, "gt": lq[0].repeat(2, 1).repeat(2, 2)}


def batches(stream: SampleStream, start: int, stop: int, workers: int = 0) -> list[dict]:
    return list(stream.loader(start, stop, workers))


def assert_same(ours: list[dict], theirs: list[dict]) -> None:
    assert len(ours) == len(theirs)
    for our_batch, their_batch in zip(ours, theirs, strict=True):
        assert our_batch["key"] == their_batch["key"]
        assert torch.equal(our_batch["lq"], their_batch["lq"])
        assert torch.equal(our_batch["gt"], their_batch["gt"])


@pytest.mark.filterwarnings("ignore:This DataLoader will create")
@pytest.mark.parametrize("workers", [1, 3])
def test_any_number_of_workers(workers: int) -> None:
    stream = SampleStream(Numbered(), 7, BATCH)
    assert_same(batches(stream, 0, 5, workers), batches(stream, 0, 5))


class Settings(Numbered):
    """Samples that show whether the process that drew them keeps freed memory."""

    def draw(self, index: int, rng: np.random.Generator) -> dict:
        sample = super().draw(index, rng)
        return {**sample, "lq": np.full_like(sample["lq"], malloc._kept)}


def test_workers_of_a_training_return_freed_memory() -> None:
    with freed_memory_kept():
        (batch,) = batches(SampleStream(Settings(), 0, BATCH), 0, 1, workers=1)
    assert not batch["lq"].any()


def test_workers_draw_the_same_bursts() -> None:
    stream = SampleStream(SampleBursts(num_frame=2, gt_size=16), 0, 2)
    assert_same(batches(stream, 0, 2, 2), batches(stream, 0, 2))


def test_two_ranks_share_one_step() -> None:
    single = batches(SampleStream(Numbered(), 7, BATCH), 0, 3)
    ranks = [batches(SampleStream(Numbered(), 7, BATCH, rank, 2), 0, 3) for rank in range(2)]
    for whole, *parts in zip(single, *ranks, strict=True):
        for rank, part in enumerate(parts):
            assert part["key"] == whole["key"][rank::2]
            assert torch.equal(part["lq"], whole["lq"][rank::2])


def test_a_resumed_stream_needs_no_replay() -> None:
    whole = batches(SampleStream(Numbered(), 7, BATCH), 0, 6)
    assert_same(batches(SampleStream(Numbered(), 7, BATCH), 4, 6), whole[4:])


def test_order_of_access_does_not_matter() -> None:
    stream = SampleStream(Numbered(), 7, BATCH)
    forth = [stream[d]["lq"] for d in range(12)]
    back = [stream[d]["lq"] for d in reversed(range(12))]
    assert all(np.array_equal(a, b) for a, b in zip(forth, reversed(back), strict=True))


def test_seed_zero_is_a_seed() -> None:
    first = batches(SampleStream(Numbered(), 0, BATCH), 0, 3)
    assert_same(first, batches(SampleStream(Numbered(), 0, BATCH), 0, 3))
    other = batches(SampleStream(Numbered(), 1, BATCH), 0, 3)
    assert not any(torch.equal(a["lq"], b["lq"]) for a, b in zip(first, other, strict=True))


@pytest.mark.parametrize("length", [1, 5, 8])
def test_every_source_once_per_pass(length: int) -> None:
    for lap in range(4):
        drawn = [source_of(3, lap * length + i, length) for i in range(length)]
        assert sorted(drawn) == list(range(length))


def test_passes_differ_in_order_and_crops() -> None:
    length = 8
    stream = SampleStream(Numbered(length), 3, BATCH)
    passes = [[stream[lap * length + i] for i in range(length)] for lap in range(2)]
    orders = [[sample["key"] for sample in samples] for samples in passes]
    assert orders[0] != orders[1]
    by_source = [{sample["key"]: sample["lq"] for sample in samples} for samples in passes]
    assert not any(np.array_equal(by_source[0][k], by_source[1][k]) for k in by_source[0])


def test_samples_of_one_step_are_independent() -> None:
    values = {sample_rng(0, t, i).integers(2**62) for t in range(20) for i in range(20)}
    assert len(values) == 400


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs processes that can be forked")
def test_a_program_with_idle_workers_ends() -> None:
    def leave_them() -> None:
        global kept
        kept = iter(SampleStream(Numbered(), 0, BATCH).loader(0, 50, 1))
        next(kept)

    child = multiprocessing.get_context("fork").Process(target=leave_them)
    child.start()
    child.join(20)
    ended, _ = child.exitcode, child.kill()
    assert ended == 0


def test_batch_must_fit_the_processes() -> None:
    with pytest.raises(ValueError, match="batch_size 5 is not a multiple of 2"):
        SampleStream(Numbered(), 0, 5, 0, 2)


def test_samples_of_different_sizes_are_named() -> None:
    samples = [
        {"key": name, "lq": np.zeros((1, 3, 4, side)), "gt": np.zeros((3, 8, 8))}
        for name, side in (("lenna", 4), ("baboon", 5))
    ]
    with pytest.raises(ValueError, match=r"'lq'.*lenna \(1, 3, 4, 4\).*baboon \(1, 3, 4, 5\)"):
        collate(samples)


@pytest.mark.parametrize(
    ("dtype", "top"), [(np.uint8, 255), (np.uint16, 65535), (np.float32, 1), (np.float64, 1)]
)
def test_pixels_become_floats(dtype: type, top: int) -> None:
    stored = torch.from_numpy(np.array([0, top], dtype))
    pixels = to_float(stored)
    assert pixels.dtype == torch.float32
    assert pixels.tolist() == [0, 1]
    assert stored.tolist() == [0, top]


class Oriented(Numbered):
    def draw(self, index: int, rng: np.random.Generator) -> dict:
        return {**super().draw(index, rng), "orientation": int(rng.integers(8))}


def test_batches_are_floats_in_their_orientation() -> None:
    stream = SampleStream(Oriented(), 3, BATCH)
    stored = batches(stream, 0, 2)
    for raw, ready in zip(stored, stream.batches(0, 2), strict=True):
        assert ready["key"] == raw["key"]
        assert "orientation" not in ready
        for name in ("lq", "gt"):
            assert ready[name].equal(to_float(orient_batch(raw[name], raw["orientation"])))


class Unfinished(Numbered):
    """A dataset whose samples are made on the device."""

    def draw(self, index: int, rng: np.random.Generator) -> dict:
        hr = rng.integers(0, 256, (3, 4, 4), dtype=np.uint8)
        return {"key": str(index), "hr": hr, "synthesis": {"level": np.float32(index)[None]}}

    def finish(self, batch: dict) -> dict:
        gt = to_float(batch["hr"])
        level = batch["synthesis"]["level"].view(-1, 1, 1, 1)
        return {"key": batch["key"], "gt": gt, "lq": gt[:, None, :, ::2, ::2] + level[:, None]}


def test_datasets_may_make_their_samples_on_the_device() -> None:
    stream = SampleStream(Unfinished(), 0, BATCH)
    (batch,) = stream.batches(0, 1)
    assert batch["lq"].shape == (BATCH, 1, 3, 2, 2)
    levels = torch.tensor([float(key) for key in batch["key"]]).view(-1, 1, 1, 1)
    assert torch.equal(batch["lq"][:, 0] - levels, batch["gt"][..., ::2, ::2] + levels - levels)


class Masked(Oriented):
    """Its masks are the red channel of its ground truth, so both must be oriented alike."""

    def draw(self, index: int, rng: np.random.Generator) -> dict:
        sample = super().draw(index, rng)
        return {**sample, "mask": sample["gt"][:1] > 127}


@pytest.mark.filterwarnings("ignore:This DataLoader will create")
@pytest.mark.parametrize("workers", [0, 2])
def test_masks_have_the_orientation_of_the_ground_truth(workers: int) -> None:
    stream = SampleStream(Masked(), 3, BATCH)
    for batch in stream.batches(0, 3, workers):
        assert batch["mask"].dtype == torch.bool
        assert batch["mask"].shape == (BATCH, 1, 4, 4)
        assert torch.equal(batch["mask"], batch["gt"][:, :1] > 0.5)
        parts = list(split_batch(batch, 2))
        assert torch.equal(torch.cat([part["mask"] for part in parts]), batch["mask"])


@pytest.mark.parametrize(
    ("reference", "expected"),
    [
        (0, ["0", "01", "012", "0123", "01234"]),
        (2, ["2", "12", "123", "0123", "01234"]),
        (4, ["4", "34", "234", "1234", "01234"]),
    ],
)
def test_nearest_frames(reference: int, expected: list[str]) -> None:
    found = [nearest_frames(5, reference, count) for count in range(1, 6)]
    assert ["".join(map(str, frames)) for frames in found] == expected
    for frames in found:
        by_distance = sorted(range(5), key=lambda t: (abs(t - reference), t))
        assert sorted(by_distance[: len(frames)]) == list(frames)


class Clip(Numbered):
    """Every value of a frame is its index; the reference is the middle one."""

    num_frame, reference = 5, 2

    def draw(self, index: int, rng: np.random.Generator) -> dict:
        lq = np.arange(5, dtype=np.uint8)[:, None, None, None].repeat(3, 1).repeat(2, 2)
        return {"key": str(index), "lq": lq.repeat(2, 3), "gt": lq[2].repeat(2, 1).repeat(4, 2)}


def seen(batch: dict) -> list[int]:
    return (255 * batch["lq"][0, :, 0, 0, 0]).round().int().tolist()


@pytest.mark.filterwarnings("ignore:This DataLoader will create")
def test_the_number_of_frames_varies_by_seed_and_step() -> None:
    def stream(seed: int = 3, **given: int) -> SampleStream:
        return SampleStream(Clip(), seed, BATCH, num_frame_range=(1, 4), **given)

    whole = list(stream().batches(0, 30))
    numbers = [batch["lq"].shape[1] for batch in whole]
    assert set(numbers) == {1, 2, 3, 4}
    for batch in whole:
        frames = seen(batch)
        assert frames == list(nearest_frames(5, 2, len(frames)))
        assert frames[batch["reference"]] == 2
        assert batch["lq"].is_contiguous()
    for others, first in (
        (stream().batches(17, 30), 17),
        (stream().batches(0, 6, num_worker=2), 0),
        (stream(rank=1, world_size=2).batches(0, 30), 0),
    ):
        found = [batch["lq"].shape[1] for batch in others]
        assert found == numbers[first : first + len(found)]
    assert [batch["lq"].shape[1] for batch in stream(4).batches(0, 30)] != numbers


def test_all_else_stays_the_same_whatever_the_number_of_frames() -> None:
    data = SampleBursts(num_frame=4, gt_size=16)
    varying, whole = (SampleStream(data, 0, 2, num_frame_range=r) for r in ((1, 3), None))
    for part, full in zip(varying.batches(0, 3), whole.batches(0, 3), strict=True):
        assert torch.equal(part["gt"], full["gt"]) and part["key"] == full["key"]
        assert torch.equal(part["lq"], full["lq"][:, : part["lq"].shape[1]])
        assert part["reference"] == 0 and "reference" not in full


def test_a_varying_number_of_frames_needs_a_reference() -> None:
    class AllFrames(Clip):
        reference = None

    with pytest.raises(ValueError, match="needs a dataset with a reference frame"):
        SampleStream(AllFrames(), 0, 2, num_frame_range=(1, 3))


class TwoScales(Numbered):
    """Samples of two scales."""

    scales = (2, 4)

    def at_scale(self, scale: int) -> TwoScales:
        other = TwoScales(self.length)
        other.scale = scale
        return other

    def draw(self, index: int, rng: np.random.Generator) -> dict:
        lq = rng.integers(0, 256, (1, 3, 2, 2), dtype=np.uint8)
        gt = lq[0].repeat(self.scale, 1).repeat(self.scale, 2)
        return {"key": str(index), "lq": lq, "gt": gt}


def test_the_scale_of_a_step_is_a_function_of_seed_and_step() -> None:
    drawn = [scale_of(7, step, (2, 3, 4)) for step in range(900)]
    assert drawn == [scale_of(7, step, (2, 3, 4)) for step in range(900)]
    assert drawn != [scale_of(8, step, (2, 3, 4)) for step in range(900)]
    assert all(250 < drawn.count(scale) < 350 for scale in (2, 3, 4))


def test_all_samples_of_a_step_have_its_scale() -> None:
    stream = SampleStream(TwoScales(), 7, BATCH)
    found = list(stream.batches(0, 12))
    for step, batch in enumerate(found):
        assert batch["scale"] == scale_of(7, step, (2, 4))
        assert batch["gt"].shape == (BATCH, 3, 2 * batch["scale"], 2 * batch["scale"])
    assert {batch["scale"] for batch in found} == {2, 4}
    later = list(SampleStream(TwoScales(), 7, BATCH).batches(9, 12))
    assert_same(later, found[9:])
    ranks = [list(SampleStream(TwoScales(), 7, BATCH, rank, 2).batches(0, 12)) for rank in (0, 1)]
    for whole, *parts in zip(found, *ranks, strict=True):
        assert {part["scale"] for part in parts} == {whole["scale"]}
        assert torch.equal(parts[1]["gt"], whole["gt"][1::2])


def test_a_dataset_of_one_scale_has_none_in_its_batches() -> None:
    (batch,) = SampleStream(Numbered(), 7, BATCH).batches(0, 1)
    assert "scale" not in batch
