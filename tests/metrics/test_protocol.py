"""Protocols: what their fields do to an image, and that their hash knows each of them."""

from __future__ import annotations

import re
from dataclasses import FrozenInstanceError, fields, replace

import numpy as np
import pytest
import torch

from srtoolbox.data.files.levels import Levels
from srtoolbox.errors import UserError
from srtoolbox.metrics import PROTOCOLS, PSNR, SSIM, Protocol, get_protocol

_OTHER = {
    "name": "other",
    "version": 2,
    "color": "y",
    "grey": "direct",
    "y_rounding": True,
    "peak": 235,
    "ssim_range": 219,
    "ssim_window": "uniform",
    "crop_border": "scale",
    "round_8bit": False,
    "psnr_channels": "mean",
    "lpips_range": "unit",
    "average": "clips",
    "skip_frames": 2,
    "missing_neighbours": "centre",
}


@pytest.mark.parametrize("field", [field.name for field in fields(Protocol)])
def test_hash_changes_with_every_field(field):
    plain = Protocol("plain")
    changed = replace(plain, **{field: _OTHER[field]})
    assert changed.hash != plain.hash
    assert changed.describe() != plain.describe()


def test_hash_is_that_of_the_values():
    assert Protocol("t", peak=255).hash == Protocol("t", peak=255.0).hash
    assert re.fullmatch("[0-9a-f]{12}", Protocol("t").hash)
    hashes = {protocol.hash for protocol in PROTOCOLS.values()}
    assert len(hashes) == len(PROTOCOLS)


def test_published_hashes_stay():
    """A table printed today must be comparable tomorrow: a change of meaning needs a version."""
    assert {name: protocol.hash for name, protocol in PROTOCOLS.items()} == {
        "basicsr-rgb": "ce0e59af9942",
        "basicsr-y": "032a1a0c96c2",
        "matlab-y": "710328f3d1f9",
        "rgb": "f991c102aedc",
        "duf-y": "a52a69d1e9c9",
        "video-y": "76b391851ca7",
        "jilin189": "e423b63c9fcb",
        "jilin189-table": "0f01dab34aa7",
        "realbsr": "314954dad91e",
        "fbanet": "51f835a858fd",
        "dstc": "810236c5514c",
        "bands": "cd367cf45427",
        "probav": "7c472db94927",
    }


def test_the_scores_of_dstcs_authors(dstc_pairs):
    protocol = get_protocol("dstc")
    for sr, gt, golden in dstc_pairs:
        assert PSNR()(sr, gt, protocol=protocol, scale=4) == pytest.approx(golden["psnr"], abs=1e-5)
        assert SSIM()(sr, gt, protocol=protocol, scale=2) == pytest.approx(golden["ssim"], abs=1e-6)


def test_frozen():
    with pytest.raises(FrozenInstanceError):
        get_protocol("rgb").peak = 1


@pytest.mark.parametrize("name", PROTOCOLS)
def test_description_is_one_sentence(name):
    protocol = get_protocol(name)
    text = protocol.describe()
    assert "\n" not in text
    assert name in text
    assert protocol.hash in text
    assert text.endswith(".")


def test_unknown_names_say_what_is_close():
    with pytest.raises(UserError, match=r"did you mean 'basicsr-y' or 'basicsr-rgb'\?.*fbanet"):
        get_protocol("basicsr_Y")


@pytest.mark.parametrize(
    "field", ["color", "grey", "psnr_channels", "lpips_range", "average", "missing_neighbours"]
)
def test_impossible_values_are_named(field):
    with pytest.raises(
        UserError, match=f"protocol 't': {field} must be '.*' or '.*', got 'nonsense'"
    ):
        Protocol("t", **{field: "nonsense"})


def test_luma_of_known_colours():
    colours = torch.tensor([[1.0, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 1], [0, 0, 0]])
    image = colours.T[:, None]  # (3, 1, 5)
    luma = Protocol("t", color="y").prepare(image, 4)
    expected = torch.tensor([81.481, 144.553, 40.966, 235, 16], dtype=torch.float64)
    assert luma.dtype == torch.float64
    torch.testing.assert_close(luma[0, 0], expected)
    rounded = Protocol("t", color="y", y_rounding=True).prepare(image, 4)
    assert rounded[0, 0].tolist() == [81, 145, 41, 235, 16]


def test_grey():
    image = torch.full((1, 4, 4), 100 / 255)
    assert Protocol("t", grey="direct", color="y").prepare(image, 4).unique().item() == 100
    luma = Protocol("t", color="y").prepare(image, 4)
    assert luma.shape == (1, 4, 4)
    torch.testing.assert_close(luma[0, 0, 0].item(), 16 + 219 * 100 / 255)
    assert Protocol("t").prepare(image, 4).shape == (3, 4, 4)
    assert Protocol("t", grey="direct", color="y").prepare_rgb(image, 4).shape == (3, 4, 4)


def test_rounding_and_clamping():
    image = torch.tensor([-1.0, 0.25, 0.5, 2.0]).expand(3, 1, 4)
    assert Protocol("t").prepare(image, 4)[0, 0].tolist() == [0, 64, 128, 255]
    exact = Protocol("t", round_8bit=False).prepare(image, 4)[0, 0]
    torch.testing.assert_close(exact, torch.tensor([0, 63.75, 127.5, 255], dtype=torch.float64))


def test_eight_bit_values_survive():
    levels = torch.arange(256).to(torch.uint8)
    image = (levels.float() / 255).expand(3, 1, 256)
    assert Protocol("t").prepare(image, 4)[0, 0].tolist() == levels.tolist()


@pytest.mark.parametrize(("crop", "scale", "side"), [(0, 4, 20), ("scale", 3, 14), (8, 3, 4)])
def test_crop(crop, scale, side):
    image = torch.rand(3, 20, 20)
    protocol = Protocol("t", crop_border=crop)
    assert protocol.prepare(image, scale).shape == (3, side, side)
    assert protocol.prepare_rgb(image, scale).shape == (3, side, side)
    whole = replace(protocol, crop_border=0).prepare(image, scale)
    border = (20 - side) // 2
    torch.testing.assert_close(
        protocol.prepare(image, scale), whole[:, border : 20 - border, border : 20 - border]
    )


def test_bad_images_are_named():
    with pytest.raises(UserError, match=r"\(4, 8, 8\); protocol 'bands' scores any number"):
        Protocol("t").prepare(torch.rand(4, 8, 8), 4)
    with pytest.raises(UserError, match=r"40 pixels per side.*80×90"):
        get_protocol("fbanet").prepare(torch.rand(3, 80, 90), 4)
    with pytest.raises(UserError, match=r"'bands': scores images \(C, H, W\), got shape \(8, 8\)"):
        get_protocol("bands").prepare(torch.rand(8, 8), 4)
    with pytest.raises(UserError, match=r"scores grey or RGB images .*\(4, 20, 20\)$"):
        get_protocol("bands").prepare_rgb(torch.rand(4, 20, 20), 4)


@pytest.mark.parametrize("channels", [1, 2, 3, 13])
def test_bands_are_compared_directly(channels):
    image = torch.rand(channels, 12, 14)
    expected = image[:, 2:-2, 2:-2].double() * 255
    for prepare in (get_protocol("bands").prepare, get_protocol("bands").prepare_spectrum):
        torch.testing.assert_close(prepare(image, 2), expected, rtol=0, atol=0)
    assert get_protocol("bands").takes(channels)
    assert get_protocol("rgb").takes(channels) == (channels in (1, 3))
    assert get_protocol("basicsr-y").takes(channels) == (channels in (1, 3))


def test_twelve_bits_with_a_white_level_are_eight_bits():
    """The same content in 8 and in 12 of 16 bits has the same values under 8-bit protocols."""
    rng = np.random.default_rng(0)
    eight = rng.integers(0, 256, (3, 30, 33), dtype=np.uint8)
    twelve = np.round(eight / 255 * 4095).astype(np.uint16)
    read = torch.from_numpy(Levels(4095).apply(twelve)), torch.from_numpy(eight / np.float32(255))
    for name in PROTOCOLS:
        if name not in ("fbanet", "dstc", "bands", "probav"):
            deep, plain = (get_protocol(name).prepare(image, 4) for image in read)
            assert torch.equal(deep, plain), name
