"""The commands list, show and options."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from srtoolbox.cli import main
from srtoolbox.comparison.options import StudyOptions
from srtoolbox.config.files import read
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


@pytest.mark.slow
@pytest.mark.parametrize("name", shipped_files())
def test_every_shipped_file_can_be_copied(name: str, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    assert main(["options", "copy", name, "folder"]) == 0
    (copy,) = (tmp_path / "folder").iterdir()
    assert repr(read(copy)) == repr(read(shipped_files()[name]))  # also in their order
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


BASICSR = """
name: theirs
model_type: SRModel
scale: 2
num_gpu: 8
datasets:
  train:
    {name: a, type: PairedImageDataset, dataroot_gt: hr, dataroot_lq: lr, io_backend: {type: disk},
    gt_size: 64, use_hflip: true, use_rot: true, batch_size_per_gpu: 2}
network_g: {type: EDSR, num_in_ch: 3, num_out_ch: 3, num_feat: 8, num_block: 1, upscale: 2}
train:
  total_iter: !!float 2e1
  optim_g: {type: Adam, lr: !!float 1e-4}
  pixel_opt: {type: L1Loss, reduction: sum}
  mixup: true
"""


def test_import_prints_a_file_and_names_what_differs(tmp_path: Path, capsys) -> None:
    theirs = tmp_path / "theirs.yml"
    theirs.write_text(BASICSR)
    assert main(["options", "import", str(theirs)]) == 1
    shown = capsys.readouterr()
    ours = tmp_path / "ours.yml"
    ours.write_text(shown.out)
    opt = load_options(ours, (), RunOptions)[0]
    assert opt.train is not None and (opt.train.batch_size, opt.train.total_iter) == (16, 20)
    differing, lost, summary = shown.err.splitlines()
    assert differing.startswith(f"{theirs}:14: train.pixel_opt.reduction: BasicSR sums on each")
    assert lost.startswith(f"{theirs}:15: train.mixup: cannot be translated: ")
    assert f"{theirs}: 1 key could not be translated: train.mixup; the comment at" in summary
    theirs.write_text(BASICSR.replace("  mixup: true\n", ""))
    assert main(["options", "import", str(theirs)]) == 0


def test_import_writes_only_new_files(tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    Path("theirs.yml").write_text(BASICSR)
    command = ["options", "import", "theirs.yml", "-o", "new/ours.yml"]
    assert main(command) == 1
    assert "run: srtoolbox train new/ours.yml" in capsys.readouterr().out
    text = Path("new/ours.yml").read_text()
    assert main(command) == 2
    assert "new/ours.yml exists already; give another file with -o" in capsys.readouterr().err
    assert Path("new/ours.yml").read_text() == text


def test_import_needs_the_arch_or_a_plugin_with_it(tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    Path("theirs.yml").write_text(BASICSR.replace("EDSR", "TheirNet"))
    command = ["options", "import", "theirs.yml", "-o", "ours.yml"]
    assert main(command) == 2
    error = capsys.readouterr().err
    assert "theirs.yml:10: network_g.type: srtoolbox has no arch 'TheirNet'" in error
    assert "theirs.yml:15: train.mixup: cannot be translated" in error
    assert len(error.splitlines()) == 2 and not Path("ours.yml").exists()
    network = (ROOT / "docs" / "examples" / "tiny_net.py").read_text()
    Path("net.py").write_text(
        network.replace("class TinyNet", "class TheirNet").replace("num_feat", "num_block")
    )
    assert main([*command, "--plugin", "net.py"]) == 1
    assert "network_g.num_feat: cannot be translated" in capsys.readouterr().err
    opt = load_options("ours.yml", (), RunOptions)[0]
    assert opt.network_g == {"type": "TheirNet", "num_block": 1}
    assert opt.plugins == [str(tmp_path / "net.py")]
