"""The program: exit codes, messages and the time until it answers."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from srtoolbox.cli import main

HEAVY = {"torch", "torchvision", "lpips", "tensorboard", "matplotlib", "cv2", "skimage", "jinja2"}


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


@pytest.mark.skipif(os.name != "posix", reason="needs CPU times of child processes")
@pytest.mark.parametrize("command", [["-m", "srtoolbox", "--help"], ["-c", "import srtoolbox"]])
def test_import_and_help_take_little_cpu_time(command: list[str]) -> None:
    def seconds() -> float:
        before = os.times()
        subprocess.run([sys.executable, *command], capture_output=True, check=True)
        after = os.times()
        return sum(after[2:4]) - sum(before[2:4])  # of child processes, in user and system mode

    assert min(seconds() for _ in range(3)) < 0.3


def test_a_report_does_not_load_torch() -> None:
    """It would take most of the memory, and seconds."""
    code = "import srtoolbox.comparison.report.write, srtoolbox.comparison.report.table"
    assert "torch" not in loaded_by(code)


@pytest.mark.slow
def test_the_trunk_does_not_load_torchvision_or_lpips() -> None:
    found = loaded_by(
        "import srtoolbox.engine.training.train, srtoolbox.archs, srtoolbox.comparison.study.run"
    )
    assert found <= {"torch", "cv2", "skimage"}


@pytest.mark.slow
def test_missing_files_are_named(run_file: Path, capsys) -> None:
    assert main(["train", "nowhere.yml"]) == 2
    assert "nowhere.yml" in capsys.readouterr().err
    assert main(["report", "nowhere"]) == 2
    assert "nowhere: no study here" in capsys.readouterr().err


def test_an_unwritable_output_folder_is_named(run_file: Path, tmp_path: Path, capsys) -> None:
    (tmp_path / "taken").write_text("a file, not a folder")
    assert main(["train", str(run_file), "--set", "path.experiments_root=taken"]) in (1, 2)
    error = capsys.readouterr().err
    assert "taken" in error and "Traceback" not in error


def test_an_absent_device_is_named(run_file: Path, capsys) -> None:
    assert main(["train", str(run_file), "--device", "cuda:77"]) == 2
    assert "cuda:77" in capsys.readouterr().err


def test_an_interrupt_gives_exit_code_130(run_file: Path, monkeypatch, capsys) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("srtoolbox.engine.training.train.train", interrupt)
    assert main(["train", str(run_file)]) == 130
    assert "interrupted; continue with --resume" in capsys.readouterr().err
    assert main(["train", str(run_file), "--resume"]) == 130
    assert "interrupted; continue with the same command" in capsys.readouterr().err


def test_wrong_usage_gives_exit_code_2() -> None:
    with pytest.raises(SystemExit) as caught:
        main(["trane"])
    assert caught.value.code == 2


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="needs a shell")
def test_a_reader_that_stops_early_is_no_error() -> None:
    command = f"{sys.executable} -m srtoolbox options schema | head -1; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "{\n", "")
