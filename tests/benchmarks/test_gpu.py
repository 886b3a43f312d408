"""The script for GPUs: its order, its limits, failures and the table; and a run of all of it."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from benchmarks.deform import DeformOptions
from benchmarks.gpu_table import assemble
from benchmarks.trainer import TrainerOptions
from srtoolbox.bench.archs import ArchsOptions
from srtoolbox.bench.modes import Mode
from srtoolbox.bench.network import build_net
from srtoolbox.config.load import load_options

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "benchmarks" / "gpu"
NETWORKS = ("images", "bursts", "clips", "variants", "compile")
KINDS = {
    "deform": DeformOptions,
    "trainer": TrainerOptions,
    **dict.fromkeys(NETWORKS, ArchsOptions),
}
runs_here = pytest.mark.skipif(
    os.name != "posix" or None in map(shutil.which, ("bash", "timeout")),
    reason="needs bash and the command timeout",
)

# Stands for Python in the script: the table is made, the sections are played.
PLAYER = f"""#!/usr/bin/env bash
case "$*" in
  *--describe*) echo '{{"device": "Played GPU", "driver": "1.2"}}' > "${{@: -1}}/machine.json" ;;
  *gpu_table*) exec {sys.executable} "$@" ;;
  *" deform "*)
    mkdir -p "$PLAYED/bench"
    printf '# x\\n\\n| played |\\n' > "$PLAYED/bench/x_deform.md" ;;
  *" trainer "*) printf 'RunError: no\\nValueError: a|b\\n\\n' >&2; exit 1 ;;
  *) sleep 20 ;;
esac
"""


def start(folder: Path, *arguments: str, player: bool = True) -> subprocess.Popen[str]:
    """Starts the script; its results are in ``folder / "out"``."""
    environment = {**os.environ, "PYTHON": sys.executable, "PLAYED": str(folder / "out")}
    environment["PYTHONPATH"] = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    if player:
        stub = folder / "python"
        stub.write_text(PLAYER)
        stub.chmod(0o755)
        environment["PYTHON"] = str(stub)
    command = ["bash", str(ROOT / "benchmarks" / "gpu.sh"), "--out", str(folder / "out")]
    return subprocess.Popen(
        [*command, *arguments],
        cwd=folder,
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def states(text: str) -> dict[str, str]:
    """Returns the state of each section of a table."""
    row = r"^\| (\w+) \| ((?:[^|]|\\\|)+?) \| [–\d]+ \| \d+ \|$"
    return dict(re.findall(row, text, re.MULTILINE))


def planned() -> list[list[str]]:
    done = subprocess.run(
        ["bash", str(ROOT / "benchmarks" / "gpu.sh"), "--list"],
        capture_output=True,
        text=True,
        check=True,
    )
    return [line.split("\t") for line in done.stdout.splitlines()]


@runs_here
def test_the_limits_add_up_to_less_than_ten_minutes_and_are_documented() -> None:
    plan = planned()
    # Two seconds for a section that has to be killed.
    assert sum(int(limit) + 2 for _, limit, _ in plan) < 600
    assert {name for name, _, _ in plan} == {"environment", "tests", *KINDS}
    page = (ROOT / "docs" / "bench.md").read_text(encoding="utf-8")
    for name, limit, command in plan:
        assert re.search(rf"^\| `{name}` \| {limit} \|", page, re.MULTILINE), name
        if name in KINDS:
            assert f"benchmarks/gpu/{name}.yml --device cuda" in command


@runs_here
def test_a_section_that_fails_is_reported_and_the_others_go_on(tmp_path: Path) -> None:
    process = start(tmp_path, "--only", "trainer,deform")
    out, errors = process.communicate()
    assert process.returncode == 1, errors
    assert "trainer: failed (exit code 1): ValueError: a|b" in out
    text = (tmp_path / "out" / "gpu.md").read_text(encoding="utf-8")
    assert "| device | Played GPU |" in text and "| driver | 1.2 |" in text
    assert f"`benchmarks/gpu.sh --out {tmp_path / 'out'} --only trainer,deform`" in text
    assert states(text) == {
        "environment": "ok",
        "deform": "ok",
        "trainer": r"failed (exit code 1): ValueError: a\|b",
    }
    assert "operator\n\n| played |" in text
    again = start(tmp_path, "--only", "deform")
    assert "is not empty; name a new folder" in again.communicate()[1]
    assert again.returncode == 2


@runs_here
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_results_survive_a_kill(tmp_path: Path, number: signal.Signals) -> None:
    process = start(tmp_path, "--only", "deform,images,clips")
    log = tmp_path / "out" / "images.log"
    while not log.exists():
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.05)
    process.send_signal(number)
    process.communicate() if number == signal.SIGTERM else process.wait()
    assert process.returncode in (130, -signal.SIGKILL)
    text = (tmp_path / "out" / "gpu.md").read_text(encoding="utf-8")
    assert states(text) == {
        "environment": "ok",
        "deform": "ok",
        "images": "not run",
        "clips": "not run",
    }
    assert "| played |" in text


@runs_here
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--gpu"], "unknown argument --gpu; use --dry-run, --only NAMES, --out DIR or --list"),
        (["--only", "images,imags"], "--only imags: no such section; --list names them"),
    ],
)
def test_faulty_arguments(tmp_path: Path, arguments: list[str], message: str) -> None:
    process = start(tmp_path, *arguments)
    assert message in process.communicate()[1]
    assert process.returncode == 2


def test_the_table(tmp_path: Path) -> None:
    plan = {"environment": 30, "tests": 60, "images": 70, "clips": 80, "compile": 90}
    (tmp_path / "plan.tsv").write_text("".join(f"{n}\t{s}\tcmd\n" for n, s in plan.items()))
    (tmp_path / "finished.tsv").write_text(
        "environment\t0\t3\ntests\t1\t9\nimages\t124\t70\nclips\t137\t82\n"
    )
    (tmp_path / "tests.log").write_text("FAILED tests/a.py::b - AssertionError\n1 failed in 2 s\n")
    (tmp_path / "tests.xml").write_text(
        '<testsuites><testsuite><testcase classname="a" name="b"><failure message="not&#10;equal"/>'
        '</testcase><testcase classname="a" name="c"/><testcase classname="a" name="d">'
        '<skipped message="needs X"/></testcase></testsuite></testsuites>'
    )
    (tmp_path / "bench").mkdir()
    (tmp_path / "bench" / "gpu_images.md").write_text("# gpu_images\n\n| EDSR | 3 |\n")
    text, bad = assemble(tmp_path, "the command", dry=True)
    assert states(text) == {
        "environment": "ok",
        "tests": "failed (exit code 1): FAILED tests/a.py::b - AssertionError",
        "images": "stopped at its limit of 70 s",
        "clips": "stopped at its limit of 80 s",
        "compile": "not run",
    }
    assert [line.partition(":")[0] for line in bad] == ["tests", "images", "clips", "compile"]
    assert "| passed | 1 |\n| failed | 1 |\n| skipped | 1 |" in text
    assert "- a.b: not equal\n- Skipped: needs X" in text
    assert "Incomplete: stopped at its limit of 70 s.\n\n| EDSR | 3 |" in text
    assert text.startswith("# Dry run on the CPU")
    assert "`the command`" in text


@pytest.mark.parametrize("name", list(KINDS))
def test_the_dry_run_measures_the_same_things(name: str) -> None:
    real, dry = (
        load_options(folder / f"{name}.yml", (), KINDS[name])[0]
        for folder in (FOLDER, FOLDER / "dry")
    )
    if isinstance(real, ArchsOptions) and isinstance(dry, ArchsOptions):
        assert {key: spec["type"] for key, spec in dry.archs.items()} == {
            key: spec["type"] for key, spec in real.archs.items()
        }
        assert dry.modes == real.modes
    for field in ("layers", "cases"):
        assert list(getattr(dry, field, ())) == list(getattr(real, field, ()))


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
def test_the_networks_take_their_input(name: str) -> None:
    opt, _ = load_options(FOLDER / f"{name}.yml", (), ArchsOptions)
    for key, spec in opt.archs.items():
        build_net(key, spec, opt.input[1:])


@runs_here
@pytest.mark.slow
def test_dry_run(tmp_path: Path) -> None:
    process = start(tmp_path, "--dry-run", player=False)
    out, errors = process.communicate()
    text = (tmp_path / "out" / "gpu.md").read_text(encoding="utf-8")
    assert process.returncode == 0, out + errors + text
    assert set(states(text).values()) == {"ok"}
    assert set(states(text)) == {"environment", "tests", *KINDS}
    assert "| driver | needs CUDA |" in text and "Skipped: needs a CUDA device" in text
    assert "| passed | 0 |\n| failed | 0 |" in text
    for name in NETWORKS:
        opt, _ = load_options(FOLDER / "dry" / f"{name}.yml", (), ArchsOptions)
        for key in opt.archs:
            for mode in opt.modes:
                cell = "needs CUDA" if Mode.parse(mode).needs_cuda else r"[\d.]+"
                assert re.search(rf"^\| {re.escape(f'{key} | {mode} | ')}{cell} \|", text, re.M)
    assert text.count("| not measured | not measured |") == 3, "the trainer's networks"
