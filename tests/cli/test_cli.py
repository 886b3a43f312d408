"""The command line as its users meet it: results, messages, exit codes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from srtoolbox.cli import main

ROOT = Path(__file__).parents[2]
HEAVY = {"torch", "torchvision", "lpips", "tensorboard", "matplotlib", "cv2", "skimage"}

RUN = """
name: tiny
scale: 4
network_g: {type: EDSR, num_feat: 4, num_block: 1}
datasets:
  train: {type: SampleBursts, num_frame: 3, gt_size: 32}
  val:
    sample: {type: SampleBursts, split: val, num_frame: 3, gt_size: 32, num_burst: 2}
train: {total_iter: 4, batch_size: 2}
val: {val_freq: 2}
logger: {print_freq: 2, save_checkpoint_freq: 2, use_tb_logger: false}
"""


@pytest.fixture
def run_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "run.yml"
    path.write_text(RUN)
    return path


def loaded_by(code: str) -> set[str]:
    done = subprocess.run(
        [sys.executable, "-c", f"import sys\n{code}\nprint(*sys.modules)"],
        capture_output=True,
        text=True,
        check=True,
    )
    return set(done.stdout.split()) & HEAVY


def test_import_and_help_load_nothing_heavy() -> None:
    assert loaded_by("import srtoolbox") == set()
    help_ = "from srtoolbox.cli import main\ntry: main(['--help'])\nexcept SystemExit: pass"
    assert loaded_by(help_) == set()


def test_the_trunk_does_not_load_torchvision_or_lpips() -> None:
    found = loaded_by(
        "import srtoolbox.engine.training.train, srtoolbox.archs, srtoolbox.comparison.study.run"
    )
    assert found <= {"torch", "cv2", "skimage"}


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


def test_compare_and_report(study_file_text: Path, capsys) -> None:
    assert main(["compare", str(study_file_text)]) == 0
    first = capsys.readouterr().out
    assert "EDSR" in first and "Bicubic" in first
    assert main(["report", "experiments/compare/tiny"]) == 0
    assert capsys.readouterr().out == first


@pytest.fixture
def study_file_text(run_file: Path) -> Path:
    path = run_file.with_name("study.yml")
    methods = (
        "{Bicubic: {network_g: {type: Bicubic}}, EDSR: {network_g: {type: EDSR, num_feat: 4}}}"
    )
    path.write_text(f"_base_: run.yml\nnetwork_g: !delete\nmethods: {methods}\n")
    return path


def test_a_failed_method_gives_exit_code_1_and_a_table(study_file_text: Path, capsys) -> None:
    bad = ["--set", "methods.EDSR.train.optim_g={type: SGD, lr: 1e36}"]
    assert main(["compare", str(study_file_text), *bad]) == 1
    out, err = capsys.readouterr()
    assert "EDSR † ✗" in out and "non-finite" in out
    assert "failed: EDSR (seed 0)" in err


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
    run_file.write_text(
        RUN.replace("batch_size: 2", "batchsize: 2").replace("scale: 4", "scale: x")
    )
    assert main(["train", str(run_file)]) == 2
    error = capsys.readouterr().err
    assert "run.yml:3: scale: expected an integer" in error
    assert "run.yml:9: train.batchsize: unknown; did you mean 'batch_size'?" in error


def test_missing_files_are_named(run_file: Path, capsys) -> None:
    assert main(["train", "nowhere.yml"]) == 2
    assert "nowhere.yml" in capsys.readouterr().err
    assert main(["report", "nowhere"]) == 2
    assert "nowhere: no study here" in capsys.readouterr().err


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
    assert "all parts are in order" in capsys.readouterr().out
    assert main([command[0], str(run_file), *command[1:], "--set", "train.lr=1"]) == 2
    assert "train.lr: unknown" in capsys.readouterr().err
    assert not Path("experiments").exists()


def test_an_unwritable_output_folder_is_named(run_file: Path, tmp_path: Path, capsys) -> None:
    (tmp_path / "taken").write_text("a file, not a folder")
    assert main(["train", str(run_file), "--set", "path.experiments_root=taken"]) in (1, 2)
    error = capsys.readouterr().err
    assert "taken" in error and "Traceback" not in error


def test_an_absent_device_is_named(run_file: Path, capsys) -> None:
    assert main(["train", str(run_file), "--device", "cuda:77"]) == 2
    assert "cuda:77" in capsys.readouterr().err


def test_an_interrupt_gives_exit_code_130(run_file: Path, monkeypatch) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("srtoolbox.engine.training.train.train", interrupt)
    assert main(["train", str(run_file)]) == 130


def test_wrong_usage_gives_exit_code_2() -> None:
    with pytest.raises(SystemExit) as caught:
        main(["trane"])
    assert caught.value.code == 2


@pytest.mark.parametrize("kind", ["archs", "datasets", "losses", "metrics", "models"])
def test_list(kind: str, capsys) -> None:
    assert main(["list", kind]) == 0
    names = {"archs": "EDVR", "datasets": "SampleBursts", "losses": "L1Loss"}
    assert names.get(kind, "") in capsys.readouterr().out


def test_show(capsys) -> None:
    assert main(["show", "arch", "EDSR"]) == 0
    shown = capsys.readouterr().out
    assert "num_block" in shown and "CVPRW 2017" in shown
    assert main(["show", "arch", "ESDR"]) == 2
    assert "did you mean 'EDVR' or 'EDSR'" in capsys.readouterr().err


def test_plugins_can_be_listed(capsys) -> None:
    plugin = ROOT / "docs" / "examples" / "tiny_net.py"
    assert main(["show", "arch", "TinyNet", "--plugin", str(plugin)]) == 0
    assert "ESPCN" in capsys.readouterr().out


@pytest.mark.parametrize("kind", ["run", "study"])
def test_schema(kind: str, capsys) -> None:
    assert main(["options", "schema", "--of", kind]) == 0
    assert json.loads(capsys.readouterr().out)["$schema"]
