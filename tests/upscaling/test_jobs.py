from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from support.faults import in_process
from support.upscaling import save, small_network, texture
from torch import nn

from srtoolbox.errors import RunError, UserError
from srtoolbox.media import output
from srtoolbox.upscaling.jobs import Jobs
from srtoolbox.upscaling.manifest import NAME, Manifest
from srtoolbox.upscaling.options import upscale_options
from srtoolbox.upscaling.run import find, upscale_files


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder of ten pictures, of which one is broken, as the working folder's ``in``."""
    monkeypatch.chdir(tmp_path)
    for number in range(10):
        save(Path(f"in/{number}.png"), texture(8 + number, 9))
    Path("in/4.png").write_bytes(Path("in/4.png").read_bytes()[:60])
    return Path("in")


def run(upscaler, folder=Path("in"), nets=(), **options):
    checked = upscale_options(options)
    return upscale_files(upscaler(*nets, **options), [folder], Path("out"), checked)


def contents(folder: Path = Path("out")) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.glob("*.png")}


class TestFailures:
    def test_nine_of_ten(self, folder, upscaler):
        report = run(upscaler)
        assert (len(report.done), len(report.failed), report.exit_code) == (9, 1, 3)
        (entry,) = json.loads(Path("out/failed.json").read_text())
        assert entry["input"] == "in/4.png"
        assert "in/4.png: truncated or broken" in entry["error"]
        save(Path("in/4.png"), texture(12, 9))
        report = run(upscaler)
        assert (len(report.done), len(report.found), report.exit_code) == (1, 9, 0)
        assert not Path("out/failed.json").exists()

    def test_all_failed(self, folder, upscaler):
        for path in folder.iterdir():
            path.write_bytes(b"no picture")
        assert run(upscaler).exit_code == 1

    @pytest.mark.skipif(os.name != "posix", reason="names of files are bytes on POSIX only")
    def test_names_that_are_not_utf8(self, folder, upscaler):
        name = os.fsdecode(b"bad\xff.png")
        try:
            Path("in", name).write_bytes(b"no picture")
        except OSError:
            pytest.skip("the file system takes only names in UTF-8")
        report = run(upscaler)
        for text in (Path("out/failed.json").read_text(encoding="utf-8"), report.to_json()):
            text.encode()
            assert json.dumps(f"in/{name}") in text

    @pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="the system has no named pipes")
    def test_a_pipe_is_not_read(self, folder, upscaler):
        os.mkfifo("in/pipe.png")
        report = run(upscaler)
        assert dict(report.failed)[Path("in/pipe.png")].startswith("in/pipe.png: is a pipe")

    def test_the_list_of_failures_cannot_be_written(self, folder, upscaler, caplog):
        Path("out/failed.json").mkdir(parents=True)
        report = run(upscaler)
        assert (len(report.done), report.exit_code) == (9, 3)
        assert "out/failed.json: cannot be written" in caplog.text

    def test_fail_fast(self, folder, upscaler):
        with pytest.raises(RunError, match=r"in/4\.png: truncated"):
            run(upscaler, fail_fast=True)
        assert sorted(contents()) == ["0.png", "1.png", "2.png", "3.png"]
        assert Path("out/failed.json").exists()

    def test_an_error_of_the_network_is_named(self, folder, upscaler):
        class Odd(nn.Module):
            scales, scale = (1,), 1

            def forward(self, lq: torch.Tensor) -> torch.Tensor:
                if lq.shape[-2] == 9:
                    raise RuntimeError("no 9")
                return lq

        report = run(upscaler, nets=[Odd()])
        assert len(report.done) == 8
        assert dict(report.failed)[Path("in/1.png")].startswith("in/1.png: ")
        assert "no 9" in dict(report.failed)[Path("in/1.png")]

    def test_a_file_of_the_user_is_no_list_of_failures(self, folder, upscaler):
        Path("in/4.png").unlink()
        Path("out").mkdir()
        Path("out/failed.json").write_text('{"mine": 1}')
        run(upscaler)
        assert Path("out/failed.json").read_text() == '{"mine": 1}'


class TestGoingOn:
    def test_finished_results_are_found(self, folder, upscaler):
        run(upscaler)
        before = {path: path.stat().st_mtime_ns for path in Path("out").glob("*.png")}
        report = run(upscaler, tile=7, existing="error")  # tiles do not change results
        assert (len(report.done), len(report.found)) == (0, 9)
        assert before == {path: path.stat().st_mtime_ns for path in before}

    def test_a_changed_input_or_setting_is_not_mixed_up(self, folder, upscaler, caplog):
        run(upscaler)
        save(Path("in/0.png"), texture(30, 9))
        report = run(upscaler)
        assert [path.name for path, _ in report.skipped] == ["0.png"]
        assert "0.png: exists and was made of another input or with other settings" in caplog.text
        report = run(upscaler, existing="overwrite")
        assert [result.path.name for result in report.done] == ["0.png"]
        assert len(run(upscaler, blend=0.5).skipped) == 9
        assert len(run(upscaler, nets=[small_network()]).skipped) == 9

    def test_files_of_the_user_are_kept(self, folder, upscaler, caplog):
        save(Path("out/0.png"), texture(3, 3))
        mine = Path("out/0.png").read_bytes()
        report = run(upscaler)
        assert [(path.name, reason) for path, reason in report.skipped] == [
            ("0.png", "was not written by this command")
        ]
        assert Path("out/0.png").read_bytes() == mine
        with pytest.raises(UserError, match=r"out/0\.png: exists; --existing overwrite"):
            run(upscaler, existing="error")
        run(upscaler, existing="overwrite")
        assert Path("out/0.png").read_bytes() != mine

    def test_a_result_that_was_changed_is_not_found(self, folder, upscaler):
        run(upscaler)
        save(Path("out/0.png"), texture(3, 3))
        assert [path.name for path, _ in run(upscaler).skipped] == ["0.png"]

    def test_a_damaged_manifest(self, folder, upscaler, caplog):
        run(upscaler)
        path = Path("out") / NAME
        lines = path.read_text().splitlines()
        path.write_text("\n".join(['{"result": 3', "17", "null", *lines[3:]]) + "\n\0")
        report = run(upscaler)
        assert (len(report.found), len(report.skipped)) == (6, 3)
        assert "4 lines are damaged and ignored" in caplog.text

    def test_the_file_may_have_another_suffix_than_planned(self, tmp_path):
        manifest = Manifest(tmp_path)
        (tmp_path / "a.mkv").write_bytes(b"1")
        manifest.add(tmp_path / "a.mp4", "key", tmp_path / "a.mkv")
        again = Manifest(tmp_path)
        assert again.holds(tmp_path / "a.mp4", "key")
        assert not again.holds(tmp_path / "a.mp4", "other")
        assert again.results == [tmp_path / "a.mkv"]


def test_results_are_reported_as_they_come(folder, upscaler):
    seen, options = [], upscale_options({})
    net = upscaler()
    found = find(net, [folder], Path("out"), options)
    Jobs(net, options, lambda result: seen.append(result.path.exists())).run(found.jobs)
    assert seen == [True] * 9


@pytest.mark.slow
def test_killed_at_any_moment_it_goes_on(tmp_path, weights):
    """After a kill the same command finishes, and its results equal those of an unbroken run."""
    for number in range(8):
        save(tmp_path / "in" / f"{number}.png", texture(90, 90 + number))
    # Each result takes at least 0.1 s. After the first one, the alarm of the system ends the
    # process in less than 0.3 s, so two alarms come before the end on every machine.
    code = """
        import signal, sys, time
        from srtoolbox.cli import main
        from srtoolbox.media import output
        name_file, seconds = output.sync_folder, float(sys.argv.pop(1))
        def slowly(folder):
            if not signal.getitimer(signal.ITIMER_REAL)[0]:
                signal.setitimer(signal.ITIMER_REAL, seconds)
            time.sleep(0.1)
            name_file(folder)
        output.sync_folder = slowly
        sys.exit(main(sys.argv[1:]))
    """

    def upscale(out: str, alarm: float = 0) -> int:
        command = [sys.executable, "-c", textwrap.dedent(code), str(alarm)]
        command += ["upscale", "in", "--weights", str(weights), "-o", out]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        return subprocess.run(command, cwd=tmp_path, env=environment, check=False).returncode

    chance = random.Random(0)
    for _ in range(2):
        assert upscale("broken", chance.uniform(0.01, 0.3)) == -signal.SIGALRM
    assert upscale("broken") == 0
    assert upscale("whole") == 0
    assert contents(tmp_path / "broken") == contents(tmp_path / "whole")
    assert len(contents(tmp_path / "whole")) == 8


def test_pixels_of_all_results(folder, upscaler):
    run(upscaler)
    for path in Path("out").glob("*.png"):
        source = np.asarray(Image.open(Path("in") / path.name)).transpose(2, 0, 1)
        expected = np.floor(upscaler().image(source).clip(0, 1) * np.float64(255) + 0.5)
        assert np.array_equal(np.asarray(Image.open(path)).transpose(2, 0, 1), expected)


def test_frames_between_frames_are_results_too(tmp_path, monkeypatch, upscaler):
    monkeypatch.chdir(tmp_path)
    for number in range(3):
        save(Path(f"in/{number}.png"), texture(16, 16))
    run = upscaler(small_network("MSTTSTVSR", 4))
    report = upscale_files(run, [Path("in")], Path("in/big"), upscale_options({}))
    assert [result.frames for result in report.done] == [2, 2, 2]
    written = sorted(path.name for path in Manifest(Path("in/big")).results)
    assert written == sorted(path.name for path in Path("in/big").glob("*.png"))
    assert len(written) == 6
    again = upscale_files(run, [Path("in")], Path("in/big"), upscale_options({}))
    assert (len(again.done), len(again.found)) == (0, 3)


@pytest.mark.parametrize("name", ["Bicubic", "MSTTSTVSR"])
def test_killed_right_after_a_result_it_is_found(folder, upscaler, monkeypatch, name):
    """Ends the job when its first result has its name, before anything else happens."""
    for path in folder.iterdir():
        save(path, texture(16, 16))
    nets = [small_network(name, 4 if name == "MSTTSTVSR" else 2)]
    with monkeypatch.context() as patched:
        patched.setattr(output, "sync_folder", lambda folder: os.kill(os.getpid(), signal.SIGINT))
        with pytest.raises(KeyboardInterrupt):
            run(upscaler, nets=nets)
    assert len(contents()) == 1
    report = run(upscaler, nets=nets)
    assert (report.skipped, len(report.done) + len(report.found)) == ([], 10)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs processes that can be forked")
def test_what_killed_commands_left_is_removed(folder, upscaler, monkeypatch):
    def kill_in_a_file() -> None:
        monkeypatch.setattr(output.os, "fsync", lambda _: os.kill(os.getpid(), signal.SIGKILL))
        run(upscaler)

    for _ in range(2):
        assert in_process(kill_in_a_file) == -signal.SIGKILL
    assert len(list(Path("out").glob(".*.tmp"))) == 2
    for name in (".notes.tmp", ".other.png.12345678.tmp"):  # of the user, or of another command
        Path("out", name).touch()
    run(upscaler)
    left = sorted(path.name for path in Path("out").glob(".*.tmp"))
    assert left == [".notes.tmp", ".other.png.12345678.tmp"]


@pytest.mark.slow
class TestVideosThatNeedAnotherSuffix:
    """MP4 cannot hold an attachment, or video of some encoders: the result is Matroska."""

    @pytest.fixture
    def folder(self, tmp_path, monkeypatch):
        pytest.importorskip("av", reason="needs PyAV: pip install srtoolbox[video]")
        from support.videos import Clip

        monkeypatch.chdir(tmp_path)
        Path("in").mkdir()
        Clip(3).make(Path("in/a.mp4"))
        return Path("in")

    @pytest.mark.parametrize("existing", ["skip", "error"])
    def test_files_of_the_user_are_kept(self, folder, upscaler, existing):
        Path("out").mkdir()
        Path("out/a.mkv").write_text("of the user")
        if existing == "error":
            with pytest.raises(UserError, match=r"out/a\.mkv: exists"):
                run(upscaler, existing=existing, codec="libvpx")
        else:
            report = run(upscaler, existing=existing, codec="libvpx")
            assert report.skipped == [(Path("out/a.mkv"), "was not written by this command")]
        assert Path("out/a.mkv").read_text() == "of the user"
        assert run(upscaler, existing="overwrite", codec="libvpx").exit_code == 0
        report = run(upscaler, codec="libvpx")
        assert report.found == [Path("out/a.mkv")]
        report = run(upscaler, crf=30, codec="libvpx")
        assert report.skipped[0][1] == "was made of another input or with other settings"

    @pytest.mark.parametrize(
        ("options", "words"),
        [
            ({"codec": "nothing"}, "no encoder 'nothing'"),
            ({"codec": "libvpx", "pix_fmt": "rgb24"}, "libvpx cannot encode 'rgb24'"),
            ({"codec": "rawvideo", "pix_fmt": "nothing"}, "pix_fmt: there is no 'nothing'"),
            ({"codec": "libx264", "preset": "nothing"}, "libx264 refuses .* check codec, crf, pre"),
        ],
    )
    def test_wrong_options_of_the_encoder_end_the_command(self, folder, upscaler, options, words):
        """A UserError of the command (exit code 2), not a failed input (1)."""
        with pytest.raises(UserError, match=words):
            run(upscaler, **options)
        assert not Path("out").exists()

    def test_notes_are_logged_once(self, folder, upscaler, caplog):
        with caplog.at_level("INFO", logger="srtoolbox"):
            report = run(upscaler, codec="libvpx", width=65)
        (result,) = report.done
        assert len(result.notes) >= 2
        for note in result.notes:
            assert sum(note in line for line in caplog.messages) == 1

    def test_other_results_are_kept(self, folder, upscaler):
        from support.videos import Clip

        Clip(5).make(folder / "a.mkv")
        for existing in ("skip", "overwrite"):
            report = run(upscaler, existing=existing, codec="libvpx")
            ((source, error),) = report.failed
            assert source == folder / "a.mp4" and report.exit_code == 3
            assert "would replace an input or another result" in error
        from support.videos import times

        assert len(times(Path("out/a.mkv"))) == 5

    def test_killed_right_after_the_result_it_is_found(self, folder, upscaler, monkeypatch):
        with monkeypatch.context() as patched:
            patched.setattr(
                output, "sync_folder", lambda folder: os.kill(os.getpid(), signal.SIGINT)
            )
            with pytest.raises(KeyboardInterrupt):
                run(upscaler)
        assert Path("out/.a.mp4.segments").is_dir()
        report = run(upscaler)
        assert (report.found, report.skipped) == ([Path("out/a.mp4")], [])
        names = sorted(path.name for path in Path("out").iterdir())
        assert names == [NAME, "a.mp4"]
