"""Log lines, JSONL files and TensorBoard files of a run."""

from __future__ import annotations

import errno
import logging
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.summary.writer.record_writer import RecordWriter

from srtoolbox.engine.training.reporter import NULL_REPORTER, Reporter
from srtoolbox.engine.training.trackers import tensorboard
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


def test_the_gain_from_other_frames(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "srtoolbox"):
        reporter = Reporter(tmp_path, "edvr", 100)
        reporter.evaluation(50, "Vid4", {"psnr": 27.123456}, 2.3149)
    assert list(read_lines(tmp_path / "evaluation.jsonl")) == [
        {"step": 50, "dataset": "Vid4", "psnr": 27.123456, "gain_from_frames": 2.3149}
    ]
    assert "on Vid4: psnr 27.1235  gain from other frames 2.31 dB" in caplog.text
    board = EventAccumulator(str(tmp_path / "tb"), {"scalars": 0}).Reload()
    assert board.Scalars("Vid4/gain_from_frames")[0].value == pytest.approx(2.3149)


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


def points(events: EventAccumulator, tag: str = "train/l_pix") -> list[tuple[int, float]]:
    return [(event.step, event.value) for event in events.Scalars(tag)]


class TestTensorBoard:
    def test_points(self, tmp_path: Path) -> None:
        """A run that was killed and resumed has every step once."""
        for start, steps in ((0, (10, 20, 30)), (20, (30,)), (0, (10,))):
            reporter = Reporter(tmp_path, "edsr", 100, start=start)
            for step in steps:
                reporter.training(step, {"l_pix": 1.0 + start}, RATE)
                reporter.evaluation(step, "Set5", {"psnr": 30.0, "lpips": None})
            events = board(tmp_path)  # at once: a kill loses nothing
            assert {"train/l_pix", "speed/it/s", "Set5/psnr"} <= set(events.Tags()["scalars"])
            assert "Set5/lpips" not in events.Tags()["scalars"]
            whole = {0: [(step, 1.0) for step in steps], 20: [(10, 1.0), (20, 1.0), (30, 21.0)]}
            assert points(events) == whole[start]
            assert [s for s, _ in points(events, "Set5/psnr")] == [s for s, _ in points(events)]

    @pytest.mark.slow
    def test_a_reader_that_stays_sees_no_step_twice(self, tmp_path: Path) -> None:
        first = Reporter(tmp_path, "edsr", 100)
        for step in (10, 20, 30):
            first.training(step, {"l_pix": 1.0}, RATE)
        reader = board(tmp_path)
        assert points(reader) == [(10, 1.0), (20, 1.0), (30, 1.0)]
        time.sleep(1.01)  # names of files have seconds
        second = Reporter(tmp_path, "edsr", 100, start=20)
        second.training(30, {"l_pix": 2.0}, RATE)
        reader.Reload()
        assert points(reader) == [(10, 1.0), (20, 1.0), (30, 2.0)]

    @pytest.mark.parametrize("cut", [1, 7, 30])
    def test_a_file_that_a_killed_writer_left_torn(self, tmp_path: Path, cut: int) -> None:
        first = Reporter(tmp_path, "edsr", 100)
        for step in (10, 20):
            first.training(step, {"l_pix": 1.0}, RATE)
        (file,) = (tmp_path / "tb").iterdir()
        os.truncate(file, file.stat().st_size - cut)
        second = Reporter(tmp_path, "edsr", 100, start=20)
        second.training(30, {"l_pix": 1.0}, RATE)
        assert points(board(tmp_path)) == [(10, 1.0), (20, 1.0), (30, 1.0)]

    def test_points_that_never_reached_the_file(self, tmp_path: Path) -> None:
        """TensorBoard was off, or killed before a flush: the JSONL files have the points."""
        Reporter(tmp_path, "edsr", 100, tensorboard=False).training(10, {"l_pix": 1.0}, RATE)
        with Reporter(tmp_path, "edsr", 100, start=10) as reporter:
            reporter.training(20, {"l_pix": 2.0}, RATE)
        assert points(board(tmp_path)) == [(10, 1.0), (20, 2.0)]

    @pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
    @pytest.mark.parametrize("again", [False, True])
    @pytest.mark.parametrize("place", ["thread", "folder"])
    def test_a_failed_file_is_written_again(
        self, tmp_path: Path, monkeypatch, caplog, again: bool, place: str
    ) -> None:
        """The disk is full for the writer's thread, or for a new file."""

        def fail(*_: object) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        with Reporter(tmp_path, "edsr", 100) as reporter:
            reporter.training(10, {"l_pix": 1.0}, RATE)
            with monkeypatch.context() as patch:
                if place == "thread":
                    patch.setattr(RecordWriter, "write", fail)
                else:
                    reporter._trackers["TensorBoard"]._writer = None
                    patch.setattr(tensorboard, "_open_writer", fail)
                reporter.training(20, {"l_pix": 1.0}, RATE)
            assert [record["step"] for record in read_lines(tmp_path / "log.jsonl")] == [10, 20]
            if again:
                reporter.training(30, {"l_pix": 1.0}, RATE)
        steps = [step for step, _ in points(board(tmp_path))]
        assert steps == ([10, 20, 30] if again else [10, 20])
        assert "tb: not written (No space left on device); this is tried again later" in caplog.text

    def test_a_folder_that_cannot_be_made_stops_nothing(self, tmp_path: Path, caplog) -> None:
        (tmp_path / "tb").write_text("a file in its place")
        with Reporter(tmp_path, "edsr", 100) as reporter:
            reporter.training(10, {"l_pix": 1.0}, RATE)
        assert [record["step"] for record in read_lines(tmp_path / "log.jsonl")] == [10]
        assert "tb: not written (" in caplog.text

    def test_no_file_stays_open(self, tmp_path: Path) -> None:
        before = threading.active_count()
        with Reporter(tmp_path, "edsr", 100) as reporter:
            reporter.training(10, {"l_pix": 1.0}, RATE)
        assert threading.active_count() == before

    @pytest.mark.slow
    def test_it_is_imported_only_when_asked_for(self, tmp_path: Path) -> None:
        script = f"""
import sys
from pathlib import Path
import srtoolbox.engine.training.train
from srtoolbox.engine.training.reporter import Reporter
with Reporter(Path({str(tmp_path)!r}), "edsr", 100, tensorboard=False) as reporter:
    reporter.training(10, {{"l_pix": 1.0}}, {RATE})
assert not [name for name in sys.modules if name.partition(".")[0] == "tensorboard"]
"""
        subprocess.run([sys.executable, "-c", script], check=True, timeout=120)


def test_the_other_processes_report_nothing(tmp_path: Path, monkeypatch, capfd) -> None:
    monkeypatch.chdir(tmp_path)
    with NULL_REPORTER as reporter:
        reporter.advance(10)
        reporter.training(10, {"l_pix": 1.0}, RATE)
        reporter.evaluation(10, "Set5", {"psnr": 30.0}, 1.0)
        reporter.images(10, "Set5", [])
    assert list(tmp_path.iterdir()) == []
    assert capfd.readouterr() == ("", "")
