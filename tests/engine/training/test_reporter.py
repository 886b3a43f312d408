"""Where a run's figures go."""

from __future__ import annotations

import errno
import logging
import os
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from srtoolbox.engine.training.reporter import Board, Reporter
from srtoolbox.utils.files import read_lines

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


def test_what_is_owed_to_other_frames(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "srtoolbox"):
        reporter = Reporter(tmp_path, "edvr", 100)
        reporter.evaluation(50, "Vid4", {"psnr": 27.123456}, 2.3149)
    assert list(read_lines(tmp_path / "evaluation.jsonl")) == [
        {"step": 50, "dataset": "Vid4", "psnr": 27.123456, "owed_to_frames": 2.3149}
    ]
    assert "on Vid4: psnr 27.1235  owed to the other frames 2.31 dB" in caplog.text
    board = EventAccumulator(str(tmp_path / "tb"), {"scalars": 0}).Reload()
    assert board.Scalars("Vid4/owed_to_frames")[0].value == pytest.approx(2.3149)


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


def test_scores_given_after_the_state_was_saved_are_dropped(tmp_path: Path) -> None:
    first = Reporter(tmp_path, "edsr", 100, tensorboard=False)
    for step in (10, 20):
        first.training(step, {}, RATE)
        first.evaluation(step, "Set5", {"psnr": 30.0})
    Reporter(tmp_path, "edsr", 100, start=20, evaluated=10, tensorboard=False)
    assert [record["step"] for record in read_lines(tmp_path / "log.jsonl")] == [10, 20]
    assert [record["step"] for record in read_lines(tmp_path / "evaluation.jsonl")] == [10]


def test_a_full_disk_is_waited_for(tmp_path: Path, monkeypatch, caplog) -> None:
    reporter = Reporter(tmp_path, "edsr", 100, tensorboard=False)
    fsync, pauses = os.fsync, []

    def full(handle: int) -> None:
        if not pauses:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        fsync(handle)

    monkeypatch.setattr("os.fsync", full)
    monkeypatch.setattr("srtoolbox.utils.files.sleep", pauses.append)
    reporter.training(20, {}, RATE)
    pauses.clear()
    reporter.evaluation(20, "Set5", {"psnr": 30.0})
    assert [record["step"] for record in read_lines(tmp_path / "log.jsonl")] == [20]
    assert [record["step"] for record in read_lines(tmp_path / "evaluation.jsonl")] == [20]
    assert "the disk is full: waiting for room for" in caplog.text


def board(folder: Path) -> EventAccumulator:
    return EventAccumulator(str(folder / "tb"), {"scalars": 0}).Reload()


class TestTensorBoard:
    def test_points(self, tmp_path: Path) -> None:
        """A run that was killed and goes on: every step is there once."""
        for start, steps in ((0, (10, 20, 30)), (20, (30,)), (0, (10,))):
            reporter = Reporter(tmp_path, "edsr", 100, start=start)
            for step in steps:
                reporter.training(step, {"l_pix": 1.0 + start}, RATE)
                reporter.evaluation(step, "Set5", {"psnr": 30.0, "lpips": None})
            events = board(tmp_path)  # at once: a kill loses nothing
            assert {"train/l_pix", "speed/it/s", "Set5/psnr"} <= set(events.Tags()["scalars"])
            assert "Set5/lpips" not in events.Tags()["scalars"]
            points = [(event.step, event.value) for event in events.Scalars("train/l_pix")]
            whole = {0: [(step, 1.0) for step in steps], 20: [(10, 1.0), (20, 1.0), (30, 21.0)]}
            assert points == whole[start]
            assert [event.step for event in events.Scalars("Set5/psnr")] == [s for s, _ in points]

    def test_a_reader_that_stays_sees_no_step_twice(self, tmp_path: Path) -> None:
        first = Reporter(tmp_path, "edsr", 100)
        for step in (10, 20, 30):
            first.training(step, {"l_pix": 1.0}, RATE)
        reader = board(tmp_path)
        second = Reporter(tmp_path, "edsr", 100, start=20)
        second.training(30, {"l_pix": 2.0}, RATE)
        reader.Reload()
        points = [(event.step, event.value) for event in reader.Scalars("train/l_pix")]
        assert points == [(10, 1.0), (20, 1.0), (30, 2.0)]

    def test_files_of_two_writers_of_which_one_was_killed(self, tmp_path: Path) -> None:
        """It had written its file but not removed the one before; names, not clocks, order them."""
        Reporter(tmp_path, "edsr", 100).training(10, {"l_pix": 1.0}, RATE)
        old = next((tmp_path / "tb").iterdir())
        content = old.read_bytes()
        Reporter(tmp_path, "edsr", 100, start=10)
        old.write_bytes(content)
        assert [event.step for event in board(tmp_path).Scalars("train/l_pix")] == [10]

    @pytest.mark.parametrize("again", [False, True])
    def test_a_failing_file_is_made_again(
        self, tmp_path: Path, monkeypatch, caplog, again: bool
    ) -> None:
        with Reporter(tmp_path, "edsr", 100) as reporter:
            reporter.training(10, {"l_pix": 1.0}, RATE)

            def fail(self: Board, _: object) -> None:
                self.usable = False
                raise OSError(errno.ENOSPC, "No space left on device")

            with monkeypatch.context() as patch:
                patch.setattr(Board, "_append", fail)
                reporter.training(20, {"l_pix": 1.0}, RATE)
            if again:
                reporter.training(30, {"l_pix": 1.0}, RATE)
        steps = [event.step for event in board(tmp_path).Scalars("train/l_pix")]
        assert steps == ([10, 20, 30] if again else [10, 20])
        assert "tb: not written (No space left on device); tried again later" in caplog.text
