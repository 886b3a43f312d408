"""Run folders with damaged files: the same weights or one line, never other weights."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.damage import damaged
from support.runs import run

from srtoolbox.engine.options import RunOptions
from srtoolbox.errors import RunError, UserError
from srtoolbox.utils.files import read_lines

FUZZ = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture
def finished(options) -> tuple[RunOptions, str]:
    """Options of a run that is finished, and the hash of its weights."""
    opt = options("train.ema_decay=0.9", "logger.use_tb_logger=false")
    return opt, run(opt).weights


def _files(folder: Path) -> list[Path]:
    names = ("*.json", "*.jsonl", "options.yml", "weights/*", "checkpoints/*")
    return sorted(path for name in names for path in folder.glob(name) if path.is_file())


def _check(opt: RunOptions, whole: str, original: Path, data: st.DataObject) -> None:
    """Continues a copy of a run in which up to two files are damaged."""
    shutil.rmtree(opt.folder, ignore_errors=True)
    shutil.copytree(original, opt.folder)
    files = st.sampled_from(_files(opt.folder))
    for path in data.draw(st.lists(files, min_size=1, max_size=2, unique=True)):
        path.write_bytes(damaged(data, path))
    try:
        found = run(opt, resume=True)
    except (UserError, RunError) as error:
        assert "\n" not in str(error)
        assert str(opt.folder) in str(error)
    else:
        assert found.weights == whole
        for name in ("log.jsonl", "evaluation.jsonl"):
            list(read_lines(opt.folder / name))


@pytest.mark.slow
@settings(FUZZ, max_examples=75)
@given(data=st.data())
def test_finished_runs(finished: tuple[RunOptions, str], data: st.DataObject) -> None:
    opt, whole = finished
    original = opt.folder.with_name("original")
    if not original.exists():
        shutil.copytree(opt.folder, original)
    _check(opt, whole, original, data)


@pytest.mark.slow
@settings(FUZZ, max_examples=30)
@given(data=st.data())
def test_runs_that_go_on(finished: tuple[RunOptions, str], data: st.DataObject) -> None:
    opt, whole = finished
    original = opt.folder.with_name("original")
    if not original.exists():
        shutil.copytree(opt.folder, original)
        (original / "finished.json").unlink()
        shutil.rmtree(original / "weights")
        max(original.glob("checkpoints/*.ckpt")).unlink()
    _check(opt, whole, original, data)
