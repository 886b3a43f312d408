"""Rewriting weight files with their arch, and scoring them without an option file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image

from srtoolbox.archs.edsr import EDSR
from srtoolbox.cli import main
from srtoolbox.engine.evaluation.test import load_test_options, run_test
from srtoolbox.engine.weights.convert import convert
from srtoolbox.engine.weights.load import load, read_weights, save_weights, weights_hash
from srtoolbox.engine.weights.pixels import PixelFacts
from srtoolbox.errors import UserError
from srtoolbox.utils.files import read_lines

CPU = torch.device("cpu")
PLANES = {"photometric": "minisblack", "planarconfig": "contig"}
SIZES = ["num_feat=4", "num_block=1"]
ARCH = {"type": "EDSR", "num_feat": 4, "num_block": 1, "scale": 2}


def net(seed: int = 0) -> EDSR:
    torch.manual_seed(seed)
    return EDSR(scale=2, num_feat=4, num_block=1)


@pytest.fixture
def plain_file(tmp_path: Path) -> Path:
    torch.save(net().state_dict(), tmp_path / "plain.pth")
    return tmp_path / "plain.pth"


@pytest.fixture
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of an LR and a GT folder with two images."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    for folder, side in (("LR", 16), ("GT", 32)):
        Path(folder).mkdir()
        for name in ("a", "b"):
            pixels = rng.integers(0, 256, (side, side, 3), np.uint8)
            Image.fromarray(pixels).save(Path(folder, f"{name}.png"))
    return ["LR", "GT"]


class TestConvert:
    @pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
    def test_the_arch_is_written_down(self, plain_file: Path, suffix: str) -> None:
        target = plain_file.with_suffix(".new" + suffix)
        line = convert(plain_file, target, "EDSR", [*SIZES, "scale=2"])
        assert f"wrote {target}: EDSR x2 ({weights_hash(net())})" in line
        built, arch = load(target, CPU)
        assert arch == ARCH
        assert weights_hash(built) == weights_hash(net())

    def test_the_scale_is_written_even_if_it_is_the_default(self, tmp_path: Path) -> None:
        torch.save(EDSR(num_feat=4, num_block=1).state_dict(), tmp_path / "net.pth")
        convert(tmp_path / "net.pth", tmp_path / "net.safetensors", "EDSR", SIZES)
        assert read_weights(tmp_path / "net.safetensors").arch["scale"] == 4

    def test_the_file_contains_its_arch(self, tmp_path: Path) -> None:
        source, target = tmp_path / "net.pth", tmp_path / "net.safetensors"
        save_weights(source, ARCH, net(0), net(1))
        for key, seed in ((None, 1), ("params", 0)):
            convert(source, target, key=key, overrides=["res_scale=0.5"])
            built, arch = load(target, CPU)
            assert arch == {**ARCH, "res_scale": 0.5}
            assert weights_hash(built) == weights_hash(net(seed))

    def test_faults(self, plain_file: Path, tmp_path: Path) -> None:
        target = tmp_path / "new.safetensors"
        faults = {
            r"plain\.pth: does not contain the name of its arch \(its .* names of EDSR\)": {},
            r"does not fit EDSR": {"arch": "EDSR", "overrides": SIZES},
            r"--set num_fet=4: network_g\.num_fet: unknown; did you mean 'num_feat'": {
                "arch": "EDSR",
                "overrides": ["num_fet=4"],
            },
            r"--arch: network_g\.type: unknown arch 'ESDR'": {"arch": "ESDR"},
        }
        for words, arguments in faults.items():
            with pytest.raises(UserError, match=words):
                convert(plain_file, target, **arguments)
        assert not target.exists()

    def test_names(self, plain_file: Path) -> None:
        with pytest.raises(UserError, match=r"must end in \.safetensors or \.pth"):
            convert(plain_file, plain_file.with_suffix(".bin"), "EDSR")
        with pytest.raises(UserError, match="is the input file itself; choose another name"):
            convert(plain_file, plain_file, "EDSR")
        with pytest.raises(UserError, match=r"none\.pth: no such weight file"):
            convert(plain_file.with_name("none.pth"), plain_file, "EDSR")


class TestWithoutOptionFile:
    def test_the_whole_way(self, plain_file: Path, folders: list[str], capsys) -> None:
        flags = [part for option in [*SIZES, "scale=2"] for part in ("--set", option)]
        assert main(["convert", "plain.pth", "x2.safetensors", "--arch", "EDSR", *flags]) == 0
        assert "wrote x2.safetensors: EDSR x2" in capsys.readouterr().out
        assert main(["test", "--weights", "x2.safetensors", "--data", *folders]) == 0
        shown = capsys.readouterr().out
        assert "x2 (x2)" in shown and "GT" in shown
        found = Path("experiments/x2/test").glob("rgb-*/results.jsonl")
        assert [record["key"] for record in read_lines(next(found))] == ["a", "b"]

    def test_other_options_can_be_set(self, tmp_path: Path, folders: list[str]) -> None:
        save_weights(Path("net.pth"), ARCH, net())
        overrides = ["val.protocol=basicsr-y", "datasets.test.GT.filename_tmpl='{}x2'"]
        data = (Path(folders[0]), Path(folders[1]))
        opt = load_test_options(None, overrides, Path("net.pth"), data)
        assert (opt.name, opt.scale, opt.val.protocol) == ("net", 2, "basicsr-y")
        assert opt.network_g == ARCH
        assert opt.datasets.test["GT"]["filename_tmpl"] == "{}x2"
        assert opt.datasets.test["GT"]["dataroot_lq"] == "LR"

    def test_bands_levels_and_protocol_are_those_of_the_training(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        rng = np.random.default_rng(0)
        for folder, side in (("LR", 16), ("GT", 32)):
            Path(folder).mkdir()
            pixels = rng.integers(0, 4096, (side, side, 5)).astype(np.uint16)
            tifffile.imwrite(
                f"{folder}/a.tif", pixels, photometric="minisblack", planarconfig="contig"
            )
        facts = PixelFacts(4, (4, 3, 2, 1), 4095)
        arch = {**ARCH, "num_in_ch": 4}
        save_weights(Path("net.pth"), arch, EDSR(2, 4, 1, num_in_ch=4), pixels=facts)
        data = (Path("LR"), Path("GT"))
        opt = load_test_options(None, [], Path("net.pth"), data)
        spec = opt.datasets.test["GT"]
        assert (spec["bands"], spec["white_level"]) == ([4, 3, 2, 1], 4095)
        assert "scale_floats" not in spec and opt.val.protocol == "bands"
        result = run_test(opt, CPU, Path("net.pth"))
        assert 0 < result.scores["GT"]["psnr"] < 20
        overrides = ["val.protocol=probav", "datasets.test.GT.white_level=10000"]
        opt = load_test_options(None, overrides, Path("net.pth"), data)
        assert (opt.val.protocol, opt.datasets.test["GT"]["white_level"]) == ("probav", 10000)
        save_weights(Path("all.pth"), arch, EDSR(2, 4, 1, num_in_ch=4), pixels=PixelFacts(4))
        spec = load_test_options(None, [], Path("all.pth"), data).datasets.test["GT"]
        assert "bands" not in spec and "white_level" not in spec
        # Files that have only the bands of the training are read as they are.
        facts = PixelFacts(4, (13, 3, 2, 1))
        save_weights(Path("more.pth"), arch, EDSR(2, 4, 1, num_in_ch=4), pixels=facts)
        assert (
            "bands" not in load_test_options(None, [], Path("more.pth"), data).datasets.test["GT"]
        )

    def test_an_option_file_without_network(self, tmp_path: Path) -> None:
        weights, file = tmp_path / "net.pth", tmp_path / "own.yml"
        save_weights(weights, ARCH, net(0), net(1))
        file.write_text("datasets: {test: {own: {type: SampleBursts, split: val}}}\nname: own\n")
        opt = load_test_options(file, ["network_g.res_scale=0.5"], weights)
        assert (opt.name, opt.scale) == ("own", 2)
        assert opt.network_g == {**ARCH, "res_scale": 0.5}
        named = load_test_options(file, [f"path.pretrain_network_g={weights}"])
        assert named.network_g == ARCH

    def test_an_option_file_with_network_wins(self, tmp_path: Path) -> None:
        weights, file = tmp_path / "net.pth", tmp_path / "own.yml"
        save_weights(weights, ARCH, net())
        file.write_text("network_g: {type: EDSR}\ndatasets: {}\nname: own\n")
        opt = load_test_options(file, [], weights)
        assert (opt.network_g, opt.scale) == ({"type": "EDSR"}, 4)

    def test_the_entry_can_be_chosen(self, folders: list[str], capsys) -> None:
        save_weights(Path("net.pth"), ARCH, net(0), net(1))
        call = ["test", "--weights", "net.pth", "--data", *folders]
        assert main([*call, "--key", "params"]) == 0
        assert Path(f"experiments/net/test/rgb-{weights_hash(net(0))}").is_dir()
        assert main([*call, "--key", "params_em"]) == 2
        assert "no entry 'params_em'; it has 'params', 'params_ema'" in capsys.readouterr().err

    def test_missing_parts_are_named(self, plain_file: Path, folders: list[str], capsys) -> None:
        for arguments, words in (
            ([], "no images to test on: give an option file, or --data LR_DIR GT_DIR"),
            (["--weights", "plain.pth"], "no images to test on"),
            (["--data", *folders], "no network to test: give an option file, or --weights FILE"),
            (
                ["--weights", "plain.pth", "--data", *folders],
                "plain.pth: does not contain the name of its arch",
            ),
            (["--weights", "none.pth", "--data", *folders], "none.pth: no such file"),
        ):
            assert main(["test", *arguments]) == 2
            error = capsys.readouterr().err
            assert words in error and error.count("\n") == 1

    def test_a_faulty_arch_is_that_of_the_file(self, folders: list[str], capsys) -> None:
        save_weights(Path("net.pth"), {"type": "EDSR", "num_fet": 4}, net())
        assert main(["test", "--weights", "net.pth", "--data", *folders]) == 2
        assert "net.pth: network_g.num_fet: unknown; did you mean" in capsys.readouterr().err
