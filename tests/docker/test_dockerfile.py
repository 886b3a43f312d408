"""The Dockerfile names files that exist, and builds an image without root rights.

Docker itself is not needed: the tests read the file, and build the package from what it copies.
"""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
import zipfile
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FILE = ROOT / "docker" / "Dockerfile"
KNOWN = {"ARG", "FROM", "RUN", "ENV", "WORKDIR", "COPY", "USER", "ENTRYPOINT", "CMD"}


def instructions() -> list[tuple[str, str]]:
    """Returns the instructions and their arguments, without comments."""
    lines = [line for line in FILE.read_text().splitlines() if not line.startswith("#")]
    text = re.sub(r"\\\n\s*", "", "\n".join(lines))
    found = [line.partition(" ") for line in text.splitlines() if line.strip()]
    return [(name, rest.strip()) for name, _, rest in found]


def stages() -> list[list[tuple[str, str]]]:
    """Returns the instructions of each stage, ``FROM`` first."""
    found: list[list[tuple[str, str]]] = []
    for name, rest in instructions():
        if name == "FROM":
            found.append([])
        if found:
            found[-1].append((name, rest))
    return found


def copied() -> list[str]:
    """Returns the paths that come from the sources."""
    copies = [rest for name, rest in instructions() if name == "COPY"]
    return [path for rest in copies if "--from" not in rest for path in shlex.split(rest)[:-1]]


def test_every_line_is_an_instruction() -> None:
    assert {name for name, _ in instructions()} <= KNOWN


def test_the_files_that_it_copies_exist_and_are_sent() -> None:
    sent = (ROOT / "docker" / "Dockerfile.dockerignore").read_text().splitlines()
    assert "*" in sent
    for path in copied():
        assert (ROOT / path).exists(), path
        assert f"!{path}" in sent, path
    assert {line[1:] for line in sent if line.startswith("!")} == set(copied())


def test_the_image_runs_the_program_without_root_rights() -> None:
    last = stages()[-1]
    assert [rest for name, rest in last if name == "ENTRYPOINT"] == ['["srtoolbox"]']
    users = [number for number, (name, _) in enumerate(last) if name == "USER"]
    assert len(users) == 1 and last[users[0]][1] not in ("root", "0")
    assert "RUN" not in [name for name, _ in last[users[0] :]]
    assert f"useradd --create-home --uid 1000 {last[users[0]][1]}" in dict(last)["RUN"]
    assert 'srtoolbox = "srtoolbox.cli:main"' in (ROOT / "pyproject.toml").read_text()


def test_it_takes_the_device_and_a_supported_python_as_arguments() -> None:
    defaults = dict(rest.split("=") for name, rest in instructions() if name == "ARG")
    assert defaults["TORCH"] == "cpu"
    project = (ROOT / "pyproject.toml").read_text()
    assert f"Python :: {defaults['PYTHON']}" in project
    for extra in defaults["EXTRAS"].split(","):
        assert re.search(rf"^{extra} = \[", project, re.MULTILINE), extra
    used = "\n".join(rest for name, rest in instructions() if name != "ARG")
    assert all(f"${{{name}}}" in used for name in defaults)


@pytest.mark.slow
@pytest.mark.skipif(find_spec("setuptools") is None, reason="setuptools is not installed")
def test_the_package_can_be_built_from_what_it_copies(tmp_path: Path) -> None:
    source = tmp_path / "src"
    source.mkdir()
    for name in copied():
        if (ROOT / name).is_dir():
            shutil.copytree(
                ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__")
            )
        else:
            shutil.copy(ROOT / name, source)
    script = "from setuptools import build_meta; build_meta.build_wheel('.')"
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=source, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    (wheel,) = source.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    assert "srtoolbox/options/compare/quickstart.yml" in names
    assert "srtoolbox/upscaling/weights/edsr_x4.safetensors" in names
