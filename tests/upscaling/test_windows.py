from __future__ import annotations

import numpy as np
import pytest
from support.scenes import scene
from support.upscaling import small_network, texture

from srtoolbox.errors import UserError
from srtoolbox.media.picture import Picture, as_type, with_alpha
from srtoolbox.upscaling.options import upscale_options
from srtoolbox.upscaling.windows import ClipFrame, ClipRestorer


def frames_of(pixels, wanted=None, first=0, alphas=None):
    return [
        ClipFrame(
            *(frame, first + at, None if alphas is None else alphas[at]),
            wanted=wanted is None or first + at in wanted,
        )
        for at, frame in enumerate(pixels)
    ]


def restored(run, pixels, wanted=None, first=0, alphas=None, **options):
    """All results of a clip: pixels and alpha."""
    restorer = ClipRestorer(run, upscale_options(options))
    return list(restorer.restore(iter(frames_of(pixels, wanted, first, alphas))))


def pixels_of(results):
    return [None if result is None else result.pixels for result in results]


def equal(results, expected):
    pairs = zip(pixels_of(results), pixels_of(expected), strict=True)
    return all(np.array_equal(one, other) for one, other in pairs)


def numbered(count):
    """Frames whose values are their numbers."""
    return np.stack([np.full((3, 4, 4), number, np.uint8) for number in range(count)])


@pytest.fixture
def windows(upscaler, monkeypatch):
    """Returns the numbers of the frames that a network sees for each frame, and the reference."""

    def see(net, pixels, wanted=None, first=0, num_frame=None, **options):
        run = upscaler(net, frames=num_frame)
        seen = []

        def look(frames, reference):
            seen.append(([int(frame[0, 0, 0]) for frame in frames], reference))
            many = (len(frames) - 1) * run.time_scale + 1
            return np.zeros((3, 8, 8) if reference is not None else (many, 3, 8, 8), np.float32)

        monkeypatch.setattr(run, "frames", look)
        restored(run, pixels, wanted, first, **{"scene_cut": "off", **options})
        return seen

    return see


def two_scenes(first, second):
    """Numbered frames of two scenes that the detector tells apart."""
    frames = numbered(first + second)
    draw = np.random.default_rng(0)
    frames[first:, :, 1:] = draw.integers(128, 256, frames[first:, :, 1:].shape)
    frames[first:, :, 1:] = frames[first, :, 1:]
    return frames


class TestSingleImages:
    @pytest.mark.parametrize("batch", [1, 3, 10])
    def test_each_frame_by_itself(self, upscaler, batch):
        run, clip = upscaler(small_network()), scene(0, 7)
        results = restored(run, clip, batch=batch)
        for frame, result in zip(clip, results, strict=True):
            assert np.allclose(result.pixels, run.image(frame), atol=1e-6)

    def test_batches_have_one_form(self, upscaler):
        run = upscaler(small_network())
        clip = [texture(9, 8), texture(9, 8, channels=1), texture(9, 8, dtype=np.uint16)]
        results = restored(run, clip, batch=3)
        assert [len(result.pixels) for result in results] == [3, 1, 3]
        assert np.allclose(results[2].pixels, run.image(clip[2]), atol=1e-6)

    def test_unwanted_frames(self, upscaler):
        results = restored(upscaler(small_network()), scene(0, 4), wanted={1, 3}, batch=4)
        assert [result is None for result in results] == [True, False, True, False]

    def test_no_frames(self, upscaler):
        assert restored(upscaler(small_network()), []) == []
        assert restored(upscaler(small_network("TDAN", 4)), []) == []


class TestWindows:
    def test_a_fixed_number_of_frames(self, windows):
        seen = windows(small_network("TDAN", 4), numbered(6))
        assert [window for window, _ in seen] == [
            [0, 0, 0, 1, 2],
            [1, 0, 1, 2, 3],
            [0, 1, 2, 3, 4],
            [1, 2, 3, 4, 5],
            [2, 3, 4, 5, 4],
            [3, 4, 5, 5, 5],
        ]
        assert {reference for _, reference in seen} == {2}

    def test_any_number_of_frames(self, windows):
        seen = windows(small_network("DSTCSRNetPlus", 4), numbered(4), num_frame=5)
        assert seen == [
            ([0, 1, 2], 0),
            ([0, 1, 2, 3], 1),
            ([0, 1, 2, 3], 2),
            ([1, 2, 3], 2),
        ]
        seen = windows(small_network("DSTCSRNetPlus", 4), numbered(5), num_frame=4)
        assert seen[2] == ([0, 1, 2, 3], 2)

    def test_they_end_at_a_cut(self, windows):
        clip = two_scenes(4, 4)
        for cut in ("auto", 0.05):
            seen = windows(small_network("TDAN", 4), clip, scene_cut=cut)
            assert [window for window, _ in seen][2:6] == [
                [0, 1, 2, 3, 2],
                [1, 2, 3, 3, 3],
                [4, 4, 4, 5, 6],
                [5, 4, 5, 6, 7],
            ]
        seen = windows(small_network("TDAN", 4), clip, scene_cut="off")
        assert seen[3][0] == [1, 2, 3, 4, 5]

    @pytest.mark.slow
    @pytest.mark.parametrize("name", ["TDAN", "EDVR", "DSTCSRNetPlus"])
    def test_a_scene_is_restored_as_if_it_were_alone(self, upscaler, name):
        run = upscaler(small_network(name, 4), frames=None if name != "DSTCSRNetPlus" else 3)
        one, other = scene(0, 4, 16, 20), scene(1, 5, 16, 20)
        both = restored(run, np.concatenate([one, other]))
        assert equal(both, restored(run, one) + restored(run, other))
        crossed = restored(run, np.concatenate([one, other]), scene_cut="off")
        assert not equal(both, crossed)

    def test_the_network_sees_the_window(self, upscaler):
        run, clip = upscaler(small_network("EDVR", 4)), scene(0, 6, 16, 20)
        results = restored(run, clip)
        assert np.array_equal(results[2].pixels, run.frames(list(clip[:5]), 2))

    def test_grey_and_colour_frames_in_one_window(self, upscaler):
        run = upscaler(small_network("TDAN", 4))
        clip = list(scene(0, 5, 16, 20))
        grey = clip[2][:1]
        mixed = [*clip[:2], grey, *clip[3:]]
        assert np.array_equal(
            restored(run, mixed)[2].pixels,
            restored(run, [*clip[:2], grey.repeat(3, 0), *clip[3:]])[2].pixels,
        )
        deep = [as_type(frame, np.uint16) if at else frame for at, frame in enumerate(clip)]
        assert np.allclose(restored(run, deep)[2].pixels, restored(run, clip)[2].pixels, atol=1e-5)


class TestChunks:
    """Of four frames, which are restored together with the frames in between."""

    @pytest.fixture
    def net(self):
        return small_network("MSTTSTVSR", 4)

    def test_they_begin_at_multiples(self, windows, net):
        seen = windows(net, numbered(8))
        assert seen == [([0, 1, 2, 3], None), ([3, 4, 5, 6], None), ([6, 7, 7, 7], None)]
        assert [window for window, _ in windows(net, numbered(7))] == [[0, 1, 2, 3], [3, 4, 5, 6]]
        assert windows(net, numbered(1)) == [([0, 0, 0, 0], None)]

    def test_they_end_at_a_cut(self, windows, net):
        seen = windows(net, two_scenes(5, 4), scene_cut="auto")
        assert [window for window, _ in seen] == [
            [0, 1, 2, 3],
            [3, 4, 4, 4],
            [5, 5, 5, 6],
            [6, 7, 8, 8],
        ]

    def test_results(self, upscaler, net):
        run, clip = upscaler(net), scene(0, 6, 16, 20)
        results = pixels_of(restored(run, clip))
        first = run.frames(list(clip[:4]), None)
        second = run.frames([*clip[3:], clip[5]], None)
        expected = [*first[:6], *second[:5], second[4]]
        assert len(results) == 12
        assert all(np.array_equal(*pair) for pair in zip(results, expected, strict=True))

    @pytest.mark.slow
    def test_a_scene_is_restored_as_if_it_were_alone(self, upscaler, net):
        run = upscaler(net)
        one, other = scene(0, 6, 16, 20), scene(1, 4, 16, 20)
        both = restored(run, np.concatenate([one, other]))
        assert equal(both, restored(run, one) + restored(run, other))
        # The scene begins within a chunk: its results do not depend on the frames before the cut.
        shifted = [restored(run, np.concatenate([scene(s, 5, 16, 20), other])) for s in (0, 2)]
        assert equal(shifted[0][10:], shifted[1][10:])
        assert np.array_equal(shifted[0][9].pixels, shifted[0][8].pixels)

    def test_any_number_of_frames(self, windows, upscaler):
        net = small_network("TwoStage", 2)
        seen = windows(net, numbered(6), num_frame=3)
        assert [window for window, _ in seen] == [[0, 1, 2], [2, 3, 4], [4, 5]]
        assert windows(net, numbered(1), num_frame=3) == [([0, 0], None)]
        run = upscaler(net, frames=3)
        assert len(restored(run, scene(0, 4))) == 8
        with pytest.raises(UserError, match="frames: TwoStage ×2 makes frames between two frames"):
            restored(upscaler(net, frames=1), scene(0, 2))


SLOW = pytest.param("DSTCSRNetPlus", marks=pytest.mark.slow)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["TDAN", SLOW, "MSTTSTVSR"])
@pytest.mark.parametrize("cut", ["auto", "off"])
def test_results_do_not_depend_on_the_borders_of_a_part(upscaler, name, cut):
    run = upscaler(small_network(name, 4), frames=3 if name == "DSTCSRNetPlus" else None)
    clip = np.concatenate([scene(0, 5, 16, 20), scene(1, 6, 16, 20), scene(2, 4, 16, 20)])
    whole = restored(run, clip, scene_cut=cut)
    context = ClipRestorer(run, upscale_options({"scene_cut": cut})).context
    for start, stop in [(0, 4), (4, 5), (5, 12), (12, 15)]:
        first, last = max(0, start - context), min(len(clip), stop + context)
        part = restored(run, clip[first:last], set(range(start, stop)), first, scene_cut=cut)
        scale = run.time_scale
        kept = part[(start - first) * scale : (stop - first) * scale]
        assert equal(kept, whole[start * scale : stop * scale])
        assert all(result is None for result in part[: (start - first) * scale])


class TestTransparency:
    @pytest.fixture
    def clip(self):
        mattes = scene(3, 6, 16, 20)[:, :1]
        mattes[:, :, :6] = 0
        return scene(0, 6, 16, 20), mattes

    @pytest.mark.parametrize("mode", ["model", "bicubic"])
    def test_single_images_are_as_pictures(self, upscaler, clip, mode):
        run = upscaler(small_network())
        results = restored(run, clip[0], alphas=clip[1], alpha=mode, batch=2)
        for pixels, matte, result in zip(*clip, results, strict=True):
            picture = with_alpha(Picture(pixels, matte), run.image, mode)
            assert np.abs(as_type(result.pixels, np.uint8).astype(int) - picture.pixels).max() <= 1
            assert np.abs(as_type(result.alpha, np.uint8).astype(int) - picture.alpha).max() <= 1

    def test_a_window_of_mattes(self, upscaler, clip):
        run = upscaler(small_network("TDAN", 4))
        result = restored(run, clip[0], alphas=[*clip[1][:4], None, None])[2]
        opaque = np.full_like(clip[1][0], 255)
        expected = run.frames([*clip[1][:4], opaque], 2).clip(0, 1)
        assert np.allclose(result.alpha, expected, atol=1e-6)

    @pytest.mark.parametrize("mode", ["model", "bicubic"])
    def test_frames_in_between(self, upscaler, clip, mode):
        run = upscaler(small_network("MSTTSTVSR", 4))
        constant = np.full_like(clip[1][0], 255)
        alphas = [clip[1][0], clip[1][1], constant, None]
        results = restored(run, clip[0][:4], alphas=alphas, alpha=mode)
        assert len(results) == 8
        assert all(r.alpha.min() >= 0 and r.alpha.max() <= 1 for r in results)
        assert [float(results[at].alpha.min()) for at in (4, 6, 7)] == [1, 1, 1]
        if mode == "bicubic":
            middle = (results[0].alpha + results[2].alpha) / 2
            assert np.abs(results[1].alpha - middle).max() < 0.05

    @pytest.mark.parametrize("name", ["EDSR", "TDAN", "MSTTSTVSR"])
    def test_one_value_stays(self, upscaler, clip, name):
        run = upscaler(small_network(name, 4 if name != "EDSR" else 2))
        half = [np.full_like(matte, 127) for matte in clip[1]]
        results = restored(run, clip[0], alphas=half)
        assert all((result.alpha == np.float32(127 / 255)).all() for result in results)
        opaque = restored(run, clip[0])
        assert all(result.alpha is None for result in opaque)

    def test_colours_that_are_not_seen_have_no_effect(self, upscaler, clip):
        run = upscaler(small_network("TDAN", 4))
        other = clip[0].copy()
        other[:, :, :6] = 0
        results = [restored(run, pixels, alphas=clip[1]) for pixels in (clip[0], other)]
        assert equal(*results)
