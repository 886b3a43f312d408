"""Where a run's figures go."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from srtoolbox.engine.files import read_lines
from srtoolbox.engine.reporter import Reporter

RATE = {"it/s": 2.0, "data wait": 0.25, "memory": 0.0}


def test_log_points(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with (
        caplog.at_level(logging.INFO, "srtoolbox"),
        Reporter(tmp_path, "edsr", 100, tensorboard=False) as reporter,
    ):
        reporter.advance(20)
        reporter.training(20, {"l_pix": 0.125, "lr": 1e-4}, RATE)
    assert list(read_lines(tmp_path / "log.jsonl")) == [
        {"step": 20, "l_pix": 0.125, "lr": 1e-4, **RATE}
    ]
    assert "edsr 20/100  l_pix 0.125  lr 0.0001" in caplog.text
    assert "2.00 it/s, data wait 25 %, 0:40 left" in caplog.text


def test_long_runs_and_memory(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "srtoolbox"):
        reporter = Reporter(tmp_path, "edsr", 20_000, tensorboard=False)
        reporter.training(200, {}, {**RATE, "memory": 1234.4})
    assert "1234 MiB, 2:45:00 left" in caplog.text


def test_scores(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "srtoolbox"):
        reporter = Reporter(tmp_path, "edsr", 100, tensorboard=False)
        reporter.evaluation(50, "Set5", {"psnr": 32.123456, "lpips": None})
    assert list(read_lines(tmp_path / "evaluation.jsonl")) == [
        {"step": 50, "dataset": "Set5", "psnr": 32.123456, "lpips": None}
    ]
    assert "edsr 50/100  on Set5: psnr 32.1235" in caplog.text
    assert "lpips" not in caplog.text


def test_later_records_of_an_earlier_try_are_dropped(tmp_path: Path) -> None:
    first = Reporter(tmp_path, "edsr", 100, tensorboard=False)
    for step in (10, 20, 30):
        first.training(step, {}, RATE)
        first.evaluation(step, "Set5", {"psnr": 30.0})
    Reporter(tmp_path, "edsr", 100, start=20, tensorboard=False)
    for name in ("log.jsonl", "evaluation.jsonl"):
        assert [record["step"] for record in read_lines(tmp_path / name)] == [10, 20]


def test_plain_output_without_a_terminal(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with Reporter(tmp_path, "edsr", 100, tensorboard=False) as reporter:
        reporter.advance(50)
        reporter.training(50, {"l_pix": 0.1}, RATE)
    captured = capfd.readouterr()
    assert captured.out == ""
    assert "\x1b" not in captured.err


@pytest.mark.slow
def test_tensorboard(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    for start, steps in ((0, (10, 20, 30)), (20, (30,))):
        with Reporter(tmp_path, "edsr", 100, start=start) as reporter:
            for step in steps:
                reporter.training(step, {"l_pix": 1.0 + start}, RATE)
                reporter.evaluation(step, "Set5", {"psnr": 30.0, "lpips": None})
    events = EventAccumulator(str(tmp_path / "tb")).Reload()
    tags = events.Tags()["scalars"]
    assert {"train/l_pix", "speed/it/s", "Set5/psnr"} <= set(tags)
    assert "Set5/lpips" not in tags
    points = [(event.step, event.value) for event in events.Scalars("train/l_pix")]
    assert points == [(10, 1.0), (20, 1.0), (30, 21.0)]
