"""The commands train, test and doctor."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from srtoolbox.cli import main


def test_train_then_test_then_resume(run_file: Path, capsys) -> None:
    assert main(["train", str(run_file)]) == 0
    assert "trained 4 steps" in capsys.readouterr().out
    assert main(["test", str(run_file)]) == 0
    assert "PSNR" in capsys.readouterr().out
    assert main(["train", str(run_file)]) == 2
    assert "--resume" in capsys.readouterr().err
    assert main(["train", str(run_file), "--resume"]) == 0
    assert main(["train", str(run_file), "--resume", "--set", "train.batch_size=3"]) == 2
    assert "other options" in capsys.readouterr().err


def test_resume_starts_a_run_that_does_not_exist_and_accepts_auto(run_file: Path, capsys) -> None:
    assert main(["train", str(run_file), "--resume", "auto"]) == 0
    assert "trained 4 steps" in capsys.readouterr().out
    assert main(["train", str(run_file), "--resume=auto"]) == 0  # without it: exit code 2
    with pytest.raises(SystemExit) as caught:
        main(["train", "--resume", str(run_file)])
    assert caught.value.code == 2
    assert "write the option file before --resume" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["train.total_itr=3"], ["train.total_itr: unknown; did you mean 'total_iter'?"]),
        (["network_g.type=EDSRR"], ["network_g.type", "unknown arch 'EDSRR'", "'EDSR'"]),
        (["train.total_iter=many"], ["train.total_iter: expected an integer, got 'many'"]),
        (["train.optim_g={type: Adam, learning_rate: 1}"], ["did you mean 'lr'?"]),
        (["val.protocol=basic-y"], ["val.protocol", "basicsr-y"]),
        (["model_type=Nothing"], ["model_type: unknown model 'Nothing'", "SRModel"]),
        (["datasets.train.type=Burst"], ["unknown dataset 'Burst'", "'Bursts'"]),
        (["plugins=[./missing.py]"], ["missing.py"]),
        (["path.pretrain_network_g=no.pth"], ["no.pth: no such weight file"]),
    ],
)
def test_faulty_options(run_file: Path, capsys, overrides: list[str], words: list[str]) -> None:
    arguments = [part for override in overrides for part in ("--set", override)]
    assert main(["train", str(run_file), *arguments]) == 2
    error = capsys.readouterr().err
    for word in words:
        assert word in error
    assert "Traceback" not in error


def test_all_errors_of_a_file_are_listed_with_their_lines(run_file: Path, capsys) -> None:
    text = run_file.read_text().replace("batch_size: 2", "batchsize: 2")
    run_file.write_text(text.replace("scale: 4", "scale: x"))
    assert main(["train", str(run_file)]) == 2
    error = capsys.readouterr().err
    assert "run.yml:3: scale: expected an integer" in error
    assert "run.yml:9: train.batchsize: unknown; did you mean 'batch_size'?" in error


def test_a_broken_png_is_named(run_file: Path, tmp_path: Path, capsys) -> None:
    for name in ("good", "broken"):
        Image.new("RGB", (40, 40)).save(tmp_path / f"{name}.png")
    content = (tmp_path / "broken.png").read_bytes()
    (tmp_path / "broken.png").write_bytes(content[:60])
    test_set = "datasets.test={own: {type: PairedImages, dataroot_gt: .}}"
    assert (
        main(["test", str(run_file), "--set", test_set, "--set", "network_g={type: Bicubic}"]) == 2
    )
    assert "broken.png: truncated or broken" in capsys.readouterr().err


@pytest.mark.parametrize("command", [["doctor"], ["train", "--dry-run"]])
def test_a_run_can_be_tried_out(run_file: Path, command: list[str], capsys) -> None:
    assert main([command[0], str(run_file), *command[1:]]) == 0
    shown = capsys.readouterr().out
    number = shown.count("warning: ")
    words = f" with {number} warning{'s' * (number > 1)}" if number else ""
    assert shown.rstrip().endswith(f"all checks passed{words}")
    assert main([command[0], str(run_file), *command[1:], "--set", "train.lr=1"]) == 2
    assert "train.lr: unknown" in capsys.readouterr().err
    assert not Path("experiments").exists()
