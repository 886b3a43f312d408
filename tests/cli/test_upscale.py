from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image
from support.upscaling import save, small_network, texture

from srtoolbox.cli import main
from srtoolbox.engine.weights.load import save_weights


@pytest.fixture
def weights(tmp_path, monkeypatch):
    """Weights of a small EDSR for x2; the working folder has pictures ``a.png`` and ``in``."""
    from support.networks import SMALL

    monkeypatch.chdir(tmp_path)
    save(tmp_path / "a.png", texture(10, 12))
    for name in ("0.png", "1.jpg"):
        save(tmp_path / "in" / name, texture(8, 8))
    save_weights(
        tmp_path / "w.safetensors", {"type": "EDSR", **SMALL["EDSR"], "scale": 2}, small_network()
    )
    return "w.safetensors"


def test_the_paths_of_results_are_printed(weights, capsys):
    assert main(["upscale", "a.png", "in", "--weights", weights, "-o", "out"]) == 0
    printed = capsys.readouterr()
    assert printed.out.splitlines() == ["out/a.png", "out/0.png", "out/1.jpg"]
    assert "EDSR ×2: 3 written" in printed.err
    assert Image.open("out/a.png").size == (24, 20)


def test_options_reach_the_networks(weights, capsys):
    arguments = "--tile 8 --halo auto --no-auto-orient --bit-depth 16 --blend 0.5 --suffix _s"
    assert main(["upscale", "a.png", "--weights", weights, *arguments.split(), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["done"][0]["path"] == "a_s.png"
    assert Image.open("a_s.png").size == (24, 20)


def test_a_chain_and_denoising_levels(weights, capsys):
    assert main(["upscale", "a.png", "--weights", weights, "--chain", weights, "-o", "b.png"]) == 0
    assert Image.open("b.png").size == (48, 40)
    assert main(["upscale", "a.png", "--weights", weights, "--denoise", "1"]) == 2
    assert "--denoise 1: w.safetensors is one file without a denoising" in capsys.readouterr().err


def test_dry_run(weights, capsys):
    assert main(["upscale", "in", "a.png", "--weights", weights, "--dry-run", "-o", "out"]) == 0
    out = capsys.readouterr().out
    assert "8×8" in out
    assert "EDSR ×2: 3 pictures; 3 frames, 0.0 megapixels; about" in out
    assert main(["upscale", "in", "--weights", weights, "--dry-run", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["frames"] == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nothing.png"], "nothing.png: no such file or folder"),
        (["a.png", "--tile", "-3"], "tile: must be >= 0, got -3"),
        (["a.png", "--tile", "big"], "tile: expected an integer, got 'big'"),
        (["a.png", "--format", "gif"], "format: expected 'same' or 'png'"),
        (["a.png", "--scene-cut", "x"], "scene_cut: expected a number or 'auto'"),
        (["a.png", "--quality", "101"], "quality: must be <= 100"),
        (["a.png", "--frames", "5"], "frames: EDSR sees one frame at a time, got 5"),
        (["a.png", "--device", "cuda:77"], "--device cuda:77"),
        (["a.png", "-o", "a.png"], "would replace the input"),
        (["a.png", "in", "-o", "b.png"], "is the name of one file, but there are 3 results"),
    ],
)
def test_mistakes(weights, capsys, arguments, message):
    assert main(["upscale", *arguments, "--weights", weights]) == 2
    assert message in capsys.readouterr().err


def test_bands_are_numbers(weights, capsys):
    with pytest.raises(SystemExit) as exit_info:
        main(["upscale", "a.png", "--weights", weights, "--bands", "4,x"])
    assert exit_info.value.code == 2
    assert "expected numbers such as 4,3,2, got '4,x'" in capsys.readouterr().err


def test_a_missing_weight_file(weights, capsys):
    assert main(["upscale", "a.png", "--weights", "no.pth"]) == 2
    assert "no.pth: no such weight file" in capsys.readouterr().err
    assert main(["upscale", "a.png", "--chain", weights]) == 2
    assert "--chain: needs --weights" in capsys.readouterr().err


def test_some_inputs_failed(weights, capsys):
    Path("in/bad.png").write_bytes(b"\x89PNG")
    assert main(["upscale", "in", "--weights", weights, "-o", "out"]) == 3
    assert "2 written, 1 failed (see failed.json)" in capsys.readouterr().err
    assert main(["upscale", "in/bad.png", "--weights", weights, "-o", "out"]) == 1


def test_json_is_printed_when_the_command_stops(weights, capsys):
    Path("in/bad.png").write_bytes(b"\x89PNG")
    arguments = ["in", "--weights", weights, "-o", "out", "--fail-fast", "--json"]
    assert main(["upscale", *arguments]) == 1
    report = json.loads(capsys.readouterr().out)
    assert len(report["done"]) == 2
    assert report["failed"][0]["input"] == "in/bad.png"


def test_a_path_that_the_output_cannot_encode(weights, monkeypatch, tmp_path):
    Path("a.png").rename("日.png")
    with Path("printed").open("w", encoding="ascii") as file:
        monkeypatch.setattr(sys, "stdout", file)
        assert main(["upscale", "日.png", "--weights", weights, "-o", "out"]) == 0
    assert Path("printed").read_bytes() == os.fsencode("out/日.png\n")


def test_a_dry_run_for_an_output_in_ascii(weights, monkeypatch):
    Path("a.png").rename("日.png")
    for arguments in ([], ["--json"]):
        with Path("printed").open("w", encoding="ascii") as file:
            monkeypatch.setattr(sys, "stdout", file)
            assert main(["upscale", "日.png", "--weights", weights, "--dry-run", *arguments]) == 0
        assert r"\u65e5.png" in Path("printed").read_text()
    assert json.loads(Path("printed").read_text())["frames"] == 1


@pytest.mark.slow
def test_a_reader_that_ends_early(weights):
    script = "import sys; from srtoolbox.cli import main; sys.exit(main(sys.argv[1:]))"
    command = [sys.executable, "-c", script, "upscale", "in", "--weights", weights, "-o", "out"]
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, text=True)
    os.close(write)
    assert done.returncode == 0, done.stderr
    assert "2 written" in done.stderr


def test_help_does_not_import_torch():
    script = "import sys; from srtoolbox.cli import main\ntry: main(['upscale', '--help'])\n"
    script += "except SystemExit: print('torch' in sys.modules)"
    output = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert output.stdout.endswith("False\n")


@pytest.mark.slow
def test_a_program_ends_with_3(weights):
    Path("in/bad.png").write_bytes(b"\x89PNG")
    command = [sys.executable, "-m", "srtoolbox", "upscale", "in", "--weights", weights]
    assert subprocess.run(command, env={**os.environ, "OMP_NUM_THREADS": "1"}).returncode == 3


@pytest.mark.slow
@pytest.mark.parametrize(
    ("weights_file", "arguments", "psnr"),
    [("waifu2x", [], 37.149), ("DSRNet_x2_600000.pth", ["--set", "branch=2"], 37.748)],
    ids=["UpConv7", "DSRNet"],
)
def test_published_weights_on_set5(
    reference, tmp_path, monkeypatch, capsys, weights_file, arguments, psnr
):
    monkeypatch.chdir(tmp_path)
    set5 = reference / "data" / "Set5"
    weights = str(reference / "weights" / weights_file)
    lq = str(set5 / "LR_bicubic" / "X2")
    assert main(["upscale", lq, "--weights", weights, *arguments, "-o", "sr"]) == 0
    protocol = ["--protocol", "basicsr-y", "--scale", "2", "--json", "scores.json"]
    assert main(["metrics", "sr", str(set5 / "HR"), *protocol]) == 0
    text = Path("scores.json").read_text()
    assert json.loads(text)["mean"]["psnr"] == pytest.approx(psnr, abs=6e-4)
