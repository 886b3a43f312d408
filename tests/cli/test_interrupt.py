"""Signals outside of a training's loop: exit code 130 and one line."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

WAITING = """
from pathlib import Path
import time

Path("started").touch()
time.sleep(60)
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "number"),
    [
        (["train", "EDSR/sample_x4", "--set", "plugins=[waiting.py]"], signal.SIGTERM),
        (["compare", "quickstart", "--set", "plugins=[waiting.py]"], signal.SIGINT),
        (["list", "archs", "--plugin", "waiting.py"], signal.SIGTERM),
    ],
)
def test_before_the_work(tmp_path: Path, arguments: list[str], number: signal.Signals) -> None:
    (tmp_path / "waiting.py").write_text(WAITING)
    command = [sys.executable, "-m", "srtoolbox", *arguments]
    process = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True)
    while not (tmp_path / "started").exists() and process.poll() is None:
        time.sleep(0.05)
    process.send_signal(number)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 130
    (line,) = error.splitlines()
    assert line.startswith("srtoolbox: interrupted; continue with ")
