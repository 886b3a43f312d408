"""`srtoolbox metrics`: pairing finished images with their truth, and scoring them."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image

from srtoolbox import cli
from srtoolbox.engine.evaluation.folders import (
    Limit,
    build_metrics,
    metric_specs,
    read_limit,
    score_folders,
)
from srtoolbox.engine.evaluation.pairs import pair_files
from srtoolbox.errors import RunError, UserError
from srtoolbox.metrics import CPSNR, LPIPS, NIQE, PSNR, SAM, TOF, get_protocol
from srtoolbox.registry import METRIC_REGISTRY


def _write(
    path: Path, seed: int = 0, height: int = 40, width: int = 48, grey: bool = False
) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    shape = (height, width) if grey else (height, width, 3)
    pixels = np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)
    Image.fromarray(pixels).save(path)


@pytest.fixture
def images(tmp_path: Path) -> tuple[Path, Path]:
    """Folders of two results and their ground truth."""
    for i, name in enumerate(("a", "b")):
        _write(tmp_path / "sr" / f"{name}.png", i)
        _write(tmp_path / "gt" / f"{name}.png", i + 10)
    return tmp_path / "sr", tmp_path / "gt"


@pytest.fixture
def clips(tmp_path: Path) -> tuple[Path, Path]:
    """Folders of two clips of 3 and 2 frames, the truth one level deeper."""
    for clip, number in (("city", 3), ("walk", 2)):
        for t in range(number):
            _write(tmp_path / "sr" / clip / f"{t:03}.png", t)
            _write(tmp_path / "gt" / clip / "GT" / f"{t:03}.png", t + 10)
    return tmp_path / "sr", tmp_path / "gt" / "{clip}" / "GT"


def _read(path: Path) -> torch.Tensor:
    return torch.from_numpy(np.array(Image.open(path))).permute(2, 0, 1).float() / 255


def _psnr(sr: Path, gt: Path, protocol: str, scale: int = 4) -> float:
    return PSNR()(_read(sr), _read(gt), protocol=get_protocol(protocol), scale=scale)


def test_published_images_as_basicsr(reference):
    """One frame of each clip of Vid4 by DUF-52L; BasicSR's values."""
    data = reference / "data"
    scored = score_folders(
        data / "DUF_results_x4/52L", data / "Vid4/{clip}/GT", protocol="duf-y", subset=True
    )
    goldens = {
        entry["clip"]: entry
        for entry in json.loads((reference / "goldens/metrics.json").read_text())["duf_vid4_x4"]
        if entry["model"] == "52L" and entry["index"] == 5
    }
    assert [record["key"] for record in scored.records] == [
        f"{clip}/005" for clip in ("calendar", "city", "foliage", "walk")
    ]
    for record in scored.records:
        golden = goldens[record["key"].partition("/")[0]]
        for name in ("psnr", "ssim"):
            assert record["metrics"][name] == pytest.approx(golden[f"{name}_y_crop8"], abs=1e-4)
    assert scored.mean["psnr"] == pytest.approx(
        np.mean([goldens[clip]["psnr_y_crop8"] for clip in scored.by_folder()]), abs=1e-4
    )


def test_images(images):
    sr, gt = images
    scored = score_folders(sr, gt, protocol="basicsr-y", metrics=["psnr"], scale=3)
    expected = {n: _psnr(sr / f"{n}.png", gt / f"{n}.png", "basicsr-y", 3) for n in "ab"}
    assert {record["key"]: record["metrics"]["psnr"] for record in scored.records} == expected
    assert scored.mean == {"psnr": pytest.approx(np.mean([*expected.values()]))}
    assert list(scored.by_folder()) == ["sr"]


def test_clips_are_averaged_as_the_protocol_says(clips):
    sr, gt = clips
    values = {
        (clip, t): _psnr(
            sr / clip / f"{t:03}.png", Path(str(gt).format(clip=clip)) / f"{t:03}.png", "jilin189"
        )
        for clip, t in (("city", 0), ("city", 1), ("city", 2), ("walk", 0), ("walk", 1))
    }
    by_clip = [
        np.mean([v for (c, _), v in values.items() if c == clip]) for clip in ("city", "walk")
    ]
    scored = score_folders(sr, gt, protocol="jilin189", metrics=["psnr"])
    assert scored.mean["psnr"] == pytest.approx(np.mean(by_clip), rel=1e-12)
    assert {clip: len(records) for clip, records in scored.by_folder().items()} == {
        "city": 3,
        "walk": 2,
    }


def test_metrics_of_clips(clips):
    sr, gt = clips
    scored = score_folders(sr, gt, protocol="rgb", metrics=["psnr", "tof", "TemporalPSNR"])
    assert [list(record["metrics"]) for record in scored.records] == [
        ["psnr", "tof", "TemporalPSNR"]
    ] * 5
    folders = scored.by_folder()
    for clip, records in folders.items():
        names = [f"{t:03}.png" for t in range(len(records))]
        results, truths = (
            [_read(folder / name) for name in names]
            for folder in (sr / clip, Path(str(gt).format(clip=clip)))
        )
        expected = TOF()(results, truths, protocol=get_protocol("rgb"), scale=4)
        assert {record["metrics"]["tof"] for record in records} == {expected}
    alone = score_folders(
        sr / "city", Path(str(gt).format(clip="city")), protocol="rgb", metrics=["tof"]
    )
    assert alone.mean["tof"] == folders["city"][0]["metrics"]["tof"]


def test_metrics_of_clips_need_neighbours(clips):
    sr, gt = clips
    (sr / "city" / "001.png").unlink()
    with pytest.raises(UserError, match=r"^city: tof compare.*city/000 and city/002"):
        score_folders(sr, gt, protocol="rgb", metrics=["tof"], subset=True)
    (sr / "city" / "000.png").unlink()
    with pytest.raises(UserError, match=r"^city: TOF: .*only one"):
        score_folders(sr, gt, protocol="rgb", metrics=["tof"], subset=True)


def test_every_fault_of_the_names_is_listed(clips):
    sr, gt = clips
    (sr / "city" / "001.png").unlink()
    _write(sr / "city" / "007.png")
    _write(sr / "walk" / "000.jpg")
    for t in range(20):
        _write(sr.parent / "gt" / "late" / "GT" / f"{t}.png")
    _write(sr.parent / "gt" / "walk" / "GT" / "002.png")
    with pytest.raises(UserError) as caught:
        score_folders(sr, gt, protocol="rgb")
    message = str(caught.value)
    assert "5 faults" in message.splitlines()[0]
    for part in (
        "GT/001.png: has no result '001'; --subset",
        "007.png: has no ground truth '007'",
        "000.jpg: has the same stem as 000.png",
        "GT: clip 'late' has no result; --subset",
        "GT/002.png: has no result '002'",
    ):
        assert part in message


def test_subset_and_template(images):
    sr, gt = images
    (sr / "a.png").rename(sr / "a_x4.png")
    (sr / "b.png").unlink()
    pairs = pair_files(sr, gt, template="{}_x4", subset=True)
    assert [(pair.key, pair.sr.name) for pair in pairs[""]] == [("a", "a_x4.png")]
    with pytest.raises(UserError, match=r"b\.png: has no result 'b_x4'"):
        pair_files(sr, gt, template="{}_x4")
    with pytest.raises(UserError, match=r"no images named \{\}_x2 here"):
        pair_files(sr, gt, template="{}_x2", subset=True)


@pytest.mark.parametrize("template", ["x4", "", "{}{}", "{}_{}", "{frame}_{}", "{clip}_{clip}_{}"])
def test_a_template_has_one_place_for_the_stem(images, capsys, template):
    arguments = ["metrics", *map(str, images), "--protocol", "rgb", "--template", template]
    assert cli.main(arguments) == 2
    error = capsys.readouterr().err
    assert f"template '{template}' must contain {{}} once" in error
    assert len(error.strip().splitlines()) == 1


def test_frames_that_the_protocol_skips_need_no_result(clips):
    sr, gt = clips
    (sr / "city" / "000.png").unlink()
    (sr / "walk" / "000.png").unlink()
    with pytest.raises(UserError, match="2 faults"):
        pair_files(sr, gt)
    clips = pair_files(sr, gt, skip_frames=1)
    assert {clip: [pair.key for pair in pairs] for clip, pairs in clips.items()} == {
        "city": ["city/001"]
    }


def test_a_truth_larger_by_less_than_the_scale_is_cut(images):
    sr, gt = images
    before = score_folders(sr, gt, protocol="rgb")
    pixels = np.array(Image.open(gt / "a.png"))
    Image.fromarray(np.pad(pixels, ((0, 3), (0, 1), (0, 0)))).save(gt / "a.png")
    assert score_folders(sr, gt, protocol="rgb").records == before.records
    with pytest.raises(UserError, match=r"a\.png: is 48×40, but .*a\.png is 49×43.*scale, 3"):
        score_folders(sr, gt, protocol="rgb", scale=3)


def test_faults_of_files(images):
    sr, gt = images
    (sr / "a.png").write_bytes(b"<html>")
    _write(sr / "b.png", grey=True)
    with pytest.raises(UserError, match=r"2 faults\n.*a\.png: .*\n.*b\.png: is grey, but .*RGB"):
        score_folders(sr, gt, protocol="rgb")
    _write(sr / "a.png", grey=True)
    _write(gt / "a.png", grey=True)
    _write(sr / "b.png", height=12, width=12)
    _write(gt / "b.png", height=12, width=12)
    with pytest.raises(UserError, match=r"^b: SSIM: needs 11×11"):
        score_folders(sr, gt, protocol="basicsr-y", scale=1)


def test_folders_of_two_kinds(images, clips):
    (sr, _), (_, gt) = images, clips
    with pytest.raises(UserError, match=r"sr has images, but .*GT has a folder for each clip"):
        pair_files(sr, gt)
    with pytest.raises(UserError, match="nowhere: no such folder"):
        pair_files(sr, sr / "nowhere")
    (sr.parent / "deep" / "city" / "GT").mkdir(parents=True)
    with pytest.raises(UserError, match=r"deep: no images here.*\{clip\}"):
        pair_files(sr, sr.parent / "deep")


def test_metrics_by_their_names():
    built = build_metrics(["psnr", "lpips:net=vgg,fetch=true"])
    assert isinstance(built["psnr"], PSNR)
    metric = built["lpips:net=vgg,fetch=true"]
    assert isinstance(metric, LPIPS)
    assert (metric.net, metric.fetch) == ("vgg", True)
    with pytest.raises(UserError, match="did you mean 'PSNR'"):
        build_metrics(["psnrr"])
    with pytest.raises(UserError, match="did you mean 'net'"):
        build_metrics(["lpips:nett=vgg"])


def test_an_unavailable_metric_fails_at_once(images, monkeypatch):
    monkeypatch.setattr(LPIPS, "available", lambda self: "no backbone")
    with pytest.raises(RunError, match="lpips: no backbone"):
        score_folders(*images, protocol="rgb", metrics=["psnr", "lpips"])


@pytest.mark.parametrize("mean", [30.0, 31.0, math.inf])
def test_limits_that_are_kept(mean):
    assert Limit("psnr", 30, below=True).failure(mean) is None
    assert Limit("lpips", 30, below=False).failure(60 - mean) is None


@pytest.mark.parametrize("mean", [29.9, math.nan])
def test_limits_that_are_not(mean):
    assert "below 30" in Limit("psnr", 30, below=True).failure(mean)
    assert "above 30" in Limit("lpips", 30, below=False).failure(60 - mean)


@pytest.mark.parametrize("text", ["psnr", "psnr=high", "30", "psnr=nan", "psnr=-NaN"])
def test_what_is_no_limit(text):
    with pytest.raises(UserError, match="METRIC=NUMBER"):
        read_limit(text, below=True)


def test_no_number_is_cut_in_a_narrow_terminal(images, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    metrics = ["psnr", "ssim", "tof", "warpingerror", "temporalpsnr", "sam", "ergas"]
    arguments = ["metrics", *map(str, images), "--protocol", "rgb", "--device", "cpu"]
    assert cli.main([*arguments, "--metrics", *metrics]) == 0
    printed = capsys.readouterr().out
    mean = score_folders(*images, protocol="rgb", metrics=metrics).mean
    for value in mean.values():
        assert f"{value:.4f}"[:6] in printed
    assert "…" not in "".join(line for line in printed.splitlines() if "sr │" in line)


def test_command(images, tmp_path, capsys):
    sr, gt = map(str, images)
    files = [f"--csv={tmp_path / 'x' / 'a.csv'}", f"--json={tmp_path / 'a.json'}"]
    arguments = ["metrics", sr, gt, "--protocol", "rgb", "--device", "cpu", *files]
    assert cli.main([*arguments, "--fail-below", "psnr=1", "--fail-above", "psnr=99"]) == 0
    printed = capsys.readouterr().out
    for part in ("PSNR [dB] ↑", "SSIM ↑", "sr", "f991c102aedc"):
        assert part in printed
    content = json.loads((tmp_path / "a.json").read_text())
    assert content["protocol"]["name"] == "rgb"
    with (tmp_path / "x" / "a.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["key"] for row in rows] == ["a", "b"]
    assert content["mean"]["psnr"] == pytest.approx(np.mean([float(row["psnr"]) for row in rows]))
    assert [image["metrics"]["ssim"] for image in content["images"]] == [
        float(row["ssim"]) for row in rows
    ]

    assert cli.main([*arguments, "--fail-below", "psnr=30", "ssim=2"][:-1]) == 1
    assert "below 30" in capsys.readouterr().err
    assert cli.main([*arguments, "--fail-below", "lpips=1"]) == 2
    assert "a limit is set on 'lpips', but the metrics are psnr, ssim" in capsys.readouterr().err
    (images[0] / "a.png").unlink()
    assert cli.main(arguments) == 2
    assert "a.png: has no result 'a'" in capsys.readouterr().err
    assert cli.main([*arguments, "--subset"]) == 0


def test_white_level(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The same content scores the same in 12 of 16 bits and in 16 bits."""
    rng = np.random.default_rng(0)
    for name in ("sr", "gt"):
        pixels = rng.integers(0, 4096, (40, 48), dtype=np.uint16)
        for bits, image in (("12", pixels), ("16", np.round(pixels / 4095 * 65535))):
            folder = tmp_path / bits / name
            folder.mkdir(parents=True)
            Image.fromarray(image.astype(np.uint16)).save(folder / "a.png")

    def psnr(bits: str, **options: int) -> float:
        folder = tmp_path / bits
        scores = score_folders(
            folder / "sr", folder / "gt", protocol="rgb", metrics=["psnr"], **options
        )
        if options:
            scores.write_json(tmp_path / "a.json")
            assert json.loads((tmp_path / "a.json").read_text())["white_level"] == 4095
        return scores.mean["psnr"]

    wanted = psnr("16")
    assert not caplog.records
    assert psnr("12") > wanted + 20
    assert "give --white-level 4095" in caplog.text
    caplog.clear()
    assert psnr("12", white_level=4095) == pytest.approx(wanted, abs=1e-3)
    assert not caplog.records


def test_white_level_on_the_command_line(tmp_path: Path, capsys) -> None:
    for name, value in (("sr", 0), ("gt", 4095)):
        (tmp_path / name).mkdir()
        Image.fromarray(np.full((20, 20), value, np.uint16)).save(tmp_path / name / "a.png")
    options = ["--protocol", "rgb", "--metrics", "psnr", "--white-level", "4095"]
    assert cli.main(["metrics", str(tmp_path / "sr"), str(tmp_path / "gt"), *options]) == 0
    text = capsys.readouterr().out
    assert "0.0000" in text
    assert "white level 4095" in text


def _deep(path: Path, largest: int) -> None:
    """Writes an image of 16 bits whose largest value is given."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.linspace(0, largest, 20 * 24).reshape(20, 24)
    Image.fromarray(np.round(pixels).astype(np.uint16)).save(path)


@pytest.mark.parametrize(
    ("sr", "gt", "parts"),
    [
        (4095, 4095, ("sr and ", "PSNR will be too high", "--white-level 4095")),
        (4095, 65535, ("sr: ", "PSNR will be wrong", "same range")),
        (65535, 4095, ("gt: ", "PSNR will be wrong", "same range")),
        (None, 4095, ("gt: ", "PSNR will be wrong", "--white-level 4095")),
        (1023, None, ("sr: ", "PSNR will be wrong", "--white-level 1023")),
    ],
)
def test_dark_files_on_either_side_are_named(tmp_path, caplog, sr, gt, parts):
    for name, largest in (("sr", sr), ("gt", gt)):
        if largest is None:
            _write(tmp_path / name / "a.png", 0, 20, 24, grey=True)
        else:
            _deep(tmp_path / name / "a.png", largest)
    score_folders(tmp_path / "sr", tmp_path / "gt", protocol="rgb", metrics=["psnr"])
    (record,) = caplog.records
    for part in parts:
        assert part in record.message
    assert ("too high" in record.message) == (sr == gt)


@pytest.mark.parametrize("side", ["sr", "gt", None])
def test_levels_that_no_file_uses(tmp_path, capsys, side):
    for name in ("sr", "gt"):
        if name == side:
            _deep(tmp_path / name / "a.png", 4095)
        else:
            _write(tmp_path / name / "a.png", 0, 20, 24, grey=True)
    file = tmp_path / "a.json"
    arguments = ["metrics", str(tmp_path / "sr"), str(tmp_path / "gt"), "--protocol", "rgb"]
    arguments += ["--metrics", "psnr", "--json", str(file)]
    assert cli.main([*arguments, "--white-level", "4095"]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    unused = "note: no 16-bit files: white level not used"
    assert (unused in printed) == (side is None)
    assert ("white level 4095" in printed) == ("white_level" in file.read_text()) == bool(side)
    assert cli.main([*arguments, "--black-level", "64"]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert ("note: no 16-bit files: black level not used" in printed) == (side is None)
    assert cli.main(arguments) == 0
    assert "not used" not in capsys.readouterr().out


def test_temporal_metrics_of_one_folder_say_that_it_is_one_clip(images, clips, capsys):
    arguments = ["--protocol", "rgb", "--device", "cpu", "--metrics", "psnr"]
    note = "note: temporalpsnr: the 2 images of sr were scored as the frames of one clip"
    assert cli.main(["metrics", *map(str, images), *arguments, "temporalpsnr"]) == 0
    assert note in " ".join(capsys.readouterr().out.split())
    assert cli.main(["metrics", *map(str, images), *arguments]) == 0
    assert "one clip" not in capsys.readouterr().out
    for path in images[0].glob("*.png"):
        path.unlink()
    assert cli.main(["metrics", *map(str, clips), *arguments, "temporalpsnr"]) == 0
    assert "one clip" not in capsys.readouterr().out


@pytest.mark.parametrize("option", ["--csv", "--json"])
def test_scores_overwrite_no_other_file(images, tmp_path, capsys, option):
    sr, gt = images
    (sr / "notes.csv").write_text("mine")
    (gt / "deep").mkdir()
    (gt / "deep" / "old.json").write_text("mine")
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "picture.csv").write_bytes((sr / "a.png").read_bytes())
    (tmp_path / "old.csv").write_text("key,psnr\n")
    (tmp_path / "link").symlink_to(sr)
    arguments = ["metrics", str(sr), str(gt), "--protocol", "rgb", "--metrics", "psnr", option]
    for file in (
        sr / "a.png", gt / "b.png", sr / "notes.csv", gt / "deep" / "old.json",
        tmp_path / "notes.txt", tmp_path / "picture.csv", tmp_path / "link" / "notes.csv",
    ):  # fmt: skip
        before = file.read_bytes()
        assert cli.main([*arguments, str(file)]) == 2
        error = capsys.readouterr().err.strip()
        assert f"{option} {file}: " in error and "not overwritten" in error
        assert len(error.splitlines()) == 1
        assert file.read_bytes() == before
    for file in (tmp_path / "old.csv", tmp_path / "new.txt", sr / "new.csv"):
        assert cli.main([*arguments, str(file)]) == 0


@pytest.mark.parametrize("where", [".", "city"])
def test_files_of_formats_that_are_not_read_are_counted(images, tmp_path, capsys, where):
    folder = tmp_path / "gifs" / where
    folder.mkdir(parents=True)
    for name in ("a.gif", "b.gif", "c.heic"):
        (folder / name).write_bytes(b"x")
    for pair in ((images[0], tmp_path / "gifs"), (tmp_path / "gifs", images[1])):
        assert cli.main(["metrics", *map(str, pair), "--protocol", "rgb"]) == 2
        error = " ".join(capsys.readouterr().err.split())
        assert "gifs: no images here" in error
        assert "left out: 2 .gif files ('a.gif', …), 1 .heic file ('c.heic')" in error


def test_a_palette_is_answered_with_the_option_of_the_command(images, capsys):
    Image.open(images[0] / "a.png").convert("P").save(images[0] / "a.png")
    arguments = ["metrics", *map(str, images), "--protocol", "rgb", "--metrics", "psnr"]
    assert cli.main(arguments) == 2
    assert "--convert rgb" in " ".join(capsys.readouterr().err.split())
    assert cli.main([*arguments, "--convert", "rgb"]) == 0


def test_an_infinite_error_makes_the_mean_infinite(images, tmp_path, capsys):
    for folder in images:
        Image.new("RGB", (48, 40)).save(folder / "c.png")
    Image.new("RGB", (48, 40), (9, 9, 9)).save(images[0] / "c.png")
    arguments = ["metrics", *map(str, images), "--protocol", "rgb", "--metrics", "ergas"]
    assert cli.main([*arguments, "--fail-above", "ergas=1e9"]) == 1
    printed = " ".join(capsys.readouterr().out.split())
    assert "ergas: 1 of 3 images are infinite (c); the mean is infinite" in printed
    assert "inf │" in printed


def _bands(folder: Path, pixels: np.ndarray, name: str = "a.tif", **options) -> None:
    """Writes (C, H, W) as a TIFF."""
    folder.mkdir(parents=True, exist_ok=True)
    options = {"planarconfig": "separate", **options} if len(pixels) > 1 else options
    tifffile.imwrite(folder / name, pixels, photometric="minisblack", **options)


@pytest.fixture
def four_bands(tmp_path: Path) -> tuple[Path, Path, np.ndarray, np.ndarray]:
    """Folders with a result and its ground truth of four bands of 12 bits, and their pixels."""
    rng = np.random.default_rng(0)
    gt = rng.integers(0, 4096, (4, 40, 48), dtype=np.uint16)
    sr = (gt + rng.integers(-90, 90, gt.shape)).clip(0, 4095).astype(np.uint16)
    for name, pixels in (("sr", sr), ("gt", gt)):
        _bands(tmp_path / name, pixels)
    return tmp_path / "sr", tmp_path / "gt", sr, gt


def _score(sr: np.ndarray, gt: np.ndarray, metric, protocol: str = "bands", mask=None) -> float:
    images = (torch.from_numpy(pixels / np.float32(4095)) for pixels in (sr, gt))
    mask = None if mask is None else torch.from_numpy(mask)
    return metric(*images, protocol=get_protocol(protocol), scale=4, mask=mask)


def test_any_number_of_bands(four_bands):
    sr, gt, x, y = four_bands
    metrics = ["psnr", "ssim", "sam", "ergas", "uiqi", "cpsnr"]
    options = {"metrics": metrics, "white_level": 4095}
    mean = score_folders(sr, gt, protocol="bands", **options).mean
    for name in metrics:
        metric = METRIC_REGISTRY.get(name.upper())()
        assert mean[name] == pytest.approx(_score(x, y, metric), rel=1e-6)
    chosen = score_folders(sr, gt, protocol="bands", bands=[4, 2], **options)
    assert chosen.mean["sam"] == pytest.approx(_score(x[[3, 1]], y[[3, 1]], SAM()), rel=1e-6)
    rgb = score_folders(sr, gt, protocol="rgb", bands=[3, 2, 1], **options).mean
    assert rgb["psnr"] == pytest.approx(_score(x[2::-1], y[2::-1], PSNR(), "rgb"), rel=1e-6)
    four = score_folders(sr, gt, protocol="bands", metrics=["psnr:bands=[4]"], white_level=4095)
    assert four.mean["psnr:bands=[4]"] == pytest.approx(_score(x[3:], y[3:], PSNR()), rel=1e-6)


def test_bands_of_the_truth_alone(four_bands):
    sr, gt, x, y = four_bands
    _bands(sr, x[[3, 0]])
    with pytest.raises(UserError, match=r"a\.tif: is 2 bands, but .* is 4 bands; choose .*--bands"):
        score_folders(sr, gt, protocol="bands")
    scores = score_folders(sr, gt, protocol="bands", bands_gt=[4, 1], white_level=4095)
    assert scores.mean["psnr"] == pytest.approx(_score(x[[3, 0]], y[[3, 0]], PSNR()), rel=1e-6)
    with pytest.raises(UserError, match=r"a\.tif: .*3"):
        score_folders(sr, gt, protocol="bands", bands=[3])


def test_bands_that_a_protocol_does_not_score(four_bands):
    sr, gt, *_ = four_bands
    with pytest.raises(UserError, match=r"sr/a\.tif: 4 channels; expected 1 .grey. or 3") as error:
        score_folders(sr, gt, protocol="rgb")
    assert "--protocol bands scores all bands, --bands 3 2 1 three of them" in str(error.value)
    assert "prepare" not in str(error.value)
    with pytest.raises(UserError, match=r"gt: psnr: protocol 'rgb' scores .* not 2 bands"):
        score_folders(sr, gt, protocol="rgb", bands=[1, 2], metrics=["psnr"])


def test_a_level_for_each_band(four_bands):
    sr, gt, x, y = four_bands
    white, black = np.array([4095, 3000, 4000.5, 2000]), np.array([0, 100, 0, 64])
    images = (
        torch.from_numpy((pixels - black[:, None, None]) / (white - black)[:, None, None])
        for pixels in (x, y)
    )
    expected = PSNR()(*images, protocol=get_protocol("bands"), scale=4)
    levels = {"white_level": white.tolist(), "black_level": black.tolist()}
    scores = score_folders(sr, gt, protocol="bands", metrics=["psnr"], **levels)
    assert scores.mean["psnr"] == pytest.approx(expected, rel=1e-6)
    with pytest.raises(UserError, match="2 numbers for 4 bands"):
        score_folders(sr, gt, protocol="bands", metrics=["psnr"], white_level=[4095, 4095])


def test_twelve_bits_score_as_eight(tmp_path):
    """The same content in 8 bits and in 12 of 16 bits has the same scores to the last bit."""
    rng = np.random.default_rng(0)
    for name in ("sr", "gt"):
        pixels = rng.integers(0, 256, (3, 40, 48), dtype=np.uint8)
        for bits, image in (("8", pixels), ("12", np.round(pixels / 255 * 4095))):
            folder = tmp_path / bits / name
            folder.mkdir(parents=True)
            image = image.astype(np.uint8 if bits == "8" else np.uint16)
            tifffile.imwrite(folder / "a.tif", image.transpose(1, 2, 0), photometric="rgb")
    for protocol in ("rgb", "basicsr-y", "matlab-y"):
        eight, twelve = (
            score_folders(
                *(tmp_path / bits / name for name in ("sr", "gt")),
                protocol=protocol,
                metrics=["psnr", "ssim", "sam", "ergas", "uiqi"],
                **options,
            ).records
            for bits, options in (("8", {}), ("12", {"white_level": 4095}))
        )
        assert eight == twelve


def test_floats_with_levels(tmp_path):
    rng = np.random.default_rng(0)
    gt = rng.integers(0, 4096, (4, 40, 48)).astype(np.float32)
    sr = gt + rng.integers(-90, 90, gt.shape).astype(np.float32)
    for name, pixels in (("sr", sr), ("gt", gt)):
        _bands(tmp_path / name, pixels)
    folders = tmp_path / "sr", tmp_path / "gt"
    options = {"protocol": "bands", "metrics": ["psnr"], "white_level": 4095}
    scores = score_folders(*folders, scale_floats=True, **options)
    assert scores.mean["psnr"] == pytest.approx(_score(sr, gt, PSNR()), rel=1e-6)
    with pytest.raises(UserError, match=r"float pixels from .*; expected 0 to 1"):
        score_folders(*folders, **options)


def test_missing_pixels_are_not_scored(four_bands):
    sr, gt, x, y = four_bands
    valid = np.ones((1, 40, 48), bool)
    valid[:, 9:20, 5:30] = False
    y = np.where(valid, y, 0)
    y[valid[0][None].repeat(4, 0) & (y == 0)] = 1
    _bands(gt, y)
    options = {"protocol": "bands", "metrics": ["psnr", "ssim", "uiqi"], "white_level": 4095}
    scores = score_folders(sr, gt, nodata=0, **options)
    expected = _score(x, np.where(valid, y, 7), PSNR(), mask=valid)
    assert scores.mean["psnr"] == pytest.approx(expected, rel=1e-6)
    assert scores.notes[0] == "14.3% of the ground truth is missing or masked and was not scored"
    rng = np.random.default_rng(1)
    _bands(sr, np.where(valid, x, rng.integers(1, 4096, x.shape)).astype(np.uint16))
    assert score_folders(sr, gt, nodata=0, **options).records == scores.records
    tag = [(42113, "s", 2, "0", False)]  # GDAL_NODATA
    _bands(gt, y, extratags=tag)
    assert score_folders(sr, gt, **options).records == scores.records
    x[:, 30, 7:9] = 0
    _bands(sr, x, extratags=tag)
    assert "results lack " in score_folders(sr, gt, **options).notes[-1]


def test_masks(four_bands, tmp_path):
    sr, gt, x, y = four_bands
    valid = np.ones((1, 40, 48), bool)
    valid[:, 9:20, 5:30] = False
    folder = tmp_path / "masks"
    with pytest.raises(UserError, match="masks: no such folder"):
        score_folders(sr, gt, protocol="bands", mask=folder)
    folder.mkdir()
    Image.fromarray(valid[0].astype(np.uint8) * 255).save(folder / "a.png")
    options = {"protocol": "bands", "metrics": ["psnr"], "white_level": 4095, "mask": folder}
    scores = score_folders(sr, gt, **options)
    assert scores.mean["psnr"] == pytest.approx(_score(x, y, PSNR(), mask=valid), rel=1e-6)
    scores.write_json(tmp_path / "a.json")
    assert json.loads((tmp_path / "a.json").read_text())["mask"] == str(folder)
    Image.fromarray(np.zeros((40, 48), np.uint8)).save(folder / "a.png")
    with pytest.raises(RunError, match=r"^a: PSNR: the mask leaves no pixel to score"):
        score_folders(sr, gt, **options)
    Image.fromarray(np.zeros((40, 47), np.uint8)).save(folder / "a.png")
    with pytest.raises(UserError, match=r"masks/a\.png: is 47×40, but .*gt/a\.tif is 48×40"):
        score_folders(sr, gt, **options)
    (folder / "a.png").rename(folder / "b.png")
    with pytest.raises(UserError, match=r"gt/a\.tif: has no mask in .*masks"):
        score_folders(sr, gt, **options)


def test_masks_of_clips(clips, tmp_path):
    sr, gt = clips
    for clip, number in (("city", 3), ("walk", 2)):
        for t in range(number):
            mask = np.ones((40, 48), np.uint8)
            mask[:, 20:] = 0
            (tmp_path / "masks" / clip).mkdir(parents=True, exist_ok=True)
            Image.fromarray(mask).save(tmp_path / "masks" / clip / f"{t:03}.png")
            file = sr / clip / f"{t:03}.png"
            truth = np.array(Image.open(Path(str(gt).format(clip=clip)) / f"{t:03}.png"))
            truth[:, 20:] = 0
            Image.fromarray(truth).save(file)
    options = {"protocol": "rgb", "metrics": ["psnr", "TemporalPSNR"]}
    mean = score_folders(sr, gt, mask=tmp_path / "masks", **options).mean
    assert list(mean.values()) == [math.inf, math.inf]
    assert math.isfinite(score_folders(sr, gt, **options).mean["psnr"])


def test_the_note_on_missing_values_that_files_state(four_bands, capsys):
    sr, gt, _, y = four_bands
    planes = np.ascontiguousarray(y.transpose(1, 2, 0))
    tag = (42113, "s", 0, "7", True)  # how GDAL states the value of missing pixels
    form = {"photometric": "minisblack", "planarconfig": "contig", "extratags": (tag,)}
    tifffile.imwrite(gt / "a.tif", planes, **form)
    assert cli.main(["metrics", str(sr), str(gt), "--protocol", "bands", "--device", "cpu"]) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "Files: pixels with the nodata value that they state are not scored." in text


def test_metrics_that_need_lr_are_refused(images):
    with pytest.raises(UserError, match="Omission: needs the LR image"):
        score_folders(*images, protocol="rgb", metrics=["omission"])


def test_levels_of_floats_are_named(tmp_path, capsys):
    for name in ("sr", "gt"):
        (tmp_path / name).mkdir()
        np.save(tmp_path / name / "a.npy", np.full((20, 24), 0.5, np.float32))
    arguments = ["metrics", str(tmp_path / "sr"), str(tmp_path / "gt"), "--protocol", "rgb"]
    cli.main([*arguments, "--metrics", "psnr", "--white-level", "4095", "--device", "cpu"])
    printed = " ".join(capsys.readouterr().out.split())
    assert "white level not used; --scale-floats applies it to float files" in printed


def test_bands_on_the_command_line(four_bands, tmp_path, capsys):
    sr, gt, x, y = four_bands
    file, norm = tmp_path / "a.json", tmp_path / "norm.csv"
    norm.write_text("a 40\n")
    arguments = ["metrics", str(sr), str(gt), "--protocol", "probav", "--device", "cpu"]
    arguments += ["--metrics", "psnr", f"probavscore:norm={norm}", "--bands", "4", "1"]
    arguments += ["--white-level", "4095,4095", "--nodata", "9999", "--json", str(file)]
    assert cli.main(arguments) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "Files: bands [4, 1], nodata 9999.0. 16-bit files: white level [4095, 4095]" in text
    content = json.loads(file.read_text())
    assert (content["bands"], content["nodata"], "mask" in content) == ([4, 1], 9999, False)
    expected = _score(x[[3, 0]], y[[3, 0]], PSNR(), "probav")
    assert content["mean"]["psnr"] == pytest.approx(expected, rel=1e-6)
    cpsnr = _score(x[[3, 0]], y[[3, 0]], CPSNR(), "probav")
    assert content["mean"][f"probavscore:norm={norm}"] == pytest.approx(40 / cpsnr, rel=1e-6)
    assert cli.main([*arguments, "--bands", "1", "1"]) == 2
    assert "bands: [1, 1]; expected different numbers" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        cli.main([*arguments, "--white-level", "4095;1"])
    assert "expected a number, or one for each band" in capsys.readouterr().err


@pytest.fixture
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of two clips without a ground truth."""
    monkeypatch.delenv("SRTOOLBOX_NIQE_MODEL", raising=False)
    for clip, number in (("city", 2), ("walk", 1)):
        for t in range(number):
            _write(tmp_path / "sr" / clip / f"{t}.png", t + number, 100, 200)
    return tmp_path / "sr"


def test_without_ground_truth(alone: Path, tmp_path: Path) -> None:
    scores = score_folders(alone, protocol="rgb", metrics=["niqe"])
    assert [record["key"] for record in scores.records] == ["city/0", "city/1", "walk/0"]
    for record in scores.records:
        image = _read(alone / f"{record['key']}.png")
        expected = NIQE()(image, protocol=get_protocol("rgb"), scale=4)
        assert record["metrics"] == {"niqe": expected}
    assert scores.notes[-1].startswith("niqe uses srtoolbox's own model (SHA-256 ")
    scores.write_json(tmp_path / "scores.json")
    content = json.loads((tmp_path / "scores.json").read_text())
    assert content["sources"]["niqe"]["content"] == NIQE().model.content
    with_truth = score_folders(alone, alone, protocol="rgb", metrics=["niqe", "psnr"])
    assert [r["metrics"]["niqe"] for r in with_truth.records] == [
        r["metrics"]["niqe"] for r in scores.records
    ]


def test_what_needs_a_ground_truth(alone: Path) -> None:
    with pytest.raises(UserError, match=r"sr: psnr, ssim need the ground truth: give its folder"):
        score_folders(alone, protocol="rgb")
    with pytest.raises(UserError, match=r"sr: tof needs the ground truth"):
        score_folders(alone, protocol="rgb", metrics=["niqe", "tof"])
    with pytest.raises(UserError, match="template, subset, bands_gt: for a ground truth, but"):
        score_folders(
            alone, protocol="rgb", metrics=["niqe"], template="{}_x4", subset=True, bands_gt=[1]
        )


def test_missing_pixels_without_ground_truth(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(1, 256, (192, 300), dtype=np.uint8)
    pixels[2:4, 290:294] = 0
    (tmp_path / "sr").mkdir()
    Image.fromarray(pixels).save(tmp_path / "sr" / "a.png")
    whole = score_folders(tmp_path / "sr", protocol="rgb", metrics=["niqe"])
    scores = score_folders(tmp_path / "sr", protocol="rgb", metrics=["niqe"], nodata=0)
    assert scores.mean == whole.mean  # they are beyond the last whole block
    assert "less than 0.1% of the images is missing or masked and was not scored" in scores.notes


def test_dark_files_without_ground_truth(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "sr").mkdir()
    pixels = np.random.default_rng(0).integers(0, 4000, (100, 200), dtype=np.uint16)
    Image.fromarray(pixels).save(tmp_path / "sr" / "a.png")
    score_folders(tmp_path / "sr", protocol="rgb", metrics=["niqe"])
    (message,) = caplog.messages
    assert message.startswith(f"{tmp_path / 'sr'}: uint16 pixels of at most ")
    assert "scores will be wrong" in message and "--white-level 4095" in message


def test_texts_of_metrics() -> None:
    specs = metric_specs(["psnr,lpips:net=vgg,fetch=true", "ssim:bands=[3,2]", "niqe,pyiqa:musiq"])
    assert specs == {
        "psnr": {"type": "PSNR"},
        "lpips:net=vgg,fetch=true": {"type": "LPIPS", "net": "vgg", "fetch": True},
        "ssim:bands=[3,2]": {"type": "SSIM", "bands": [3, 2]},
        "niqe": {"type": "NIQE"},
        "pyiqa:musiq": {"type": "pyiqa", "name": "musiq"},
    }


def test_command_without_ground_truth(alone: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["metrics", str(alone), "--metrics", "niqe"]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "NIQE (srtoolbox" in out and "Protocol rgb v1" in out
    assert "note: niqe uses srtoolbox's own model" in out
    assert cli.main(["metrics", str(alone)]) == 2
    assert "psnr, ssim need the ground truth" in capsys.readouterr().err
    assert cli.main(["metrics", str(alone), str(alone)]) == 2
    assert "--protocol is missing" in capsys.readouterr().err
