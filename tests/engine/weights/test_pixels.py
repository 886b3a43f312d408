"""Facts about the pixels of the training data in weight files."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from safetensors import safe_open

import srtoolbox
from srtoolbox.archs.edsr import EDSR
from srtoolbox.cli import main
from srtoolbox.data.files.levels import Levels
from srtoolbox.engine.onnx_model import ProgramInfo
from srtoolbox.engine.training.train import train
from srtoolbox.engine.weights.convert import convert
from srtoolbox.engine.weights.describe import describe_weights
from srtoolbox.engine.weights.load import read_weights, save_weights
from srtoolbox.engine.weights.pixels import PixelFacts, facts_from, pixel_facts
from srtoolbox.errors import UserError

ARCH = {"type": "EDSR", "num_feat": 4, "num_block": 1, "scale": 2}
FACTS = PixelFacts(3, (4, 3, 2), (10000, 9000.5, 8000), 1000)


def net() -> EDSR:
    torch.manual_seed(0)
    return EDSR(scale=2, num_feat=4, num_block=1)


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_facts_lie_beside_the_arch(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"net{suffix}"
    save_weights(path, ARCH, net(), pixels=FACTS)
    assert read_weights(path).pixels == FACTS
    assert srtoolbox.load(path)[0].pixel_facts == FACTS
    lines = describe_weights(path)
    wanted = (
        "pixels of the training data: 3 channels; bands 4, 3, 2 of the files; white level [10000, "
        "9000.5, 8000], black level 1000; of 16-bit integers"
    )
    assert wanted in lines
    for other in (".safetensors", ".pth"):
        convert(path, tmp_path / f"other{other}")
        assert read_weights(tmp_path / f"other{other}").pixels == FACTS


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_default_facts_change_no_file(tmp_path: Path, suffix: str) -> None:
    save_weights(tmp_path / f"a{suffix}", ARCH, net())
    save_weights(tmp_path / f"b{suffix}", ARCH, net(), pixels=PixelFacts())
    files = [tmp_path / f"{name}{suffix}" for name in "ab"]
    assert read_weights(files[0]).pixels == PixelFacts()
    if suffix == ".safetensors":
        for path in files:
            with safe_open(path, framework="pt") as file:
                assert set(file.metadata()) == {"format", "arch", "srtoolbox"}
    else:
        contents = [torch.load(file, weights_only=True) for file in files]
        assert list(contents[0]) == list(contents[1]) == ["arch", "params"]
    assert not any(line.startswith("pixels") for line in describe_weights(files[0]))


def test_only_what_differs_is_stored(tmp_path: Path) -> None:
    assert FACTS.to_json() == {
        "bands": [4, 3, 2],
        "white_level": [10000, 9000.5, 8000],
        "black_level": 1000,
    }
    assert facts_from(json.loads(json.dumps(FACTS.to_json()))) == FACTS
    assert PixelFacts(4).to_json() == {"channels": 4}
    assert PixelFacts().to_json() == {}


def test_a_program_of_onnx_has_them() -> None:
    given = ("1", {"type": "EDSR"}, "a", 2, 1, 0, 3, 1, 1, False, 1, None, None)
    info = ProgramInfo(*given, pixels=FACTS.to_json())
    assert facts_from(ProgramInfo.from_json(info.to_json()).pixels) == FACTS
    assert "pixels" not in json.loads(ProgramInfo(*given).to_json())


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"channels": 0}, "channels must be an integer from 1 on, got 0"),
        ({"gamma": 2.2}, "unknown gamma; known are channels, bands"),
        ({"bands": [1, 2]}, "bands must be 3 numbers"),
        ({"bands": [0, 1, 2]}, "bands must be 3 numbers"),
        ({"white_level": "x"}, "white_level must be a number, or 3 numbers"),
        ({"white_level": [1, 2]}, "white_level must be a number, or 3 numbers"),
        ({"white_level": float("nan")}, "white_level must be a number"),
        ({"black_level": None}, "black_level must be a number"),
        ({"white_level": 5, "black_level": 7}, "black_level 7 is not below white_level 5"),
        ({"scale_floats": 1}, "scale_floats must be true or false"),
        ([1], "expected facts by name"),
    ],
)
def test_damaged_facts_are_named(tmp_path: Path, content: object, words: str) -> None:
    state = net().state_dict()
    torch.save({"arch": ARCH, "params": state, "pixels": content}, tmp_path / "a.pth")
    with pytest.raises(UserError, match=rf"a\.pth: pixels: {words}"):
        read_weights(tmp_path / "a.pth")
    # Without an arch, it is an entry of another project.
    torch.save({"params": state, "pixels": content}, tmp_path / "b.pth")
    assert read_weights(tmp_path / "b.pth").pixels == PixelFacts()


def test_facts_of_a_dataset() -> None:
    assert pixel_facts(None, None) == pixel_facts({"type": "PairedImages"}, None) == PixelFacts()
    spec = {"type": "PairedImages", "bands": [4, 3, 2, 1], "white_level": 4095}
    wanted = PixelFacts(4, (4, 3, 2, 1), 4095)
    assert pixel_facts(spec, None) == wanted
    dataset = SimpleNamespace(channels=4, levels=Levels(4095, 0))
    assert pixel_facts(spec, dataset) == wanted
    # Levels of its layout, and no options.
    dataset = SimpleNamespace(channels=3, levels=Levels(4095, 5))
    assert pixel_facts({}, dataset) == PixelFacts(white_level=4095, black_level=5)
    assert pixel_facts({}, SimpleNamespace(channels=3, levels=Levels())) == PixelFacts()
    assert pixel_facts({}, SimpleNamespace(channels=13)) == PixelFacts(13)
    assert pixel_facts({"scale_floats": True}, None) == PixelFacts()
    floats = {"scale_floats": True, "white_level": 10000}
    assert pixel_facts(floats, None).applies_to("float32")


def test_ranges() -> None:
    assert not PixelFacts().applies_to("uint16")
    assert FACTS.applies_to("int16") and not FACTS.applies_to("uint8")
    assert [FACTS.range_of("uint16", place) for place in (0, 1)] == [(1000, 10000), (1000, 9000.5)]
    dark = PixelFacts(black_level=64)
    assert dark.range_of("uint16", 2) == (64, 65535) and dark.range_of("int16", 0) == (64, 32767)


@pytest.mark.slow
def test_a_training_writes_them(options, tmp_path: Path, capsys) -> None:
    rng = np.random.default_rng(0)
    folder = tmp_path / "deep"
    folder.mkdir()
    for index in range(2):
        values = rng.integers(0, 4096, (64, 64, 3)).astype(np.uint16)
        cv2.imwrite(str(folder / f"{index}.png"), values)
    data = f"{{type: PairedImages, dataroot_gt: {folder}, gt_size: 32, white_level: 4095}}"
    opt = options(f"datasets.train={data}", "train.ema_decay=0.5")
    train(opt, torch.device("cpu"), resume=False)
    files = [opt.folder / "weights" / f"net_g_{name}.pth" for name in ("latest", "best")]
    assert [read_weights(file).pixels for file in files] == [PixelFacts(white_level=4095)] * 2
    assert main(["show", "weights", str(files[0])]) == 0
    assert "white level 4095, black level 0; of 16-bit integers" in capsys.readouterr().out
    # They come from the options again if the file is damaged.
    files[0].write_bytes(b"damaged")
    train(opt, torch.device("cpu"), resume=True)
    assert read_weights(files[0]).pixels == PixelFacts(white_level=4095)
    plain = options("name=plain", "train.total_iter=2")
    train(plain, torch.device("cpu"), resume=False)
    content = torch.load(plain.folder / "weights" / "net_g_latest.pth", weights_only=True)
    assert list(content) == ["arch", "params"]
