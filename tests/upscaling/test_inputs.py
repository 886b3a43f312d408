from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image
from support.upscaling import save, texture

from srtoolbox.errors import UserError
from srtoolbox.upscaling.inputs import find_jobs, kind_of
from srtoolbox.upscaling.options import upscale_options


def jobs(*inputs: Path, output: Path | None = None, frames: bool = False, **options):
    return find_jobs(inputs, output, upscale_options(options), frames, "_x2")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with pictures, other files and a sub-folder, as the working folder's ``in``."""
    monkeypatch.chdir(tmp_path)
    for name in ("in/a.png", "in/B.JPG", "in/10.png", "in/9.png", "in/sub/a.png", "in/sub/c.webp"):
        save(Path(name), texture(8, 8))
    Path("in/notes.txt").write_text("")
    Path("in/.hidden.png").write_text("")
    return Path("in")


def test_results_of_a_folder(folder):
    found = jobs(folder)
    assert [job.source.name for job in found.jobs] == ["9.png", "10.png", "B.JPG", "a.png"]
    assert found.jobs[2].target == Path("in_x2/B.JPG").absolute()
    assert found.notes == ["in: left out: 1 .txt file, 1 sub-folder; -r uses sub-folders"]


def test_results_of_files(folder):
    found = jobs(folder / "a.png", folder / "B.JPG", folder / "a.png")
    assert [str(job.target) for job in found.jobs] == ["in/a_x2.png", "in/B_x2.JPG"]
    found = jobs(folder / "B.JPG", output=Path("out"), format="png", suffix="_big")
    assert str(found.jobs[0].target) == "out/B_big.png"
    found = jobs(folder / "B.JPG", output=Path("new/name.webp"))
    assert str(found.jobs[0].target) == "new/name.webp"


def test_the_parent_folder(folder, monkeypatch):
    target = folder.absolute().with_name("in_x2")
    monkeypatch.chdir(folder / "sub")
    assert jobs(Path("..")).jobs[0].target.parent == target
    assert jobs(Path(".."), burst=True).jobs[0].target == target.with_name("in_x2.png")


def test_impossible_outputs(folder):
    (folder / "notes").write_text("")
    with pytest.raises(UserError, match=r"-o in/notes: is a file, but no picture"):
        jobs(folder, output=folder / "notes")
    with pytest.raises(UserError, match=r"-o x\.png: does not fit --format jpg"):
        jobs(folder / "a.png", output=Path("x.png"), format="jpg")
    for name in ("x.gif", "x.jp2", "x.heic", "x.AVIF"):
        with pytest.raises(UserError, match=r"x\.\w+: pictures cannot be written as"):
            jobs(folder / "a.png", output=Path(name))
    with pytest.raises(UserError, match=r"in/a\.png: --burst takes folders"):
        jobs(folder / "a.png", burst=True)


def test_sub_folders(folder):
    with pytest.raises(UserError, match=r"out/a\.png: would be the result of in/a\.png and of in/"):
        jobs(folder, output=Path("out"), recursive=True)
    found = jobs(folder, output=Path("out"), recursive=True, keep_tree=True)
    assert Path("out/sub/c.webp") in {job.target for job in found.jobs}
    assert found.notes == ["in: left out: 1 .txt file"]


def test_the_folder_of_results_is_no_input(folder):
    save(folder / "out" / "a.png", texture(4, 4))
    found = jobs(folder, output=folder / "out", recursive=True, keep_tree=True)
    assert folder / "out" / "a.png" not in {job.source for job in found.jobs}


def test_earlier_results_are_no_inputs(folder):
    options = upscale_options({})
    found = find_jobs([folder], None, options, False, "_x2", written=[folder / "a.png"])
    assert folder / "a.png" not in {job.source for job in found.jobs}
    assert "1 result of this command" in found.notes[0]


def test_bursts_and_sequences(folder):
    found = jobs(folder, frames=True, burst=True, recursive=True)
    assert [(job.kind, job.target.name, len(job.files)) for job in found.jobs] == [
        ("burst", "in_x2.png", 4),
        ("burst", "sub_x2.png", 2),
    ]
    found = jobs(folder, output=Path("out"), frames=True)
    (job,) = found.jobs
    assert (job.kind, [path.name for path in job.files][:2]) == ("sequence", ["9.png", "10.png"])
    assert [str(path) for path in job.targets][-1] == "out/a.png"
    found = jobs(folder, output=Path("one.png"), burst=True)
    assert str(found.jobs[0].target) == "one.png"


def test_animations_are_no_frames_of_a_sequence(folder):
    frames = [Image.new("L", (8, 8), level) for level in (0, 90, 180)]
    frames[0].save(folder / "10.gif", save_all=True, append_images=frames[1:])
    found = jobs(folder, output=Path("out"), frames=True)
    assert [(job.kind, len(job.files)) for job in found.jobs] == [("sequence", 4), ("animation", 0)]


def test_faults(folder, tmp_path):
    with pytest.raises(UserError, match=r"nothing\.png: no such file or folder"):
        jobs(Path("nothing.png"))
    with pytest.raises(UserError, match=r"would replace the input in/a\.png; give another folder"):
        jobs(folder / "a.png", output=folder)
    with pytest.raises(UserError, match="is the name of one file, but there are 4 results"):
        jobs(folder, output=Path("out.png"))
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "x.txt").write_text("")
    with pytest.raises(UserError, match=r"no picture, video or animation found \(.*1 \.txt file"):
        jobs(tmp_path / "empty")
    save(Path("other/a.png"), texture(4, 4))
    with pytest.raises(UserError, match=r"a\.png: would be the result of in/a\.png and of other/a"):
        jobs(folder / "a.png", Path("other/a.png"), output=Path("out"))


@pytest.mark.parametrize("name", ["a %d #1.png", "-r.png", "ünï 日本.PNG", "a;b'c.png"])
def test_names(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    path = save(tmp_path / "in" / name, texture(5, 5))
    found = jobs(path, output=Path("out"))
    assert found.jobs[0].target == Path("out") / name


class TestKinds:
    def test_by_content(self, tmp_path):
        frames = [Image.fromarray(texture(5, 5).transpose(1, 2, 0) // (t + 1)) for t in range(3)]
        gif = tmp_path / "a.gif"
        frames[0].save(gif, save_all=True, append_images=frames[1:], duration=40)
        (tmp_path / "png").write_bytes(save(tmp_path / "b.png", texture(4, 4)).read_bytes())
        tifffile.imwrite(tmp_path / "c.tif", np.zeros((4, 4), np.uint8))
        tags = [(33550, "d", 3, (1.0, 1.0, 0.0)), (33922, "d", 6, (0.0,) * 6)]
        tifffile.imwrite(tmp_path / "map.tif", np.zeros((4, 4), np.uint8), extratags=tags)
        (tmp_path / "film.MKV").write_bytes(b"\x1aE\xdf\xa3")
        (tmp_path / "bad.png").write_bytes(b"")
        kinds = {path.name: kind_of(path) for path in tmp_path.iterdir()}
        assert kinds == {
            "a.gif": "animation",
            "b.png": "picture",
            "png": "picture",
            "c.tif": "picture",
            "map.tif": "map",
            "film.MKV": "video",
            "bad.png": "picture",
        }

    @pytest.mark.parametrize(
        ("name", "options", "expected"),
        [
            ("film.avi", {}, "film.mkv"),
            ("film.mp4", {}, "film.mp4"),
            ("film.webm", {}, "film.mkv"),
            ("film.MOV", {"container": "mkv"}, "film.mkv"),
            ("a.gif", {}, "a.gif"),
            ("a.gif", {"anim_format": "apng"}, "a.png"),
            ("a.gif", {"anim_format": "mp4"}, "a.mp4"),
            ("b.jp2", {}, "b.png"),
        ],
    )
    def test_suffixes_of_results(self, tmp_path, name, options, expected):
        path = tmp_path / name
        if name == "a.gif":
            frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "blue")]
            frames[0].save(path, save_all=True, append_images=frames[1:])
        else:
            path.write_bytes(b"content")
        assert jobs(path, output=tmp_path / "out", **options).jobs[0].target.name == expected
