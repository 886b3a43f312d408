"""Workers of a killed process end at once."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

PARENT = """
import multiprocessing, os, sys, time
from srtoolbox.utils.processes import end_with_parent

def work():
    end_with_parent()
    print(os.getpid(), flush=True)
    time.sleep(60)

if __name__ == "__main__":
    multiprocessing.get_context(sys.argv[1]).Process(target=work).start()
    time.sleep(60)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("start", ["fork", "spawn"])
def test_a_worker_ends_with_its_killed_parent(tmp_path, start) -> None:
    file = tmp_path / "parent.py"
    file.write_text(PARENT)
    parent = subprocess.Popen([sys.executable, file, start], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    worker = Path("/proc", parent.stdout.readline().strip())
    assert worker.exists()
    os.kill(parent.pid, signal.SIGKILL)
    parent.wait()
    for _ in range(200):  # no timing assert: the worker would sleep for a minute
        if not worker.exists() or "\nState:\tZ" in (worker / "status").read_text():
            return
        time.sleep(0.05)
    pytest.fail("the worker lives on")
