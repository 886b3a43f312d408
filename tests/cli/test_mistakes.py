"""Usual mistakes on the command line: one line that names what the user wrote; exit code 2."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from srtoolbox.cli import main


def fail(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """Runs a command that has to be refused; returns its only line on the error stream."""
    capsys.readouterr()
    assert main([str(argument) for argument in arguments]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    return line


@pytest.fixture
def pairs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[object, ...]:
    """The arguments of a comparison of two images; the GT of the second is two rows higher."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.RandomState(0)
    for side, heights in (("sr", (32, 32)), ("gt", (32, 34))):
        (tmp_path / side).mkdir()
        for name, height in zip("ab", heights, strict=True):
            pixels = rng.randint(0, 255, (height, 32, 3), np.uint8)
            Image.fromarray(pixels).save(tmp_path / side / f"{name}.png")
    (tmp_path / "file").touch()
    return "metrics", "sr", "gt", "--protocol", "basicsr-y"


@pytest.mark.parametrize("option", ["--json", "--csv"])
@pytest.mark.parametrize(
    ("path", "words"),
    [
        (".", "is a folder; give the name of a file in it"),
        ("sr", "is a folder"),
        ("file/x", "is a file, not a folder"),
        ("x" * 300, "cannot be written (File name too long)"),
    ],
)
def test_metrics_into_a_wrong_path(pairs, capsys, option: str, path: str, words: str) -> None:
    line = fail(capsys, *pairs, option, path)
    assert line.startswith(f"srtoolbox: {option} {path}: ")
    assert words in line and ".tmp" not in line


@pytest.mark.parametrize("path", [".", "file/q.yml", "x" * 300 + "/q.yml"])
def test_options_copy_into_a_wrong_path(pairs, capsys, path: str) -> None:
    target = "file/quickstart.yml" if path == "." else path
    line = fail(capsys, "options", "copy", "quickstart", target)
    assert f"FILE {target}: " in line and ".tmp" not in line


@pytest.mark.parametrize(
    ("path", "words"),
    [(".", "is a folder"), ("file/a.png", "not a folder"), ("a.txt", "must end with .png")],
)
def test_sample_into_a_wrong_path(run_file: Path, capsys, path: str, words: str) -> None:
    Path("file").touch()
    assert words in fail(capsys, "sample", run_file, "--out", path)


def test_cropped_ground_truth_is_noted(pairs, capsys) -> None:
    assert main([str(argument) for argument in pairs]) == 0
    note = capsys.readouterr().out.strip().splitlines()[-1]
    assert note.startswith("note: 1 of 2 ground truth images are larger than the results")
    assert note.endswith("right and lower edge: b (32×34 to 32×32)")


@pytest.mark.parametrize("scale", ["0", "-4", "x", "2.5"])
@pytest.mark.parametrize("command", [("metrics", "a", "b", "--protocol", "rgb"), ("prepare",)])
def test_scales_are_positive(capsys, command: tuple[str, ...], scale: str) -> None:
    with pytest.raises(SystemExit) as caught:
        main([*command, f"--scale={scale}"])
    assert caught.value.code == 2
    assert f"--scale: expected an integer from 1 on, got '{scale}'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("command", "file", "right"),
    [
        ("train", "study", "compare"),
        ("test", "study", "compare"),
        ("bench", "study", "compare"),
        ("compare", "run", "train"),
        ("bench", "run", "train"),
    ],
)
def test_the_right_command_is_named(
    run_file: Path, study_file: Path, capsys, command: str, file: str, right: str
) -> None:
    path = {"run": run_file, "study": study_file}[file]
    line = fail(capsys, command, path)
    assert f"{path} is the option file of " in line
    assert line.endswith(f"; use: srtoolbox {right} {path}")


@pytest.mark.parametrize("device", ["x", "gpu", "meta", "cuda:x", "cuda:77777777777", "CPU"])
def test_unknown_devices(run_file: Path, capsys, device: str) -> None:
    line = fail(capsys, "train", run_file, "--device", device)
    assert line == (
        f"srtoolbox: --device {device}: must be auto, cpu, cuda, cuda:0, cuda:1, … or mps"
    )


def test_absent_devices(run_file: Path, capsys) -> None:
    line = fail(capsys, "train", run_file, "--device", "cuda:99")
    assert "--device cuda:99: not available here; there are: auto, cpu" in line


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"a: 1\n", "is a text file, not a weight file"),
        ("größe: é\n".encode(), "is a text file, not a weight file"),
        (bytes(range(200, 256)) * 9, "is 504 bytes of another format, not a weight file"),
    ],
)
def test_convert_of_other_files(tmp_path: Path, capsys, content: bytes, words: str) -> None:
    source = tmp_path / "w.pth"
    source.write_bytes(content)
    line = fail(capsys, "convert", source, tmp_path / "out.pth")
    assert f"{source}: {words}" in line and "torch" not in line.lower()


def test_missing_weights_come_first(tmp_path: Path, capsys) -> None:
    weights = tmp_path / "missing.pth"
    assert fail(capsys, "test", "--weights", weights) == f"srtoolbox: --weights {weights}: " + (
        "no such file"
    )


@pytest.mark.parametrize(("name", "close"), [("Vid-4", "vid4"), ("JILIN189", "jilin189")])
def test_close_names_of_layouts(tmp_path: Path, capsys, name: str, close: str) -> None:
    assert f"did you mean '{close}'" in fail(capsys, "prepare", name, "--source", tmp_path)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("list", "loss"), "L1Loss"),
        (("list", "losses"), "L1Loss"),
        (("show", "losses", "L1Loss"), "loss_weight"),
        (("show", "loss", "L1Loss"), "loss_weight"),
        (("list", "protocols"), "matlab-y"),
        (("list", "layouts"), "jilin189"),
    ],
)
def test_singular_and_plural(capsys, words: tuple[str, ...], expected: str) -> None:
    assert main(list(words)) == 0
    assert expected in capsys.readouterr().out


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: {b: 1\nc: 2\n", "the mapping in braces {…} that begins in line 1 is not closed"),
        ("a: {b: c: d}\n", "quote text that contains ': '"),
        ("a: [1, 2\n", "the list in brackets […] that begins in line 1 is not closed or lacks a"),
        ("a: {b: 1, c: ]}\n", "a value is missing: found ']' instead"),
        ("a: b: c\n", "a second ': ' in one line"),
        ("\ta: b\n", "indent with spaces, not tabs"),
        ("a: @b\n", "a value cannot begin with @; put it in quotation marks"),
        ('a: "b\n', "has no closing quotation mark"),
        ("a: *b\n", "the alias *b has no anchor &b above it"),
        ("a:\n  b: 1\n c: 2\n", "the keys of one mapping begin in one column"),
    ],
)
def test_yaml_mistakes_are_explained(tmp_path: Path, capsys, text: str, words: str) -> None:
    file = tmp_path / "o.yml"
    file.write_text(text)
    line = fail(capsys, "train", file)
    assert "not valid YAML: " in line and words in line
    assert not any(word in line for word in ("flow", "node", "token", "stream", "scalar"))
