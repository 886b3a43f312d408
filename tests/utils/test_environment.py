"""What a run says of the code that it was made with."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from srtoolbox.utils import environment
from srtoolbox.utils.environment import source_commit, uncommitted_diff

pytestmark = pytest.mark.skipif(shutil.which("git") is None, reason="needs git")


def git(folder: Path, *arguments: str) -> None:
    author = ("-c", "user.name=a", "-c", "user.email=a@b.c", "-c", "commit.gpgsign=false")
    subprocess.run(["git", *author, *arguments], cwd=folder, check=True, capture_output=True)


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package in a repository of its own, from which the code seems to run."""
    package = tmp_path / "repository" / "package"
    module = package / "engine" / "environment.py"
    module.parent.mkdir(parents=True)
    module.write_text("a = 1\n")
    git(package.parent, "init")
    git(package.parent, "add", ".")
    git(package.parent, "commit", "-m", "first")
    monkeypatch.setattr(environment, "__file__", str(module))
    return package


def test_a_clean_checkout(package: Path) -> None:
    assert len(source_commit()) == 12
    assert uncommitted_diff() == ""


def test_the_patch_makes_the_code_again(package: Path, tmp_path: Path) -> None:
    (package / "engine" / "environment.py").write_text("a = 2  # Grüße\n")
    (package / "my net.py").write_text("b = 3\n")
    (package / "blob").write_bytes(bytes(range(256)))
    assert source_commit().endswith("+")
    patch = tmp_path / "uncommitted.diff"
    patch.write_text(uncommitted_diff())
    again = tmp_path / "again"
    git(tmp_path, "clone", str(package.parent), str(again))
    git(again, "apply", str(patch))
    for name in ("engine/environment.py", "my net.py", "blob"):
        assert (again / "package" / name).read_bytes() == (package / name).read_bytes()


def test_no_repository_and_no_git(package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (package / "new.py").touch()
    with monkeypatch.context() as patch:
        patch.setenv("PATH", "")
        assert source_commit() is None
        assert uncommitted_diff() == ""
    shutil.rmtree(package.parent / ".git")
    assert uncommitted_diff() == ""
