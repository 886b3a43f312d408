"""Objects that move on their own: where they are, what they leave alone, what decides on them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from support.bursts import CLEAN, SIZE, noise_image, rng, stack
from torch import Tensor

from srtoolbox.data.degradations.objects import draw_objects, put_drawn_objects, put_objects, stored
from srtoolbox.data.degradations.raw import RawPipeline
from srtoolbox.data.degradations.rgb import RgbPipeline
from srtoolbox.errors import UserError

MOVING: dict[str, Any] = {"num_object": 2, "object_shift": 8.0}
STILL: dict[str, Any] = {"max_shift": 0.0, "max_rotation": 0.0}


def burst(pipeline: RgbPipeline, hr: Tensor | None = None, seed: int = 0) -> dict[str, Tensor]:
    hr = noise_image(pipeline) if hr is None else hr
    return pipeline.apply(hr, stack(pipeline.draw(rng(seed))), SIZE)


def put(image: Tensor, half: tuple[float, float], place: tuple[float, float], **more: Any):
    shape = [*half, more.pop("angle", 0.0), more.pop("power", 2.0)]
    texture = more.pop("texture", (0.0, 0.0))
    arrays = [torch.tensor([[value]]) for value in (shape, place, texture)]
    return put_objects(image, *arrays, max(half), **more)


def white(side: int = 61, **shape: Any) -> Tensor:
    """Returns the fraction of each pixel of a black image that a white object covers."""
    return put(torch.zeros(1, 1, side, side), light=torch.ones(1, 1), **shape)[0, 0] / 255


class TestShape:
    @pytest.mark.parametrize("power", [2.0, 4.0, 6.0])
    @pytest.mark.parametrize("half", [(3.0, 1.5), (12.0, 8.0)])
    def test_area_and_centre(self, half: tuple[float, float], power: float) -> None:
        cover = white(half=half, place=(4.3, -2.6), angle=0.7, power=power).double()
        fine = np.abs(np.linspace(-1, 1, 2001))
        inside = (fine[:, None] ** power + fine**power <= 1).mean()
        assert cover.sum() == pytest.approx(4 * half[0] * half[1] * inside, rel=0.035)
        place = torch.arange(61) - 30.0
        assert (cover.sum(0) * place).sum() / cover.sum() == pytest.approx(4.3, abs=0.04)
        assert (cover.sum(1) * place).sum() / cover.sum() == pytest.approx(-2.6, abs=0.04)

    def test_the_edge_is_one_pixel_wide(self) -> None:
        cover = white(half=(20.0, 20.0), place=(0.0, 0.0))
        distance = torch.hypot(*torch.meshgrid([torch.arange(61) - 30.0] * 2, indexing="ij")) - 20
        assert (cover[distance < -0.51] == 1).all()
        assert (cover[distance > 0.51] == 0).all()
        np.testing.assert_allclose(cover, (0.5 - distance).clamp(0, 1), atol=0.02)

    def test_the_length_lies_along_the_angle_from_x_to_y(self) -> None:
        cover = white(half=(10.0, 2.0), place=(0.0, 0.0), angle=np.pi / 4)
        assert cover[35, 35] == 1
        assert cover[25, 35] == 0

    @pytest.mark.parametrize("place", [(-30.0, 0.0), (29.0, 33.0), (-45.0, 2.0), (200.0, -200.0)])
    def test_what_lies_beyond_the_image_is_cut_off(self, place: tuple[float, float]) -> None:
        whole = white(side=601, half=(6.0, 5.0), place=place)[270:331, 270:331]
        np.testing.assert_allclose(white(half=(6.0, 5.0), place=place), whole, atol=1e-4)

    def test_images_smaller_than_an_object(self) -> None:
        assert (white(side=5, half=(20.0, 20.0), place=(1.0, 0.0)) == 1).all()


class TestContent:
    def test_texture_is_the_image_of_elsewhere(self) -> None:
        image = torch.from_numpy(rng().uniform(0, 255, (1, 3, 61, 50))).float()
        out = put(image, (6.0, 6.0), (-3.0, 5.0), texture=(12.0, -9.0), power=6.0)[0]
        place = np.s_[:, 30 + 5 - 4 : 30 + 5 + 5, 22 - 4 : 22 + 5]  # the centre is at 24.5
        source = np.s_[:, 30 - 4 - 4 : 30 - 4 + 5, 34 - 4 : 34 + 5]
        np.testing.assert_allclose(out[place], image[0][source], atol=0.01)
        assert torch.equal(out[:, :20], image[0, :, :20])

    def test_light(self) -> None:
        image = torch.full((1, 3, 31, 31), 100.0)
        for light, level in ((0.0, 100), (0.6, 193), (1.0, 255), (-0.6, 40), (-1.0, 0)):
            out = put(image, (6.0, 6.0), (0.0, 0.0), light=torch.tensor([[light]]))
            assert out[0, 0, 15, 15] == pytest.approx(level, abs=1e-3)

    def test_later_objects_lie_over_earlier_ones_and_show_none_of_them(self) -> None:
        image = torch.full((1, 1, 41, 41), 90.0)
        shape = torch.tensor([[[8.0, 8, 0, 2], [3, 3, 0, 2]]])
        light = torch.tensor([[1.0, 0.0]])
        out = put_objects(image, shape, torch.zeros(1, 2, 2), torch.zeros(1, 2, 2), 8.0, light)
        assert out[0, 0, 20, 20] == pytest.approx(90, abs=1e-3)
        assert out[0, 0, 20, 26] == 255

    def test_types(self) -> None:
        levels = torch.tensor([0.0, 1.4, 99.5, 255])
        assert stored(levels, torch.uint8).tolist() == [0, 1, 100, 255]
        assert stored(levels, torch.uint16).to(torch.int32).tolist() == [0, 360, 25572, 65535]
        assert stored(levels, torch.float32)[3] == 1


class TestDraw:
    def test_no_object_draws_nothing_and_objects_change_no_other_choice(self) -> None:
        one, two = rng(), rng()
        plain, moving = RgbPipeline().draw(one), RgbPipeline(**MOVING).draw(two)
        assert plain.keys() == {"blur_sigma", "noise", "noise_seed", "motion"}
        for name, value in plain.items():
            assert np.array_equal(value, moving[name])
        assert one.bit_generator.state == two.bit_generator.state

    def test_numbers_never_change(self) -> None:
        """A benchmark would change with them."""
        plain = RgbPipeline(num_frame=2).draw(rng())
        assert plain["noise_seed"] == 3750546991322993742
        np.testing.assert_allclose(plain["blur_sigma"], 0.764354, atol=1e-5)
        np.testing.assert_allclose(plain["motion"][1, :, 2], [1.2796293, 2.7539587], atol=1e-5)
        objects = draw_objects(1, 2, 1.0, 5)
        shape = [20.8800468, 20.9270535, 1.6189430, 3.1432054]
        np.testing.assert_allclose(objects["object_shape"][0], shape, atol=1e-5)
        np.testing.assert_allclose(
            objects["object_shift"][0, 1], [-0.9024846, 0.9983522], atol=1e-5
        )

    def test_beginnings(self) -> None:
        """Fewer frames or objects are the first of more; a longer way is the same, stretched."""
        base = draw_objects(3, 14, 8.0, 7)
        fewer = draw_objects(2, 5, 2.0, 7)
        for name, value in fewer.items():
            many = base[name][:2]
            if name == "object_shift":
                many = many[:, :5] / 4
            np.testing.assert_allclose(value, many, rtol=1e-6)

    def test_ranges(self) -> None:
        drawn = draw_objects(300, 4, 5.0, 1)
        shape, shift = drawn["object_shape"], drawn["object_shift"]
        assert shape[:, :2].min() >= 8 and shape[:, :2].max() <= 24
        assert (shift[:, 0] == 0).all()
        assert 4.9 < np.abs(shift).max() <= 5
        away = np.abs(drawn["object_source"] - drawn["object_place"])
        assert np.abs(drawn["object_source"]).max() <= 0.5
        assert away.min() >= 0.25 - 1e-6


class TestBurst:
    @pytest.mark.parametrize("dtype", [torch.uint8, torch.uint16, torch.float32])
    def test_the_reference_is_the_reduced_truth(self, dtype: torch.dtype) -> None:
        pipeline = RgbPipeline(num_frame=2, **CLEAN, **MOVING)
        hr = stored(noise_image(pipeline).float(), dtype)
        made = burst(pipeline, hr)
        assert made["gt"].dtype == dtype
        top = {torch.uint8: 255.0, torch.uint16: 65535.0}.get(dtype, 1.0)
        gt = made["gt"][0].to(torch.float64) / top * 255
        box = gt.reshape(3, SIZE[0] // 4, 4, SIZE[1] // 4, 4).mean((2, 4))
        assert (made["lq"][0, 0] - box).abs().max() < 0.501

    def test_the_truth_is_the_image_but_for_the_objects(self) -> None:
        with_objects, without = RgbPipeline(num_frame=3, **MOVING), RgbPipeline(num_frame=3)
        hr = noise_image(without)
        seen = put_drawn_objects(hr.float(), stack(with_objects.draw(rng())), 0, SIZE)
        untouched = (seen == hr.float()).all(1)[0]
        margin = without.margin(max(SIZE))
        untouched = untouched[margin:-margin, margin:-margin]
        one, two = burst(with_objects), burst(without)
        assert 0.3 < untouched.float().mean() < 0.95
        same = (one["gt"] == two["gt"]).all(1)[0]
        assert same[untouched].all()
        assert not same[~untouched].all()

    def test_frames_differ_where_objects_are_alone(self) -> None:
        """Motion, blur and noise of the scene are the same to the last bit."""
        pipelines = [RgbPipeline(num_frame=3, **more) for more in (MOVING, {})]
        size, margin = (256, 256), pipelines[0].margin(256)
        hr = torch.from_numpy(rng(2).integers(0, 256, (1, 3, *[256 + 2 * margin] * 2), np.uint8))
        one, two = (p.apply(hr, stack(p.draw(rng(4))), size)["lq"] for p in pipelines)
        differs = (one != two).any(2)[0].float().mean((1, 2))
        assert (differs > 0).all()
        assert (differs < 0.2).all()

    def test_objects_move_against_the_scene_and_with_it(self) -> None:
        """A white scene with a black piece for texture: the mean place of what is dark."""
        pipeline = RgbPipeline(
            num_frame=5, num_object=1, object_shift=8.0, max_shift=3.0, max_rotation=0.0, **CLEAN
        )
        size, margin = (256, 256), pipeline.margin(256)
        choices = pipeline.draw(rng(1))
        choices["object_place"][:], choices["object_source"][:] = 0.0, 0.45
        hr = torch.full((1, 3, 256 + 2 * margin, 256 + 2 * margin), 255, dtype=torch.uint8)
        hr[..., margin + 190 :, margin + 190 :] = 0
        lq = pipeline.apply(hr, stack(choices), size)["lq"][0, :, 0, 20:44, 20:44].double()
        dark = 255 - lq
        place = 4 * torch.arange(20, 44) + 1.5 - 127.5
        x = (dark.sum(1) * place).sum(1) / dark.sum((1, 2))
        y = (dark.sum(2) * place).sum(1) / dark.sum((1, 2))
        found = torch.stack([x, y], 1).numpy()
        expected = choices["object_shift"][0] - choices["motion"][:, :, 2]
        np.testing.assert_allclose(found - found[0], expected - expected[0], atol=0.2)

    def test_objects_without_shift_move_with_the_scene(self) -> None:
        pipeline = RgbPipeline(num_frame=3, num_object=2, **STILL, **CLEAN)
        lq = burst(pipeline)["lq"]
        assert ((lq[:, 1:].int() - lq[:, :1].int()).abs() <= 1).all()

    def test_samples_frames_and_objects_are_independent(self) -> None:
        pipeline = RgbPipeline(num_frame=4, **MOVING)
        hr = noise_image(pipeline, 3)
        choices = [pipeline.draw(rng(seed)) for seed in range(3)]
        batch = pipeline.apply(hr, stack(*choices), SIZE)
        shorter = RgbPipeline(num_frame=2, **MOVING)
        for n in range(3):
            alone = shorter.apply(hr[n : n + 1], stack(shorter.draw(rng(n))), SIZE)
            assert torch.equal(batch["gt"][n], alone["gt"][0])
            assert torch.equal(batch["lq"][n, :2], alone["lq"][0])

    def test_bad_options(self) -> None:
        with pytest.raises(UserError, match="num_object must not be negative"):
            RgbPipeline(num_object=-1)
        with pytest.raises(UserError, match="object_shift must not be negative"):
            RgbPipeline(object_shift=-1.0)
        with pytest.raises(TypeError):
            RawPipeline(num_object=1)  # type: ignore[call-arg]
