"""The commands list, show and options."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from srtoolbox.cli import main
from srtoolbox.comparison.options import StudyOptions
from srtoolbox.config.files import dump, read
from srtoolbox.config.load import load_options
from srtoolbox.config.shipped import leading_comment, resolve, shipped_files
from srtoolbox.engine.options import RunOptions

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("archs", "EDVR"),
        ("datasets", "SampleBursts"),
        ("discriminators", "ISRDiscriminator"),
        ("flows", "DIS"),
        ("losses", "L1Loss"),
        ("metrics", "WarpingError"),
        ("models", "SRModel"),
        ("optimizers", "AdamW"),
        ("schedulers", "MultiStepLR"),
    ],
)
def test_list(kind: str, name: str, capsys) -> None:
    assert main(["list", kind]) == 0
    assert name in capsys.readouterr().out


def test_show(capsys) -> None:
    assert main(["show", "arch", "EDSR"]) == 0
    shown = capsys.readouterr().out
    assert "num_block" in shown and "CVPRW 2017" in shown
    assert main(["show", "arch", "ESDR"]) == 2
    assert "did you mean 'EDVR' or 'EDSR'" in capsys.readouterr().err


def test_show_leaves_out_what_the_program_supplies(capsys) -> None:
    assert main(["show", "optimizer", "Adam"]) == 0
    table = capsys.readouterr().out.partition("default")[2]
    options = [line.split()[0] for line in table.splitlines() if line[:3].strip()]
    assert {"lr", "betas"} <= set(options) and "params" not in options


def test_plugins_can_be_listed(capsys) -> None:
    plugin = ROOT / "docs" / "examples" / "tiny_net.py"
    assert main(["show", "arch", "TinyNet", "--plugin", str(plugin)]) == 0
    assert "ESPCN" in capsys.readouterr().out


@pytest.mark.parametrize("kind", ["run", "study", "bench"])
def test_schema(kind: str, capsys) -> None:
    assert main(["options", "schema", "--of", kind]) == 0
    schema = json.loads(capsys.readouterr().out)
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    options = schema["$defs"][schema["$ref"].rpartition("/")[2]]["properties"]
    own = {"run": "network_g", "study": "methods", "bench": "archs"}
    assert own[kind] in options and "_base_" in options


def test_the_shipped_files_are_listed_by_kind_with_a_description(capsys) -> None:
    assert main(["options", "list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    kinds = {name: lines.index(f"{name}:") for name in ("study", "run", "test", "bench")}
    assert list(kinds.values()) == sorted(kinds.values())
    for name, kind in [("compare/quickstart", "study"), ("bench/archs", "bench")]:
        (number,) = (i for i, line in enumerate(lines) if line.split()[:1] == [name])
        assert max(start for start in kinds.values() if start < number) == kinds[kind]
        assert len(lines[number].split()) > 2
    assert not any("_base_" in line for line in lines)


@pytest.mark.parametrize(
    ("name", "options", "use"),
    [
        ("quickstart", StudyOptions, "srtoolbox compare quickstart.yml"),
        ("options/train/EDSR/sample_x4.yml", RunOptions, "srtoolbox train sample_x4.yml"),
    ],
)
def test_a_copied_file_has_all_that_the_original_inherits(
    name: str, options: type, use: str, tmp_path: Path, monkeypatch, capsys
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["options", "copy", name]) == 0
    assert use in capsys.readouterr().out
    (copy,) = tmp_path.iterdir()
    assert "_base_" not in copy.read_text()
    copied, original = (load_options(path, (), options)[0] for path in (copy, resolve(name)))
    assert copied == original


@pytest.mark.parametrize("name", shipped_files())
def test_every_shipped_file_can_be_copied(name: str, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    assert main(["options", "copy", name, "folder"]) == 0
    (copy,) = (tmp_path / "folder").iterdir()
    assert dump(read(copy)) == dump(read(shipped_files()[name]))
    assert set(leading_comment(shipped_files()[name])) <= set(leading_comment(copy))


def test_copy_keeps_existing_files_and_explains_unknown_names(
    tmp_path: Path, monkeypatch, capsys
) -> None:
    monkeypatch.chdir(tmp_path)
    target = tmp_path / "new" / "mine.yml"
    assert main(["options", "copy", "quickstart", str(target)]) == 0
    text = target.read_text()
    assert main(["options", "copy", "bench/archs", str(target)]) == 2
    assert f"{target} exists already; give another file" in capsys.readouterr().err
    assert target.read_text() == text
    assert main(["options", "copy", "quikstart"]) == 2
    error = capsys.readouterr().err
    assert "no such file: quikstart; did you mean 'compare/quickstart'" in error
    assert "srtoolbox options list" in error
