"""MATLAB's imresize for tensors: the numpy results, their gradients, and what it refuses."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor

from srtoolbox.data.resize.array import imresize
from srtoolbox.data.resize.tensor import imresize_tensor
from srtoolbox.errors import UserError

EDGES = ["symmetric", "replicate"]
DEVICES = [
    "cpu",
    pytest.param("cuda", marks=pytest.mark.cuda),
]


def _read(path: Path) -> Tensor:
    with Image.open(path) as image:
        pixels = np.asarray(image)
    return torch.tensor(pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1))


def _noise(*shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(0), dtype=dtype)


def _by_numpy(x: Tensor, scale: float | None, **options) -> np.ndarray:
    planes = x.numpy().reshape(-1, *x.shape[-2:])
    planes = np.stack([imresize(plane, scale, **options) for plane in planes])
    return planes.reshape(*x.shape[:-2], *planes.shape[-2:])


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize("dataset", ["Set5", "Set14"])
def test_exact_on_the_single_image_sets(reference, dataset, scale, device):
    folder = reference / "data" / dataset
    paths = sorted((folder / "HR").glob("*.png"))
    assert len(paths) == {"Set5": 5, "Set14": 14}[dataset]
    for path in paths:
        hr, lr = _read(path), _read(folder / f"LR_bicubic/X{scale}" / path.name)
        hr = hr[..., : lr.shape[-2] * scale, : lr.shape[-1] * scale].to(device)
        ours = imresize_tensor(hr, 1 / scale, edge="replicate", round_between_passes=True)
        assert torch.equal(ours.cpu(), lr), path.name


@pytest.mark.parametrize("device", DEVICES)
def test_exact_on_a_batch_of_jilin(reference, device):
    folder = reference / "data/Jilin/001"
    gt, lr = (
        torch.stack([_read(path) for path in sorted((folder / kind).glob("*.png"))])
        for kind in ("GT", "LR")
    )
    assert torch.equal(imresize_tensor(gt.to(device), 1 / 4, edge="replicate").cpu(), lr)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("edge", EDGES)
@pytest.mark.parametrize("scale", [1 / 8, 1 / 4, 1 / 3, 1 / 2, 0.6, 1, 1.5, 2, 3, 4])
def test_the_numpy_result(scale, edge, device):
    for shape in ((1, 2), (3, 40, 5), (2, 3, 77, 150)):
        x = _noise(*shape)
        expected = _by_numpy(x, scale, edge=edge)
        double = imresize_tensor(x.to(device), scale, edge=edge)
        assert double.dtype == torch.float64
        np.testing.assert_allclose(double.cpu().numpy(), expected, rtol=0, atol=1e-12)
        single = imresize_tensor(x.float().to(device), scale, edge=edge)
        assert single.dtype == torch.float32
        np.testing.assert_allclose(single.cpu().numpy(), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("round_between_passes", [False, True])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.uint16, torch.int16])
def test_integers_are_rounded_as_by_numpy(dtype, round_between_passes):
    x = (_noise(2, 3, 41, 64) * torch.iinfo(dtype).max).to(dtype)
    options = {"edge": "replicate", "round_between_passes": round_between_passes}
    for scale in (1 / 4, 1 / 3, 2):
        ours = imresize_tensor(x, scale, **options)
        assert ours.dtype == dtype
        assert np.array_equal(ours.numpy(), _by_numpy(x, scale, **options))


@given(
    st.integers(0, 2**32),
    st.sampled_from([torch.uint8, torch.uint16, torch.float64]),
    st.lists(st.integers(1, 70), min_size=2, max_size=4),
    st.one_of(st.sampled_from([1 / 8, 1 / 4, 1 / 3, 1 / 2, 1, 2, 3, 4]), st.floats(0.08, 4.5)),
    st.sampled_from(EDGES),
    st.booleans(),
    st.booleans(),
)
def test_any_image_is_resized_as_by_numpy(
    seed, dtype, shape, scale, edge, antialias, round_between_passes
):
    shape = [min(length, 3) for length in shape[:-2]] + shape[-2:]
    is_integer = dtype != torch.float64
    top_value = torch.iinfo(dtype).max if is_integer else 1
    x = torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    x = (x * top_value).to(dtype)
    options = {"edge": edge, "antialias": antialias}
    options["round_between_passes"] = round_between_passes and is_integer
    ours = imresize_tensor(x, scale, **options).numpy()
    expected = _by_numpy(x, scale, **options)
    assert ours.dtype == expected.dtype
    np.testing.assert_allclose(ours, expected, rtol=0, atol=0 if is_integer else 1e-12)


def test_out_size_and_antialias():
    x = _noise(3, 24, 36)
    for scale, options in ((None, {"out_size": (12, 7)}), (1 / 2, {"antialias": False})):
        ours = imresize_tensor(x, scale, **options)
        np.testing.assert_allclose(ours.numpy(), _by_numpy(x, scale, **options), atol=1e-12)


def test_dtype_converts_first():
    x = (_noise(3, 16, 16) * 255).to(torch.uint8)
    for dtype in (torch.float32, torch.float64):
        ours = imresize_tensor(x, 1 / 2, dtype=dtype)
        assert ours.dtype == dtype
        assert torch.equal(ours, imresize_tensor(x.to(dtype), 1 / 2))
    half = x.half() / 255
    assert imresize_tensor(half, 1 / 2).dtype == torch.float16
    expected = imresize_tensor(half.float(), 1 / 2)
    assert torch.equal(imresize_tensor(half, 1 / 2, dtype=torch.float32), expected)
    assert torch.equal(imresize_tensor(half, 1 / 2), expected.half())


@pytest.mark.parametrize("shape", [(0, 3, 8, 8), (2, 0, 8, 8)])
def test_no_images_are_no_error(shape):
    assert imresize_tensor(torch.zeros(shape), 1 / 2).shape == (*shape[:2], 4, 4)


@pytest.mark.slow
@pytest.mark.parametrize("edge", EDGES)
@pytest.mark.parametrize("scale", [1 / 3, 2])
def test_gradients(scale, edge):
    x = _noise(2, 9, 6).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: imresize_tensor(x, scale, edge=edge), x)
    assert torch.autograd.gradgradcheck(lambda x: imresize_tensor(x, scale, edge=edge).square(), x)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_gradients_across_blocks_are_the_adjoint(dtype, device):
    """<g, A x> = <A^T g, x>, for lines of many blocks, whatever the memory layout."""
    x = _noise(2, 3, 301, 170, dtype=dtype).to(device, memory_format=torch.channels_last)
    x.requires_grad_()
    for scale in (1 / 4, 0.7, 1.6):
        y = imresize_tensor(x, scale, edge="replicate")
        g = _noise(*y.shape, dtype=dtype).to(device)
        (back,) = torch.autograd.grad(y, x, g)
        assert back.dtype == dtype
        one, two = ((a.double() * b.double()).sum().item() for a, b in ((g, y), (back, x)))
        tolerance = {torch.float16: 1e-3, torch.float32: 1e-6, torch.float64: 1e-12}[dtype]
        assert one == pytest.approx(two, rel=tolerance)


@pytest.fixture
def permit_tf32():
    matmul = torch.backends.cuda.matmul
    before = matmul.allow_tf32

    def permit() -> None:
        matmul.allow_tf32 = True

    yield permit
    matmul.allow_tf32 = before


@pytest.mark.parametrize("device", DEVICES)
def test_neither_autocast_nor_tf32_changes_anything(device, permit_tf32):
    x = _noise(1, 3, 64, 256, dtype=torch.float32).to(device).requires_grad_()
    y = imresize_tensor(x, 1 / 4)
    (back,) = torch.autograd.grad(y.square().sum(), x)
    permit_tf32()
    with torch.autocast(device, dtype=torch.bfloat16):
        again = imresize_tensor(x, 1 / 4)
        (back_again,) = torch.autograd.grad(again.square().sum(), x)
    assert again.dtype == torch.float32
    assert torch.equal(again, y)
    assert torch.equal(back_again, back)


def test_weights_made_in_inference_mode_serve_training():
    x = _noise(3, 23, 29)
    with torch.inference_mode():
        first = imresize_tensor(x, 1 / 2)
    x.requires_grad_()
    second = imresize_tensor(x, 1 / 2)
    second.sum().backward()
    assert torch.equal(first, second)
    assert x.grad.sum().item() == pytest.approx(second.numel())


@pytest.mark.parametrize(
    ("x", "options", "message"),
    [
        (torch.zeros(4), {}, r"\(4,\)"),
        (torch.zeros(3, 0, 4), {}, r"\(3, 0, 4\)"),
        (torch.zeros(4, 4, dtype=torch.int64), {}, "int64"),
        (torch.zeros(4, 4), {"round_between_passes": True}, "integer"),
        (torch.zeros(4, 4), {"dtype": torch.float16}, "float16"),
        (torch.zeros(4, 4), {"edge": "reflect"}, "symmetric"),
        (torch.zeros(4, 4), {"scale": None}, "out_size"),
        (torch.zeros(4, 4), {"scale": -1}, "positive"),
        (torch.zeros(4, 4), {"out_size": (0, 4)}, "at least"),
        (torch.zeros(4, 4), {"out_size": (4,)}, "at least"),
    ],
)
def test_bad_input_is_named(x, options, message):
    with pytest.raises(UserError, match=f"imresize_tensor: .*{message}"):
        imresize_tensor(x, **{"scale": 1 / 2, **options})
