"""Networks of other projects through spandrel: outputs, requirements, studies, training, errors."""

from __future__ import annotations

import copy
import logging
import shutil
import sys
from pathlib import Path

import pytest
import safetensors.torch
import torch
from support.foreign import RESTORATION, SR, foreign_file, foreign_net

from srtoolbox.archs.base import arch_info
from srtoolbox.archs.rrdbnet import RRDBNet
from srtoolbox.cli import main
from srtoolbox.config.load import load_options
from srtoolbox.engine.build import fingerprint, network_identity
from srtoolbox.engine.options import RunOptions
from srtoolbox.engine.weights.load import load, save_weights, weights_hash
from srtoolbox.engine.weights.spandrel_arch import Spandrel, _licence, load_spandrel
from srtoolbox.errors import RunError, UserError
from srtoolbox.inference.padding import run_padded
from srtoolbox.inference.tiling import run_tiled
from srtoolbox.registry import ARCH_REGISTRY
from srtoolbox.upscaling.networks import load_network

spandrel = pytest.importorskip(
    "spandrel", reason='needs spandrel: pip install "srtoolbox[spandrel]"', exc_type=ImportError
)

every_arch = pytest.mark.parametrize("name", [*SR, *RESTORATION])

RUN = """
name: tiny
scale: 4
network_g: {type: Spandrel, file: net.pth}
datasets:
  train: {type: SampleBursts, num_frame: 2, gt_size: 64}
  test:
    sample: {type: SampleBursts, split: val, num_frame: 2, gt_size: 96, num_burst: 2}
"""


def file_of(folder: Path, name: str, scale: int | None = None) -> Path:
    return foreign_file(folder, name, scale or (1 if name in RESTORATION else 4))


def image(height: int, width: int, n: int = 1) -> torch.Tensor:
    return torch.rand(n, 3, height, width, generator=torch.Generator().manual_seed(1))


def descriptor(path: Path):
    """What spandrel itself makes of a file."""
    return spandrel.ModelLoader().load_from_state_dict(torch.load(path, weights_only=True))


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder with the option file of a run."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run.yml").write_text(RUN)
    return tmp_path


class TestNetworks:
    @every_arch
    def test_outputs_are_those_of_spandrel(self, name: str, tmp_path: Path) -> None:
        path = file_of(tmp_path, name)
        theirs, net = descriptor(path), load_spandrel(path)
        assert (net.architecture, net.scale) == (name, theirs.scale)
        lq = image(128, 128) if theirs.size_requirements.square else image(48, 40)
        with torch.no_grad():
            assert torch.equal(net(lq).clamp(0, 1), theirs(lq))

    @every_arch
    def test_requirements_are_declared(self, name: str, tmp_path: Path) -> None:
        path = file_of(tmp_path, name)
        sizes, info = descriptor(path).size_requirements, arch_info(load_spandrel(path))
        assert info.min_size == max(1, sizes.minimum)
        assert (info.size_multiple, info.square) == (sizes.multiple_of, sizes.square)
        assert (info.channels, info.scales) == (3, (1 if name in RESTORATION else 4,))
        assert info.out_channels == 3
        assert name in info.origin and path.name in info.origin and "MIT" in info.origin
        assert str(tmp_path) not in info.origin

    @every_arch
    def test_any_size_and_every_batch(self, name: str, tmp_path: Path) -> None:
        net = load_spandrel(file_of(tmp_path, name))
        lq = image(7, 19, n=2)
        before = lq.clone()
        with torch.no_grad():
            both = run_padded(net, lq)
            assert torch.equal(lq, before), "the network changed its input"
            assert both.shape == (2, 3, 7 * net.scale, 19 * net.scale)
            assert torch.equal(both[1:], run_padded(net, lq[1:]))

    @pytest.mark.parametrize("name", ["ESRGAN", "RealESRGAN Compact", "SPAN", "DnCNN"])
    def test_tiles_give_the_result_of_the_whole_image(self, name: str, tmp_path: Path) -> None:
        net, lq = load_spandrel(file_of(tmp_path, name)), image(70, 90)
        with torch.no_grad():
            whole, tiled = run_padded(net, lq), run_tiled(net, lq, tile=32, halo=24)
        torch.testing.assert_close(
            tiled, whole, rtol=0, atol=1e-6 * whole.abs().max().item() + 1e-6
        )

    def test_tiles_of_windows(self, tmp_path: Path) -> None:
        """Windows of 8 pixels, two layers: whole windows around a tile give the same result."""
        net, lq = load_spandrel(file_of(tmp_path, "SwinIR")), image(64, 80)
        assert net.tiling == "discouraged"
        with torch.no_grad():
            whole, tiled = run_padded(net, lq), run_tiled(net, lq, tile=24, halo=24)
        torch.testing.assert_close(tiled, whole, rtol=0, atol=1e-5)

    @pytest.mark.slow
    def test_square_inputs(self, tmp_path: Path) -> None:
        net = load_spandrel(file_of(tmp_path, "Uformer"))
        sizes = []
        net.network.register_forward_pre_hook(lambda _, inputs: sizes.append(inputs[0].shape[-2:]))
        with torch.no_grad():
            assert run_padded(net, image(20, 130)).shape == (1, 3, 20, 130)
        assert sizes == [(256, 256)]

    @pytest.mark.parametrize("suffix", [".safetensors", ".ckpt"])
    def test_other_formats_and_entries(self, suffix: str, tmp_path: Path) -> None:
        state, path = foreign_net("SPAN").state_dict(), tmp_path / f"net{suffix}"
        if suffix == ".safetensors":
            safetensors.torch.save_file(state, path)
            net = load_spandrel(path)
        else:
            torch.save({"generator": state, "optimizer": {"step": torch.zeros(1)}}, path)
            with pytest.raises(UserError, match="these entries: 'generator', 'optimizer'"):
                load_spandrel(path)
            net = load_spandrel(path, key="generator")
        assert weights_hash(net) == weights_hash(foreign_net("SPAN"))

    def test_random_numbers_of_a_network_are_fixed_in_evaluation(self, tmp_path: Path) -> None:
        net, lq = load_spandrel(file_of(tmp_path, "SPAN")), image(8, 8)
        net._call = lambda model, image: image.repeat(1, 1, 4, 4) + torch.rand(1)
        before = torch.get_rng_state()
        first, second = net(lq), net(lq)
        assert torch.equal(first, second)
        assert torch.equal(torch.get_rng_state(), before)
        net.train()
        assert not torch.equal(net(lq), net(lq))

    def test_copies_and_names_of_tensors(self, tmp_path: Path) -> None:
        net = load_spandrel(file_of(tmp_path, "ESRGAN"))
        state = foreign_net("ESRGAN").state_dict()
        assert net.state_dict().keys() == state.keys()
        other = copy.deepcopy(net)
        other.load_state_dict({key: torch.zeros_like(value) for key, value in state.items()})
        assert not other(image(8, 8)).any()
        assert net(image(8, 8)).any()


def test_licences() -> None:
    declared, program = _licence("spandrel")
    assert declared.startswith("MIT, its architectures") and program.startswith("spandrel 0.")
    assert _licence("torch")[0] != "not declared"
    assert _licence("my_own_module") == ("not declared", "my_own_module")


class TestPrecision:
    def test_what_spandrel_does_not_support_runs_in_fp32(self, tmp_path: Path, caplog) -> None:
        net, lq = load_spandrel(file_of(tmp_path, "SwinIR")), image(16, 16)
        assert net.precisions == ("fp32", "bf16")
        with torch.no_grad(), caplog.at_level(logging.WARNING, "srtoolbox"):
            expected = net(lq)
            with torch.autocast("cpu", torch.float16):
                assert torch.equal(net(lq), expected)
        assert "SwinIR): does not support fp16 according to spandrel; it runs in fp32" in (
            caplog.text
        )

    def test_what_it_supports_is_used(self, tmp_path: Path) -> None:
        net = load_spandrel(file_of(tmp_path, "RealESRGAN Compact"))
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
            rough = net(image(16, 16)).float()
        with torch.no_grad():
            exact = net(image(16, 16))
        assert not torch.equal(rough, exact)
        torch.testing.assert_close(rough, exact, rtol=0, atol=0.05)


class TestLoad:
    @pytest.mark.slow
    @pytest.mark.parametrize(
        ("name", "arch"),
        [("SwinIR", "SwinIR"), ("RealESRGAN Compact", "SRVGGNetCompact"), ("RCAN", "RCAN")],
    )
    def test_what_is_registered_here_agrees(self, name: str, arch: str, tmp_path: Path) -> None:
        path = file_of(tmp_path, name)
        (net, spec), lq = load(path), image(16, 24, n=2)
        assert spec["type"] == arch
        with torch.no_grad():
            expected = load_spandrel(path)(lq)
            torch.testing.assert_close(net(lq), expected, rtol=0, atol=1e-5)
        if name == "RCAN":  # by the names of its authors
            assert spec["squeeze_factor"] == 4 and "conv_after_body.bias" in net.state_dict()

    @pytest.mark.slow
    def test_a_file_without_arch_is_read_by_spandrel(self, tmp_path: Path) -> None:
        path = file_of(tmp_path, "Swin2SR")
        net, arch = load(path)
        assert arch == {"type": "Spandrel", "file": str(path), "key": "params", "scale": 4}
        assert isinstance(net, Spandrel) and not net.training
        assert isinstance(load_network(path), Spandrel)

    @pytest.mark.slow
    def test_own_archs_come_first(self, tmp_path: Path) -> None:
        path = tmp_path / "net.pth"
        torch.save(RRDBNet(4, num_feat=8).state_dict(), path)
        with pytest.raises(UserError, match=r"its tensors have the names of RRDBNet"):
            load(path)
        assert isinstance(load_network(path), RRDBNet)
        assert load_spandrel(path).architecture == "ESRGAN"  # if the user asks for it

    def test_a_written_file_needs_no_other(self, tmp_path: Path) -> None:
        """And a path in a file is never read."""
        path = file_of(tmp_path, "DAT")
        net = load_spandrel(path)
        for name in ("new.pth", "new.safetensors"):
            arch = {"type": "Spandrel", "file": "/dev/zero", "key": "missing", "scale": 4}
            save_weights(tmp_path / name, arch, net)
            again, found = load(tmp_path / name)
            assert weights_hash(again) == weights_hash(net)
            assert found["file"] == str(tmp_path / name)

    @pytest.mark.slow
    def test_convert(self, here: Path, capsys) -> None:
        source = file_of(here, "SPAN")
        assert main(["convert", source.name, "span.safetensors"]) == 0
        assert "wrote span.safetensors: Spandrel x4" in capsys.readouterr().out
        expected = weights_hash(load_spandrel(source))
        source.unlink()
        assert weights_hash(load("span.safetensors")[0]) == expected

    def test_show(self, here: Path, capsys) -> None:
        path = file_of(here, "Uformer")
        assert main(["show", "weights", path.name]) == 0
        shown = capsys.readouterr().out
        for words in (
            "architecture: Uformer",
            "purpose: Restoration; scale: x1; channels: 3",
            "input sizes: any, multiples of 128, square (others are padded); tiles: supported",
            "number formats: fp32, bf16\n",
            "licence of the code: MIT",
            "parameters: 203,308",
        ):
            assert words in shown
        save_weights(
            here / "own.pth",
            {"type": "RRDBNet", "scale": 2, "num_block": 1},
            RRDBNet(2, num_block=1),
        )
        assert main(["show", "weights", "own.pth"]) == 0
        assert (
            "arch: RRDBNet (scale: 2, num_block: 1); the file contains" in capsys.readouterr().out
        )


class TestFaults:
    """Every mistake is one line and exit status 2."""

    def fails(self, capsys, arguments: list[str], words: str) -> None:
        assert main(arguments) == 2
        error = capsys.readouterr().err
        assert error.count("\n") == 1 and "Traceback" not in error
        assert error.startswith("srtoolbox: ") and words in error

    def test_files(self, here: Path, capsys) -> None:
        test = ["test", "run.yml"]
        self.fails(capsys, test, "net.pth: no such weight file")
        (here / "net.pth").write_text("hello")
        self.fails(capsys, test, "net.pth: is a text file, not a weight file")
        torch.save({"a.weight": torch.zeros(3, 3)}, here / "net.pth")
        self.fails(capsys, test, "recognises no architecture by the names of its tensors")
        torch.save(foreign_net("SPAN"), here / "net.pth")
        self.fails(capsys, test, "holds pickled Python objects")
        state = foreign_net("SPAN").state_dict()
        state["conv_1.sk.weight"] = torch.zeros(5, 3, 1, 1)
        torch.save(state, here / "net.pth")
        self.fails(capsys, test, "seems to be SPAN, but spandrel cannot build it (RuntimeError")
        foreign_file(here, "ESRGAN", 2).rename(here / "net.pth")
        self.fails(
            capsys, test, "net.pth (ESRGAN): its scale is 2, but 4 is set; set scale: 2, or give"
        )

    def test_options(self, here: Path, capsys) -> None:
        (here / "run.yml").write_text(RUN.replace(", file: net.pth", ""))
        self.fails(capsys, ["test", "run.yml"], "network_g.file: missing; Spandrel needs it")
        wrong = ["test", "run.yml", "--set", "network_g.file=3"]
        self.fails(capsys, wrong, "network_g.file: expected a path, got 3")

    def test_without_the_package(self, here: Path, capsys, monkeypatch) -> None:
        foreign_file(here, "SPAN").rename(here / "net.pth")
        monkeypatch.setitem(sys.modules, "spandrel", None)
        advice = 'pip install "srtoolbox[spandrel]"'
        self.fails(capsys, ["test", "run.yml"], advice)
        self.fails(capsys, ["show", "weights", "net.pth"], advice)
        with pytest.raises(UserError, match=r"does not contain the name of its arch; give .*; the"):
            load(here / "net.pth")
        assert "Spandrel" in ARCH_REGISTRY.names()

    @pytest.mark.parametrize(
        ("purpose", "words"),
        [("Inpainting", "inpainting needs a mask"), ("FaceSR", "it is for FaceSR")],
    )
    def test_other_purposes(
        self, purpose: str, words: str, here: Path, capsys, monkeypatch
    ) -> None:
        foreign_file(here, "SPAN").rename(here / "net.pth")
        made = descriptor(here / "net.pth")
        facts = {
            "architecture": made.architecture,
            "tags": [],
            "supports_half": True,
            "supports_bfloat16": True,
            "input_channels": 3,
            "output_channels": 3,
        }
        state = made.model.state_dict()
        if purpose == "Inpainting":
            other = spandrel.MaskedImageModelDescriptor(made.model, state, purpose=purpose, **facts)
        else:
            other = spandrel.ImageModelDescriptor(
                made.model, state, purpose=purpose, scale=4, **facts
            )
        monkeypatch.setattr(spandrel.ModelLoader, "load_from_state_dict", lambda *_: other)
        self.fails(capsys, ["test", "run.yml"], f"SPAN cannot be used ({words}); only networks for")

    def test_code_that_fails(self, tmp_path: Path) -> None:
        net = load_spandrel(file_of(tmp_path, "SPAN"))
        net._call = lambda model, image: image.view(5)
        with pytest.raises(RunError, match=r"SPAN\): fails on an input of shape 1×3×8×8 \(Runtime"):
            net(image(8, 8))


class TestRuns:
    @pytest.mark.slow
    @pytest.mark.parametrize("name", SR)
    def test_test(self, name: str, here: Path, capsys) -> None:
        foreign_file(here, name).rename(here / "net.pth")
        assert main(["test", "run.yml"]) == 0
        shown = capsys.readouterr()
        assert "tiny (x4)" in shown.out
        assert f"tiny: it is not trained here, but has the weights of net.pth ({name}" in shown.err

    def test_test_without_option_file(self, here: Path, capsys) -> None:
        from srtoolbox.engine.evaluation.test import load_test_options

        path = foreign_file(here, "DnCNN", 1)
        opt = load_test_options(None, [], path, (here, here))
        assert (opt.scale, opt.network_g["type"]) == (1, "Spandrel")
        assert opt.network_g["file"] == path

    @pytest.mark.slow
    def test_compare(self, here: Path, capsys) -> None:
        foreign_file(here, "SwinIR").rename(here / "net.pth")
        methods = (
            "{Bicubic: {network_g: {type: Bicubic}}, "
            "SwinIR: {network_g: {type: Spandrel, file: net.pth}}}"
        )
        train = "train: {total_iter: 2, batch_size: 1}"
        study = f"_base_: run.yml\nnetwork_g: !delete\nmethods: {methods}\n{train}\n"
        (here / "study.yml").write_text(study)
        assert main(["compare", "study.yml", "--dry-run"]) == 0
        lines = capsys.readouterr().out.splitlines()
        row = next(line.split() for line in lines if "SwinIR" in line)
        assert row[:6] == ["SwinIR", "0", "–", "0", "of", "1"]
        assert main(["compare", "study.yml"]) == 0
        shown = " ".join(capsys.readouterr().out.split())
        assert "† SwinIR differs from the shared settings: it is not trained here, but has" in shown
        assert "the weights of net.pth (SwinIR, " in shown and "spandrel 0." in shown

        capsys.readouterr()  # nothing is evaluated again if the file moves
        shutil.move(here / "net.pth", here / "moved.pth")
        (here / "study.yml").write_text(study.replace("net.pth", "moved.pth"))
        assert main(["compare", "study.yml", "--dry-run"]) == 0
        lines = capsys.readouterr().out.splitlines()
        row = next(line.split() for line in lines if "SwinIR" in line)
        assert row[3:6] == ["1", "of", "1"] and "done" in row

    def test_identity(self, here: Path) -> None:
        first = foreign_file(here, "SPAN")
        moved = Path(shutil.copy(first, here / "moved.pth"))
        other = here / "other.pth"
        torch.save(foreign_net("SPAN", seed=1).state_dict(), other)
        inner = [{"type": "Spandrel", "file": file, "scale": 4} for file in (first, moved, other)]
        for specs in (inner, [{"type": "TwoStage", "network": spec} for spec in inner]):
            a, b, c = map(network_identity, specs)
            assert a == b != c
        prints = []
        for file in (first, moved, other):
            set_file = [f"network_g.file={file}"]
            prints.append(fingerprint(load_options(here / "run.yml", set_file, RunOptions)[0]))
        assert prints[0] == prints[1] != prints[2]

    def test_what_is_trained(self, tmp_path: Path) -> None:
        path = file_of(tmp_path, "SPAN")
        assert not any(weight.requires_grad for weight in load_spandrel(path).parameters())
        trained = Spandrel(path, trainable=True)
        assert all(weight.requires_grad for weight in trained.parameters())
        trained.train()(image(8, 8)).square().mean().backward()
        silent = {key for key, weight in trained.named_parameters() if weight.grad is None}
        assert all(".eval_conv." in key for key in silent)  # merged from the others

    @pytest.mark.slow
    def test_training(self, here: Path, capsys) -> None:
        foreign_file(here, "SwinIR").rename(here / "net.pth")
        start = weights_hash(load_spandrel(here / "net.pth"))
        options = (
            "train: {total_iter: 2, batch_size: 2, ema_decay: 0.9}\n"
            "logger: {use_tb_logger: false}\n"
        )
        (here / "run.yml").write_text(RUN + options)
        assert main(["train", "run.yml"]) == 2
        words = "Spandrel has no parameters to train; set network_g.trainable: true, or use"
        assert words in capsys.readouterr().err
        assert main(["train", "run.yml", "--set", "network_g.trainable=true"]) == 0
        (here / "net.pth").unlink()
        result = Path("experiments/tiny/weights/net_g_latest.pth")
        net, arch = load(result)
        assert (net.architecture, arch["file"]) == ("SwinIR", str(result))
        assert weights_hash(net) != start
        assert load_spandrel(result).architecture == "SwinIR"


@pytest.mark.slow
def test_the_package_is_imported_only_when_a_network_is_built() -> None:
    import subprocess

    code = (
        "import sys; from srtoolbox.cli import main; main(['list', 'archs']); "
        "import srtoolbox; assert not {'spandrel', 'torchvision'} & set(sys.modules)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert "Spandrel" in run.stdout
