"""Long jobs: they continue after a kill, segments see their neighbours, memory stays flat."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import textwrap
from collections import deque
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from support.videos import Clip, decoded, packets, times

from srtoolbox.errors import UserError
from srtoolbox.media.video import Frame
from srtoolbox.media.video_transform import transform_video

av = pytest.importorskip("av", reason="needs PyAV: pip install srtoolbox[video]")


def same(frames: Iterator[Frame]) -> Iterator[np.ndarray]:
    return (frame.pixels for frame in frames)


def windows(radius: int):
    """A transform that averages a window of frames, cut at the ends of what it is given."""

    def transform(frames: Iterator[Frame]) -> Iterator[np.ndarray | None]:
        held: deque[Frame] = deque()
        place = 0  # of the next result in ``held``
        ended = False
        while True:
            while not ended and len(held) < place + radius + 1:
                frame = next(frames, None)
                ended = frame is None
                if frame is not None:
                    held.append(frame)
            if place == len(held):
                return
            around = list(held)[max(0, place - radius) : place + radius + 1]
            mean = np.mean([frame.pixels for frame in around], axis=0)
            yield np.rint(mean).astype(np.uint8) if held[place].wanted else None
            place += 1
            if place > radius:
                held.popleft()
                place -= 1

    return transform


class StopHere(Exception):
    pass


def stopping_after(number: int, transform):
    """The same transform, which fails after some frames of the whole job."""
    count = 0

    def stopped(frames: Iterator[Frame]) -> Iterator[np.ndarray | None]:
        nonlocal count
        for output in transform(frames):
            count += 1
            if count > number:
                raise StopHere
            yield output

    return stopped


def whole_file(path: Path) -> list:
    found = [packets(path, "video")]
    with av.open(str(path)) as file:
        kinds = [stream.type for stream in file.streams]
    return found + [packets(path, kind) for kind in ("audio", "subtitle") if kind in kinds]


@pytest.mark.slow
@pytest.mark.parametrize("reorder", ["0", "3"])
@pytest.mark.parametrize("stop", [3, 17, 31])
def test_a_job_continues_and_equals_an_unbroken_one(
    tmp_path: Path, reorder: str, stop: int
) -> None:
    clip = Clip(frames=36, size=(32, 32), options={"crf": "10", "bf": reorder}, audio="aac")
    source = clip.make(tmp_path / "a.mkv")
    options = {"segment_seconds": 0.4, "context": 2, "key": {"weights": "x"}}
    unbroken = transform_video(source, tmp_path / "b.mkv", windows(2), **options).path
    target = tmp_path / "c.mkv"
    with pytest.raises(StopHere):
        transform_video(source, target, stopping_after(stop, windows(2)), **options)
    assert not target.exists()
    folder = tmp_path / ".c.mkv.segments"
    finished = len(list(folder.glob("[0-9]*.json")))
    assert finished == (0 if stop == 3 else 1 if stop == 17 else 2)
    seen: list[int] = []

    def counted(frames: Iterator[Frame]) -> Iterator[np.ndarray | None]:
        return windows(2)(frame for frame in frames if seen.append(frame.index) is None)

    progress: list[tuple[int, int]] = []
    options["on_progress"] = lambda done, total: progress.append((done, total))
    transform_video(source, target, counted, **options)
    assert min(seen) == max(0, 10 * finished - 2)
    assert progress[0][0] == (10 * finished or 1) and progress[-1] == (36, 36)
    assert whole_file(target) == whole_file(unbroken)
    for one, other in zip(decoded(target), decoded(unbroken), strict=True):
        assert np.array_equal(one, other)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.mkv", "b.mkv", "c.mkv"]


def test_windows_do_not_see_the_borders_of_segments(tmp_path: Path) -> None:
    source = Clip(frames=30, size=(32, 32), codec="ffv1", options={}).make(tmp_path / "a.mkv")
    whole = transform_video(source, tmp_path / "b.mkv", windows(3), codec="ffv1").path
    cut = tmp_path / "c.mkv"
    options = {"codec": "ffv1", "segment_seconds": 0.28, "context": 3}
    transform_video(source, cut, windows(3), **options)
    for one, other in zip(decoded(whole), decoded(cut), strict=True):
        assert np.array_equal(one, other)
    assert times(whole) == times(cut) == times(source)


def test_in_between_frames_cross_the_borders_of_segments(tmp_path: Path) -> None:
    source = Clip(frames=20, size=(32, 32), codec="ffv1", options={}).make(tmp_path / "a.mkv")

    def between(frames: Iterator[Frame]) -> Iterator[np.ndarray]:
        before = None
        for frame in frames:
            if before is not None:
                yield before.pixels
                yield before.pixels // 2 + frame.pixels // 2
            before = frame
        if before is not None:
            yield before.pixels
            yield before.pixels // 2 + before.pixels // 2

    options = {"codec": "ffv1", "time_scale": 2, "context": 1}
    whole = transform_video(source, tmp_path / "b.mkv", between, **options).path
    cut = transform_video(source, tmp_path / "c.mkv", between, segment_seconds=0.2, **options).path
    assert len(decoded(whole)) == 40
    assert whole_file(whole)[0][0] == whole_file(cut)[0][0]
    assert times(whole) == times(cut)
    for one, other in zip(decoded(whole), decoded(cut), strict=True):
        assert np.array_equal(one, other)


@pytest.mark.parametrize("change", ["settings", "key", "source"])
def test_other_settings_or_another_source_begin_anew(tmp_path: Path, change: str) -> None:
    source = Clip(frames=20, size=(32, 32)).make(tmp_path / "a.mkv")
    target = tmp_path / "b.mkv"
    options = {"segment_seconds": 0.2, "crf": 20, "key": {"weights": "x"}}
    with pytest.raises(StopHere):
        transform_video(source, target, stopping_after(12, same), **options)
    if change == "settings":
        options["crf"] = 21
    elif change == "key":
        options["key"] = {"weights": "y"}
    else:
        Clip(frames=21, size=(32, 32)).make(source)
    seen: list[int] = []
    transform_video(
        source,
        target,
        lambda frames: (frame.pixels for frame in frames if seen.append(frame.index) is None),
        **options,
    )
    assert seen[0] == 0
    assert len(times(target)) == len(times(source))


def test_damaged_segments_are_made_again(tmp_path: Path) -> None:
    source = Clip(frames=20, size=(32, 32)).make(tmp_path / "a.mkv")
    right = transform_video(source, tmp_path / "b.mkv", same, segment_seconds=0.2).path
    for damage in ("short", "no record", "torn record"):
        target, folder = tmp_path / "c.mkv", tmp_path / "work"
        options = {"segment_seconds": 0.2, "work_folder": folder}
        with pytest.raises(StopHere):
            transform_video(source, target, stopping_after(16, same), **options)
        if damage == "short":
            (folder / "00001.mkv").write_bytes((folder / "00001.mkv").read_bytes()[:-9])
        elif damage == "no record":
            (folder / "00001.json").unlink()
        else:
            (folder / "00001.json").write_text('{"frames": 5, ')
        (folder / ".00003.mkv.tmp").write_text("half of a segment")
        transform_video(source, target, same, **options)
        assert whole_file(target) == whole_file(right)
        assert not folder.exists()


def test_files_of_others_in_the_work_folder_stay(tmp_path: Path) -> None:
    source = Clip(frames=3).make(tmp_path / "a.mkv")
    folder = tmp_path / "work"
    folder.mkdir()
    (folder / "mine.txt").write_text("x")
    transform_video(source, tmp_path / "b.mkv", same, work_folder=folder)
    assert [path.name for path in folder.iterdir()] == ["mine.txt"]


@pytest.mark.slow
def test_two_jobs_cannot_share_a_folder(tmp_path: Path) -> None:
    source = Clip(frames=3).make(tmp_path / "a.mkv")
    code = f"""
        from pathlib import Path
        from srtoolbox.utils.files import locked
        with locked(Path({str(tmp_path / ".b.mkv.segments")!r})):
            print("locked", flush=True)
            input()
    """
    with run(code) as process:
        assert process.stdout is not None and process.stdout.readline() == "locked\n"
        with pytest.raises(UserError, match="is in use by process"):
            transform_video(source, tmp_path / "b.mkv", same)
        process.kill()


def run(code: str) -> subprocess.Popen[str]:
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    root = str(Path(__file__).parents[2])
    paths = os.pathsep.join([root, os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": paths}
    return subprocess.Popen([sys.executable, "-c", textwrap.dedent(code)], env=environment, **pipes)


@pytest.mark.slow
def test_kill_at_any_moment(tmp_path: Path) -> None:
    clip = Clip(frames=60, size=(48, 32), options={"crf": "10", "bf": "3"}, audio="aac")
    clip.subtitles, clip.chapters = "subrip", True
    source = clip.make(tmp_path / "a.mkv")
    # The alarm of the system ends the process at that moment, whatever it does. The frames sleep
    # for 1.2 s together, so that the first two alarms come before the end on every machine.
    code = f"""
        import signal, time
        from pathlib import Path
        from srtoolbox.media.video_transform import transform_video
        def slow(frames):
            for frame in frames:
                time.sleep(0.02)
                yield frame.pixels[:, ::-1].repeat(2, 1).repeat(2, 2)
        signal.setitimer(signal.ITIMER_REAL, SECONDS)
        transform_video(Path({str(source)!r}), Path({str(tmp_path / "c.mkv")!r}),
            slow, segment_seconds=0.3, context=2)
    """
    with run(code.replace("SECONDS", "0")) as process:
        assert process.wait(60) == 0
    unbroken = whole_file((tmp_path / "c.mkv").rename(tmp_path / "b.mkv"))
    chance = random.Random(0)
    kills = 0
    for _ in range(12):
        with run(code.replace("SECONDS", str(chance.uniform(0.05, 0.55)))) as process:
            if process.wait(60) == 0:
                break
            assert process.returncode == -signal.SIGALRM
            kills += 1
    assert kills >= 2
    with run(code.replace("SECONDS", "0")) as process:
        assert process.wait(60) == 0
    assert whole_file(tmp_path / "c.mkv") == unbroken
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.mkv", "b.mkv", "c.mkv"]


KILLS = {
    "before a segment has its name": "store.sync_folder = die",
    "before a segment has its record": "store.write_atomic = on_call(2, store.write_atomic)",
    "while the result is joined": "join.timed_packets = dying(join.timed_packets)",
    "before the result has its name": "transform._sync = die",
    "before the segments are removed": "store.SegmentStore.remove_files = on_call(2, remove)",
}


@pytest.mark.slow
@pytest.mark.parametrize("moment", KILLS)
def test_kill_at_this_moment(tmp_path: Path, moment: str) -> None:
    source = Clip(frames=30, size=(32, 32), audio="aac").make(tmp_path / "a.mkv")
    target = tmp_path / "c.mkv"
    unbroken = transform_video(source, tmp_path / "b.mkv", same, segment_seconds=0.3).path
    code = f"""
        import os, signal
        from pathlib import Path
        import srtoolbox.media.video_join as join
        import srtoolbox.media.video_segments as store
        import srtoolbox.media.video_transform as transform
        def die(*_):
            os.kill(os.getpid(), signal.SIGKILL)
        def on_call(number, function):
            calls = []
            def counted(*args):
                calls.append(args)
                return die() if len(calls) == number else function(*args)
            return counted
        def dying(function):
            def packets(*args):
                for number, packet in enumerate(function(*args)):
                    if number == 20:
                        die()
                    yield packet
            return packets
        remove = store.SegmentStore.remove_files
        {KILLS[moment]}
        transform.transform_video(Path({str(source)!r}), Path({str(target)!r}),
            lambda frames: (frame.pixels for frame in frames), segment_seconds=0.3)
    """
    with run(code) as process:
        assert process.wait(60) == -signal.SIGKILL
    assert target.exists() == (moment == "before the segments are removed")
    folder = tmp_path / ".c.mkv.segments"
    finished = len(list(folder.glob("[0-9]*.json")))
    assert finished == (0 if "has its" in moment and "segment" in moment else 4)
    transform_video(source, target, same, segment_seconds=0.3)
    assert whole_file(target) == whole_file(unbroken)
    assert target.read_bytes() == unbroken.read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.mkv", "b.mkv", "c.mkv"]


@pytest.mark.slow
def test_memory_is_flat(tmp_path: Path) -> None:
    """The largest memory of 900 frames is that of 150, within 10 %."""
    peaks = []
    for number in (150, 900):
        clip = Clip(frames=number, size=(96, 80), options={"preset": "ultrafast", "bf": "2"})
        clip.audio = "pcm_s16le"
        source = clip.make(tmp_path / f"a{number}.mkv")
        code = f"""
            import json, resource
            from pathlib import Path
            from srtoolbox.media.video_transform import transform_video
            def twice(frames):
                return (frame.pixels.repeat(2, 1).repeat(2, 2) for frame in frames)
            result = transform_video(Path({str(source)!r}), Path({str(tmp_path / "b.mkv")!r}),
                twice, preset="ultrafast", segment_seconds=2, context=2)
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            print(json.dumps([result.frames_out, peak]))
        """
        with run(code) as process:
            text, _ = process.communicate(timeout=100)
        frames, peak = json.loads(text)
        assert frames == number
        peaks.append(peak)
    assert peaks[1] < 1.1 * peaks[0]
    shutil.rmtree(tmp_path)
