"""Synthetic bursts: known motion, exact reduction, noise of the stated variance, one stream."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import pytest
import torch
from support.bursts import CLEAN, SIZE, noise_image, rng, stack

from srtoolbox.data.degradations import raw as raw
from srtoolbox.data.degradations import rgb as rgb
from srtoolbox.data.degradations.jpeg import compress
from srtoolbox.data.degradations.noise import draw_shot_read, normal_noise
from srtoolbox.data.degradations.raw import RawPipeline
from srtoolbox.data.degradations.rgb import RgbPipeline
from srtoolbox.data.resize.array import imresize
from srtoolbox.errors import UserError

PIPELINES = [
    RgbPipeline(num_frame=3),
    RgbPipeline(num_frame=3, noise="shot_read", reduction="bicubic-aa"),
    RawPipeline(num_frame=3, max_shift=6),
]


def places(size: tuple[int, int], margin: int) -> np.ndarray:
    """Homogeneous places (3, H, W) of the pixels of an image with margin, from its centre."""
    y, x = (np.arange(n + 2 * margin) - (n + 2 * margin - 1) / 2 for n in size)
    return np.stack([*np.meshgrid(x, y), np.ones((len(y), len(x)))])


def smooth(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """An image without fine detail, (3, H, W) in [0, 1]."""
    waves = [(0.11, 0.05, 0.3), (-0.06, 0.13, 1.1), (0.09, -0.1, 2.0)]
    return np.stack([0.5 + 0.4 * np.sin(a * x + b * y + c) for a, b, c in waves])


@pytest.mark.parametrize("pipeline", PIPELINES)
class TestOneStream:
    def test_same_numbers_same_bits(self, pipeline: Any) -> None:
        hr = noise_image(pipeline)
        one, two = (pipeline.apply(hr, stack(pipeline.draw(rng(3))), SIZE) for _ in range(2))
        other = pipeline.apply(hr, stack(pipeline.draw(rng(4))), SIZE)
        assert torch.equal(one["lq"], two["lq"])
        assert torch.equal(one["gt"], two["gt"])
        assert not torch.equal(one["lq"], other["lq"])

    def test_a_sample_does_not_depend_on_its_batch(self, pipeline: Any) -> None:
        hr = noise_image(pipeline, 3)
        choices = [pipeline.draw(rng(seed)) for seed in range(3)]
        batch = pipeline.apply(hr, stack(*choices), SIZE)
        for n in (0, 2):
            alone = pipeline.apply(hr[n : n + 1], stack(choices[n]), SIZE)
            for name in ("lq", "gt"):
                assert torch.equal(batch[name][n], alone[name][0])

    def test_a_shorter_burst_is_the_beginning_of_a_longer(self, pipeline: Any) -> None:
        shorter = type(pipeline)(**{**vars(pipeline), "num_frame": 2})
        hr = noise_image(pipeline)
        three = pipeline.apply(hr, stack(pipeline.draw(rng())), SIZE)["lq"]
        two = shorter.apply(hr, stack(shorter.draw(rng())), SIZE)["lq"]
        assert two.shape[1] == 2
        assert torch.equal(three[:, :2], two)

    def test_forms(self, pipeline: Any) -> None:
        choices = pipeline.draw(rng())
        for name, array in choices.items():
            assert isinstance(array, np.ndarray)
            assert array.dtype == (np.int64 if name == "noise_seed" else np.float32)
        made = pipeline.apply(noise_image(pipeline, 2), stack(choices, choices), SIZE)
        small = tuple(length // pipeline.scale for length in SIZE)
        channels = 4 if isinstance(pipeline, RawPipeline) else 3
        assert made["lq"].shape == (2, 3, channels, *small)
        assert made["gt"].shape == (2, 3, *SIZE)

    def test_all_types_of_pixels_say_the_same(self, pipeline: Any) -> None:
        hr = noise_image(pipeline)
        choices = stack(pipeline.draw(rng()))
        made = pipeline.apply(hr, choices, SIZE)["lq"].float()
        deep = (hr.to(torch.int32) * 257).to(torch.uint16)
        for other in (hr.float() / 255, deep):
            difference = (pipeline.apply(other, choices, SIZE)["lq"].float() - made).abs()
            assert (difference > 1e-3).float().mean() < 0.01  # the rare tie of a rounding


@pytest.mark.parametrize("scale", [2, 4])
def test_the_reference_is_exactly_the_box_reduction_of_the_truth(scale: int) -> None:
    pipeline = RgbPipeline(scale=scale, num_frame=2, **CLEAN)
    made = pipeline.apply(noise_image(pipeline), stack(pipeline.draw(rng())), SIZE)
    gt = made["gt"][0].numpy().astype(int)
    sums = gt.reshape(3, SIZE[0] // scale, scale, SIZE[1] // scale, scale).sum((2, 4))
    expected = (2 * sums + scale**2) // (2 * scale**2)  # rounded half up
    assert np.array_equal(made["lq"][0, 0], expected)


@pytest.mark.parametrize("max_shift", [6, 24])
def test_frames_show_the_stated_motion(max_shift: int) -> None:
    pipeline = RgbPipeline(num_frame=6, max_shift=max_shift, **CLEAN)
    place = places(SIZE, pipeline.margin(max(SIZE)))
    hr = torch.from_numpy(smooth(place[0], place[1]))[None].float()
    choices = pipeline.draw(rng(1))
    lq = pipeline.apply(hr, stack(choices), SIZE)["lq"][0].numpy()
    assert np.abs(choices["motion"][:, :, 2]).max() > max_shift / 2
    for frame, motion in zip(lq, choices["motion"].astype(float), strict=True):
        seen = smooth(*np.tensordot(motion, places(SIZE, 0), 1))
        box = seen.reshape(3, SIZE[0] // 4, 4, SIZE[1] // 4, 4).mean((2, 4))
        # Half a level of rounding; the kernel's 0.05 pixels, where up to 20 levels make one.
        assert np.abs(frame - 255 * box).max() < 0.5 + 0.05 * 20


def test_motions_are_euclidean_within_their_ranges_and_the_first_is_none() -> None:
    motion = RgbPipeline(num_frame=400, max_shift=5, max_rotation=2).draw(rng())["motion"]
    assert np.array_equal(motion[0], np.eye(2, 3))
    angle = np.degrees(np.arctan2(motion[1:, 1, 0], motion[1:, 0, 0]))
    np.testing.assert_allclose(np.linalg.det(motion[:, :, :2]), 1, atol=1e-6)
    for values, limit in ((angle, 2), (motion[1:, :, 2], 5)):
        assert 0.98 * limit < np.abs(values).max() <= limit
        assert np.abs(values.mean()) < 0.1 * limit


@pytest.mark.parametrize("pipeline", [RgbPipeline(), RgbPipeline(reduction="bicubic-aa")])
@pytest.mark.parametrize("side", [48, 640])
def test_the_margin_holds_all_that_frames_read(pipeline: RgbPipeline, side: int) -> None:
    margin = pipeline.margin(side)
    angle = np.radians(1)
    reach = rgb.reduction_reach(pipeline.reduction, 4)
    corner = (side - 1) / 2 + reach
    for sign in (-1, 1):
        cos, sin = np.cos(angle), np.sin(angle) * sign
        farthest = corner * (cos + abs(sin)) + 6 + 2 + 4  # shift, kernel, blur
        assert farthest <= (side - 1) / 2 + margin + 0.25


class TestReduction:
    def test_bicubic_is_matlabs(self) -> None:
        image = rng().random((3, 40, 48))
        for scale in (2, 3, 4):
            reach = rgb.reduction_reach("bicubic-aa", scale)
            size = [n // scale // 2 * scale for n in image.shape[1:]]
            top, left = scale * 2, scale * 3
            part = image[
                :, top - reach : top + size[0] + reach, left - reach : left + size[1] + reach
            ]
            ours = rgb.reduce(torch.from_numpy(part), "bicubic-aa", scale)
            whole = imresize(image.transpose(1, 2, 0), 1 / scale).transpose(2, 0, 1)
            expected = whole[:, 2 : 2 + ours.shape[1], 3 : 3 + ours.shape[2]]
            np.testing.assert_allclose(ours, expected, atol=1e-12)

    def test_dbsr_is_bilinear_without_antialiasing(self) -> None:
        image = rng().random((40, 48)).astype(np.float32)
        for scale in (2, 4):
            assert rgb.reduction_reach("dbsr", scale) == 0
            ours = rgb.reduce(torch.from_numpy(image), "dbsr", scale)
            size = 48 // scale, 40 // scale
            expected = cv2.resize(image, size, interpolation=cv2.INTER_LINEAR)
            np.testing.assert_allclose(ours, expected, atol=1e-6)

    def test_unknown(self) -> None:
        with pytest.raises(UserError, match="bicubic-aa"):
            RgbPipeline(reduction="area")  # type: ignore[arg-type]


def test_blur_has_the_drawn_deviation() -> None:
    pipeline = RgbPipeline(blur_sigma=(0.8, 1.2), noise_sigma=(0, 0))
    image = torch.zeros(2, 1, 31, 31)
    image[..., 15, 15] = 1
    sigma = torch.tensor([0.8, 1.2])
    blurred = rgb.blur(image, sigma, pipeline._blur_radius)
    offset = torch.arange(blurred.shape[-1]) - blurred.shape[-1] // 2
    spread = (blurred.sum((1, 2)) * offset**2).sum(1).sqrt()
    np.testing.assert_allclose(blurred.sum((1, 2, 3)), 1, atol=1e-6)
    np.testing.assert_allclose(spread, sigma, rtol=0.02)
    assert 0.8 <= pipeline.draw(rng())["blur_sigma"] <= 1.2
    still = rgb.blur(image, torch.zeros(2), 4)
    assert torch.equal(still, image[..., 4:-4, 4:-4])


class TestNoise:
    def test_numbers_are_normal_and_independent(self) -> None:
        noise = normal_noise(torch.arange(8) * 2**33, torch.Size((8, 200_000))).double()
        assert noise.mean(1).abs().max() < 4 / 200_000**0.5
        assert (noise.var(1) - 1).abs().max() < 4 * (2 / 200_000) ** 0.5
        assert abs((noise**4).mean() - 3) < 0.05
        assert (torch.corrcoef(noise) - torch.eye(8)).abs().max() < 0.012
        for lag in (1, 64, 4096):
            assert abs((noise[:, lag:] * noise[:, :-lag]).mean()) < 0.005
        below = (noise < -1.6449).double().mean()
        assert abs(below - 0.05) < 0.001

    def test_numbers_never_change(self) -> None:
        """Benchmarks would change with them."""
        noise = normal_noise(torch.tensor([5, 2**61]), torch.Size((2, 3)))
        expected = [[0.2974247, -0.0662313, 0.3592457], [1.4014778, 0.9779776, 0.3824499]]
        np.testing.assert_allclose(noise, expected, atol=1e-6)

    @pytest.mark.parametrize("level", [40, 200])
    def test_gaussian_deviation(self, level: int) -> None:
        pipeline = RgbPipeline(num_frame=4, noise_sigma=(4, 4))
        hr = torch.full_like(noise_image(pipeline), level)
        lq = pipeline.apply(hr, stack(pipeline.draw(rng())), SIZE)["lq"].double()
        assert lq.mean() == pytest.approx(level, abs=0.3)
        assert lq.var() == pytest.approx(4**2 + 1 / 12, rel=0.1)
        frames = lq.flatten(2)[0].flatten(1)
        assert (torch.corrcoef(frames) - torch.eye(4)).abs().max() < 0.15

    @pytest.mark.parametrize("level", [100, 200])
    def test_shot_and_read_in_linear_light(self, level: int) -> None:
        pipeline = RgbPipeline(num_frame=8, noise="shot_read", shot_noise=(0.004, 0.004))
        hr = torch.full_like(noise_image(pipeline), level)
        choices = pipeline.draw(rng())
        lq = pipeline.apply(hr, stack(choices), SIZE)["lq"]
        light = rgb.srgb_to_linear(lq.double() / 255)
        truth = float(rgb.srgb_to_linear(torch.tensor(level / 255)))
        shot, read = choices["noise"]
        assert shot == pytest.approx(0.004)
        assert light.mean() == pytest.approx(truth, rel=0.02)
        assert light.var() == pytest.approx(shot * truth + read, rel=0.1)

    def test_raw_variance(self) -> None:
        pipeline = RawPipeline(num_frame=14, shot_noise=(0.002, 0.002), truncate=False)
        hr = torch.full_like(noise_image(pipeline), 200)
        choices = pipeline.draw(rng())
        made = pipeline.apply(hr, stack(choices), SIZE)
        shot, read = choices["noise"]
        for channel, colour in enumerate((0, 1, 1, 2)):
            truth = made["gt"][0, colour].mean().item()
            values = made["lq"][0, :, channel].double()
            assert values.mean() == pytest.approx(truth, rel=0.02)
            assert values.var() == pytest.approx(shot * truth + read, rel=0.15)

    def test_the_line_of_read_over_shot_noise(self) -> None:
        generator = rng()
        log = np.log([draw_shot_read((1e-4, 0.012), generator) for _ in range(2000)])
        slope, offset = np.polyfit(log[:, 0], log[:, 1], 1)
        assert slope == pytest.approx(2.18, abs=0.03)
        assert offset == pytest.approx(1.20, abs=0.2)
        assert np.std(log[:, 1] - slope * log[:, 0] - offset) == pytest.approx(0.26, rel=0.1)
        assert np.exp(log[:, 0]).min() >= 1e-4
        assert np.exp(log[:, 0]).max() <= 0.012


def to_srgb(linear: torch.Tensor, camera: torch.Tensor, gains: torch.Tensor) -> torch.Tensor:
    """Inverts ``unprocess``, except for clipped colours and highlights."""
    colours = (linear * gains[..., None, None]).clamp(0, 1)
    light = torch.einsum("nij,njhw->nihw", torch.linalg.inv(camera), colours).clamp(0, 1)
    toned = light.clamp(min=1e-8) ** (1 / 2.2)
    return 3 * toned**2 - 2 * toned**3


class TestRaw:
    def test_the_camera_is_inverted(self) -> None:
        """Away from highlights and the camera's limits, to 1e-4: a fortieth of an 8-bit level."""
        image = torch.from_numpy(rng().uniform(0.25, 0.6, (8, 3, 16, 16))).float()
        cameras, gains = zip(*[raw.draw_camera(rng(seed)) for seed in range(8)], strict=True)
        camera, gain = (torch.from_numpy(np.stack(v)).float() for v in (cameras, gains))
        linear = raw.unprocess(image, camera, gain)
        assert (linear > 0).all()
        assert (to_srgb(linear, camera, gain) - image).abs().max() < 1e-4

    def test_white_stays_white_in_every_camera(self) -> None:
        for seed in range(20):
            camera, gains = raw.draw_camera(rng(seed))
            np.testing.assert_allclose(camera.sum(1), 1)
            assert 1.9 <= gains[0] / gains[1] <= 2.4
            assert 1.5 <= gains[2] / gains[1] <= 1.9

    def test_steps_on_grey(self) -> None:
        """A grey of 0.352 = smoothstep(0.4) is 0.4^2.2 in linear light, then the gains divide."""
        grey = torch.full((1, 3, 2, 2), 3 * 0.4**2 - 2 * 0.4**3)
        gains = torch.tensor([[2.0, 1.0, 1.6]])
        linear = raw.unprocess(grey, torch.eye(3)[None], gains)
        np.testing.assert_allclose(linear[0, :, 0, 0], 0.4**2.2 / gains[0], rtol=1e-5)

    def test_highlights_are_not_darkened(self) -> None:
        white = raw.unprocess(
            torch.ones(1, 3, 2, 2), torch.eye(3)[None], torch.tensor([[2.5, 1.2, 2.0]])
        )
        np.testing.assert_allclose(white, 1, atol=1e-6)

    @pytest.mark.parametrize("rotation", [0.0, 1.0])
    def test_frames_are_those_of_opencv(self, rotation: float) -> None:
        """The published pipeline moves and reduces 8-bit images with OpenCV."""
        pipeline = RawPipeline(num_frame=4, shot_noise=(0, 0))
        margin = pipeline.margin(max(SIZE))
        place = places(SIZE, margin)
        hr = torch.from_numpy(smooth(place[0], place[1]))[None].float()
        choices = pipeline.draw(rng(2))
        choices["motion"][1:, :, 2] = np.round(choices["motion"][1:, :, 2] * 32) / 32
        if not rotation:
            choices["motion"][1:, :, :2] = np.eye(2)
        lq = pipeline.apply(hr, stack(choices), SIZE)["lq"][0].numpy() * 255
        linear = raw.unprocess(hr, *(stack(choices)[name] for name in ("camera", "gains")))
        levels = (linear[0].numpy().transpose(1, 2, 0) * 255).astype(np.uint8)
        outer = np.array(levels.shape[1::-1]) / 2 - 0.5
        for frame, motion in zip(lq, choices["motion"].astype(float), strict=True):
            matrix = motion.copy()
            matrix[:, 2] += outer - motion[:, :2] @ outer
            moved = cv2.warpAffine(
                levels, matrix, levels.shape[1::-1], flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
            )[margin:-margin, margin:-margin]
            small = cv2.resize(moved, (SIZE[1] // 4, SIZE[0] // 4), interpolation=cv2.INTER_LINEAR)
            red, green, blue = small.transpose(2, 0, 1).astype(float)
            packed = np.stack([red[::2, ::2], green[::2, 1::2], green[1::2, ::2], blue[1::2, 1::2]])
            assert np.abs(frame - packed).max() < 1.01
            assert np.abs(frame - packed).mean() < 0.1  # ties that float32 decides

    def test_the_reference_lies_on_every_fourth_pixel(self) -> None:
        pipeline = RawPipeline(num_frame=1, shot_noise=(0, 0), truncate=False)
        place = places(SIZE, pipeline.margin(max(SIZE)))
        hr = torch.from_numpy(0.5 + place[:2] / 300)[None].float()
        hr = torch.cat([hr, hr[:, :1]], 1)
        choices = pipeline.draw(rng())
        choices["camera"], choices["gains"] = np.eye(3, dtype=np.float32), np.ones(3, np.float32)
        made = pipeline.apply(hr, stack(choices), SIZE)
        lq, gt = made["lq"][0, 0], made["gt"][0]
        inner = np.s_[1:-1, 1:-1]  # at the far edge it reads beyond the truth
        for c, (colour, y, x) in enumerate([(0, 0, 0), (1, 0, 4), (1, 4, 0), (2, 4, 4)]):
            np.testing.assert_allclose(lq[c][inner], gt[colour, y::8, x::8][inner], atol=1e-4)

    def test_the_truth_is_linear_and_not_quantised(self) -> None:
        pipeline = RawPipeline(num_frame=1)
        gt = pipeline.apply(noise_image(pipeline), stack(pipeline.draw(rng())), SIZE)["gt"]
        assert gt.dtype == torch.float32
        assert ((gt * 255) % 1 > 0.01).float().mean() > 0.5

    def test_odd_scale(self) -> None:
        with pytest.raises(UserError, match="even, got 3"):
            RawPipeline(scale=3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_frame": 0}, "num_frame must be at least 1"),
        ({"max_shift": -1}, "max_shift must not be negative"),
        ({"noise_sigma": (5, 1)}, r"noise_sigma must be \(low, high\)"),
        ({"shot_noise": (0, 0.1)}, "cannot start at 0"),
        ({"still": 1.5}, "still must be from 0 to 1, got 1.5"),
        ({"same_noise": 0.5}, "set still, too"),
        ({"jpeg_quality": (0, 50)}, r"1 ≤ low ≤ high ≤ 100, got \(0, 50\)"),
        ({"jpeg_quality": (50, 60), "bit_depth": 12}, "remove bit_depth"),
    ],
)
def test_options_that_make_no_burst(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        RgbPipeline(**options)


@pytest.mark.parametrize("channels", [1, 4, 13])
class TestBands:
    """Bursts of any number of bands."""

    def test_all_bands_move_alike_and_have_their_own_noise(self, channels: int) -> None:
        pipeline = RgbPipeline(num_frame=3, channels=channels)
        hr = noise_image(pipeline)[:, :1].repeat(1, channels, 1, 1)
        noisy = pipeline.apply(hr, stack(pipeline.draw(rng(3))), SIZE)
        assert noisy["lq"].shape[2] == noisy["gt"].shape[1] == channels
        if channels > 1:
            assert not torch.equal(noisy["lq"][:, :, 0], noisy["lq"][:, :, 1])
        clean = RgbPipeline(num_frame=3, channels=channels, noise_sigma=(0, 0))
        lq = clean.apply(hr, stack(clean.draw(rng(3))), SIZE)["lq"]
        assert torch.equal(lq, lq[:, :, :1].expand_as(lq))
        three = RgbPipeline(num_frame=3, noise_sigma=(0, 0))
        colour = three.apply(hr[:, :1].repeat(1, 3, 1, 1), stack(three.draw(rng(3))), SIZE)["lq"]
        assert torch.equal(colour[:, :, 0], lq[:, :, 0])

    def test_more_bits(self, channels: int) -> None:
        pipeline = RgbPipeline(
            num_frame=1, channels=channels, bit_depth=12, noise_sigma=(0, 0), blur_sigma=(0, 0)
        )
        hr = noise_image(pipeline)[:, :1].repeat(1, channels, 1, 1)
        burst = pipeline.apply(hr, stack(pipeline.draw(rng(3))), SIZE)
        assert burst["lq"].dtype == torch.float32
        steps = burst["lq"] * 4095
        assert torch.allclose(steps, steps.round(), atol=1e-2)
        mean = torch.nn.functional.avg_pool2d(burst["gt"].float(), 4) / 255
        assert (burst["lq"][:, 0] - mean).abs().max() < 0.6 / 4095

    def test_noise_is_added_to_linear_bands(self, channels: int) -> None:
        pipeline = RgbPipeline(
            num_frame=2, channels=channels, noise="shot_read", bit_depth=16, shot_noise=(0.01, 0.01)
        )
        side = SIZE[0] + 2 * pipeline.margin(max(SIZE))
        hr = torch.full((1, channels, side, side), 128, dtype=torch.uint8)
        lq = pipeline.apply(hr, stack(pipeline.draw(rng(0))), SIZE)["lq"]
        shot, read = pipeline.draw(rng(0))["noise"]
        assert lq.std().item() == pytest.approx((shot * 128 / 255 + read) ** 0.5, rel=0.25)


def test_bands_that_are_not_registered() -> None:
    """A band is shifted like a frame, in all frames; the ground truth and other draws are not."""
    still = RgbPipeline(num_frame=3, channels=4, noise_sigma=(0, 0), blur_sigma=(0, 0))
    moved = RgbPipeline(**{**vars(still), "band_shift": 2.0})
    choices = moved.draw(rng(5))
    shift = choices["band_shift"]
    for name, values in still.draw(rng(5)).items():
        assert np.array_equal(values, choices[name])
    assert shift.shape == (4, 2)
    assert not shift[0].any()
    assert 0 < np.abs(shift[1:]).max() <= 2
    size = 32, 32
    margin = moved.margin(32)
    x, y = places(size, margin)[:2]
    hr = torch.from_numpy(np.stack([smooth(x, y)[0]] * 4)[None]).float()
    burst = moved.apply(hr, stack(choices), size)
    assert torch.equal(burst["gt"], rgb.crop_centre(hr, size))
    for t, motion in enumerate(choices["motion"].astype(float)):
        for band, (dx, dy) in enumerate(shift):
            position = places(size, 0)
            position[0] += dx
            position[1] += dy
            view = smooth(*np.tensordot(motion, position, 1))[0]
            frame = view.reshape(8, 4, 8, 4).mean((1, 3))
            assert np.abs(burst["lq"][0, t, band].numpy() / 255 - frame).max() < 0.006


def test_bursts_that_do_not_move() -> None:
    """A share of the bursts is still; all other random numbers are those of moving bursts."""
    moving, mixed = RgbPipeline(num_frame=3), RgbPipeline(num_frame=3, still=0.5, same_noise=0.5)
    kinds = set()
    for seed in range(40):
        usual, choices = moving.draw(rng(seed)), mixed.draw(rng(seed))
        is_still = bool((choices["motion"] == np.eye(2, 3)).all())
        assert is_still or np.allclose(choices["motion"], usual["motion"], atol=1e-6)
        for name in ("blur_sigma", "noise", "noise_seed"):
            assert choices[name] == pytest.approx(usual[name])
        kinds.add((is_still, bool(choices["same_noise"])))
    assert kinds == {(False, False), (True, False), (True, True)}


@pytest.mark.parametrize("same", [0, 1])
def test_frames_of_a_still_burst_differ_by_their_noise_alone(same: int) -> None:
    pipeline = RgbPipeline(num_frame=3, still=1, same_noise=same, noise_sigma=(2, 2))
    lq = pipeline.apply(noise_image(pipeline), stack(pipeline.draw(rng())), SIZE)["lq"][0].float()
    assert torch.equal(lq[0], lq[2]) == bool(same)
    assert (lq[0] - lq[1]).abs().max() <= 20


def test_all_frames_are_equal_to_the_last_bit() -> None:
    pipeline = RgbPipeline(num_frame=3, still=1, same_noise=1, bit_depth=16)
    lq = pipeline.apply(noise_image(pipeline), stack(pipeline.draw(rng())), SIZE)["lq"][0]
    assert torch.equal(lq[1:], lq[:1].expand(2, -1, -1, -1))


def test_some_bursts_move_less() -> None:
    usual, varied = RgbPipeline(num_frame=4), RgbPipeline(num_frame=4, vary_shift=True)
    shares = []
    for seed in range(30):
        shift = varied.draw(rng(seed))["motion"][1:, :, 2]
        shares.append(shift / usual.draw(rng(seed))["motion"][1:, :, 2])
    assert all(np.ptp(share) < 1e-4 for share in shares)  # one share for all frames of a burst
    assert min(map(np.min, shares)) < 0.2 and 0.8 < max(map(np.max, shares)) <= 1.0001


@pytest.mark.parametrize("channels", [3, 4])
def test_frames_compressed_by_jpeg(channels: int) -> None:
    """All frames of a burst have one quality; nothing else changes."""
    usual = RgbPipeline(num_frame=3, channels=channels)
    pipeline = RgbPipeline(num_frame=3, channels=channels, jpeg_quality=(10, 95))
    choices = [pipeline.draw(rng(seed)) for seed in range(8)]
    for seed, drawn in enumerate(choices):
        for name, values in usual.draw(rng(seed)).items():
            assert np.array_equal(values, drawn[name])
    quality = [int(drawn["jpeg_quality"]) for drawn in choices]
    assert len(set(quality)) > 4 and min(quality) >= 10 and max(quality) <= 95
    hr = noise_image(pipeline, 2)[:, :1].repeat(1, channels, 1, 1)
    frames = usual.apply(hr, stack(*choices[:2]), SIZE)["lq"]
    lq = pipeline.apply(hr, stack(*choices[:2]), SIZE)["lq"]
    assert lq.dtype == torch.uint8
    for n in range(2):
        for t in range(3):
            expected = compress(frames[n, t][None].double(), [quality[n]])[0]
            assert torch.equal(lq[n, t].double(), expected)
