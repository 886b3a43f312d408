"""LMDB folders and HDF5 files: the samples of the folders they were made from, and their faults."""

from __future__ import annotations

import builtins
import os
import pickle
import shutil
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from support.images import assert_same, picture, save
from torch.utils.data import DataLoader

from srtoolbox.data.datasets.clips import Clips
from srtoolbox.data.datasets.paired_images import PairedImages
from srtoolbox.data.files.archives import file_state, is_folder, open_encoded
from srtoolbox.data.files.reader import image_info, read_image
from srtoolbox.data.prepare.dataset import prepare
from srtoolbox.data.prepare.examine import examine
from srtoolbox.errors import UserError

lmdb = pytest.importorskip("lmdb")
h5py = pytest.importorskip("h5py")

from support.archives import write_hdf5, write_lmdb  # noqa: E402 (needs both packages)

SIZES: dict[str, Any] = {"scale": 2, "gt_size": 8}


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    """Twelve pairs, one grey and one of 16 bits for the evaluation, as folders and archives."""
    for number in range(12):
        kind: Any = np.uint16 if number == 11 else np.uint8
        image = picture(24, 32, number, kind)
        image = image[..., 0] if number == 10 else image
        save(tmp_path / "gt" / f"{number:04d}_s001.png", image)
        save(tmp_path / "lq" / f"{number:04d}_s001.png", image[::2, ::2])
    for side in ("gt", "lq"):
        write_lmdb(tmp_path / side, tmp_path / f"{side}.lmdb")
    write_hdf5({"HR": tmp_path / "gt", "X2": tmp_path / "lq"}, tmp_path / "set.h5")
    return tmp_path


@pytest.fixture
def clips(tmp_path: Path) -> Path:
    for clip in range(2):
        for frame in range(7):
            name, seed = f"{clip:03d}/{frame:08d}.png", 10 * clip + frame
            save(tmp_path / "train_sharp" / name, picture(16, 24, seed))
            save(tmp_path / "lr" / name, picture(8, 12, 100 + seed))
    return tmp_path


def paired(root: Path, gt: str, lq: str, **more: Any) -> PairedImages:
    return PairedImages(dataroot_gt=str(root / gt), dataroot_lq=str(root / lq), **SIZES, **more)


def clips_of(root: Path, gt: str, lq: str, **more: Any) -> Clips:
    roots = {"dataroot": str(root / gt), "dataroot_lq": str(root / lq)}
    return Clips(**{**roots, **SIZES, "num_frame": 3, **more})


def draws(dataset: Any, count: int = 24) -> list[dict]:
    return [
        dataset.draw(seed % dataset.num_source, np.random.default_rng(seed))
        for seed in range(count)
    ]


def whole(dataset: Any) -> list[dict]:
    return [dataset[index] for index in range(len(dataset))]


def without_keys(samples: list[dict]) -> list[dict]:
    return [{**sample, "key": ""} for sample in samples]


@pytest.mark.parametrize("cache", [False, True])
def test_samples_of_an_lmdb_are_those_of_the_folder(pairs: Path, cache: bool) -> None:
    more = {"cache": str(pairs / "cache")} if cache else {}
    ours, theirs = paired(pairs, "gt.lmdb", "lq.lmdb", **more), paired(pairs, "gt", "lq")
    assert_same(whole(ours), whole(theirs))
    assert_same(draws(ours), draws(theirs))


@pytest.mark.parametrize("cache", [False, True])
def test_samples_of_an_hdf5_file_are_those_of_the_folder(pairs: Path, cache: bool) -> None:
    more = {"cache": str(pairs / "cache")} if cache else {}
    theirs = paired(pairs, "gt", "lq")
    for ours in (
        PairedImages(dataroot=str(pairs / "set.h5"), **SIZES, **more),
        paired(pairs, "set.h5/HR", "set.h5/X2", **more),
    ):
        assert [sample["key"] for sample in whole(ours)] == [str(n) for n in range(12)]
        assert_same(without_keys(whole(ours)), without_keys(whole(theirs)))
        assert_same(without_keys(draws(ours)), without_keys(draws(theirs)))


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="Windows has no fork")
@pytest.mark.parametrize("name", ["gt.lmdb", "set.h5/HR"])
def test_forked_workers_read_archives(pairs: Path, name: str) -> None:
    dataset = PairedImages(dataroot_gt=str(pairs / name), **SIZES)
    loader = DataLoader(dataset, batch_size=None, num_workers=2, multiprocessing_context="fork")
    for found, expected in zip(loader, whole(dataset), strict=True):
        assert np.array_equal(np.asarray(found["gt"]), expected["gt"])
    copy = pickle.loads(pickle.dumps(dataset))  # as for workers that are spawned
    assert_same(whole(copy), whole(dataset))


def test_clips_of_an_lmdb_are_those_of_the_folder(clips: Path) -> None:
    for side in ("train_sharp", "lr"):
        write_lmdb(clips / side, clips / f"{side}.lmdb")
        write_lmdb(clips / side, clips / "flat" / f"{side}.lmdb", lambda k: k.replace("/", "_"))
    theirs = clips_of(clips, "train_sharp", "lr")
    for prefix in ("", "flat/"):
        ours = clips_of(clips, f"{prefix}train_sharp.lmdb", f"{prefix}lr.lmdb")
        assert_same(whole(ours), whole(theirs))
        assert_same(draws(ours), draws(theirs))


def test_reds_leaves_out_its_test_clips_in_an_lmdb(clips: Path) -> None:
    write_lmdb(clips / "train_sharp", clips / "train_sharp_with_val.lmdb")
    given = {"dataroot": str(clips / "train_sharp_with_val.lmdb"), "num_frame": 3}
    train = Clips(layout="reds", split="train", scale=4, gt_size=8, **given)
    assert {key.split("/")[0] for key in train.clip_names} == {"001"}
    test = Clips(layout="reds", split="test", scale=4, gt_size=8, **given)
    assert {key.split("/")[0] for key in test.clip_names} == {"000"}


@pytest.mark.parametrize("key", ["{}/{}/im{}", "{}_{}_{}"])
def test_vimeo_with_the_middle_frame_alone(tmp_path: Path, key: str) -> None:
    for frame in range(1, 8):
        name = f"00001/0001/im{frame}.png"
        save(tmp_path / "lr" / name, picture(8, 12, frame))
        if frame == 4:
            save(tmp_path / "gt" / name, picture(16, 24, frame))

    def of_path(path: str) -> str:
        return key.format(*path.replace("im", "").split("/"))

    for side in ("gt", "lr"):
        write_lmdb(tmp_path / side, tmp_path / f"{side}.lmdb", of_path)
    for gt, lr in (("gt.lmdb", "lr.lmdb"), ("gt", "lr")):
        (sample,) = whole(clips_of(tmp_path, gt, lr, num_frame=7, recursive=True))
        assert sample["key"] == "00001/0001/im4"
        assert np.array_equal(sample["gt"], picture(16, 24, 4).transpose(2, 0, 1))
        assert np.array_equal(sample["lq"][6], picture(8, 12, 7).transpose(2, 0, 1))


def test_a_lone_frame_that_is_not_the_middle_is_a_fault(clips: Path) -> None:
    for frame in (0, 1, 2, 4, 5, 6):
        (clips / "train_sharp" / "001" / f"{frame:08d}.png").unlink()
    folder = clips / "train_sharp" / "001"
    (folder / "00000003.png").rename(folder / "00000002.png")
    with pytest.raises(UserError, match=r"clip 001 lacks HR frame"):
        clips_of(clips, "train_sharp", "lr")


@pytest.mark.slow
def test_keys_without_meta_info(pairs: Path) -> None:
    for side in ("gt", "lq"):
        (pairs / f"{side}.lmdb" / "meta_info.txt").unlink()
    ours, theirs = paired(pairs, "gt.lmdb", "lq.lmdb"), paired(pairs, "gt", "lq")
    assert_same(whole(ours), whole(theirs))


def test_meta_info_file_chooses_images(pairs: Path) -> None:
    names = pairs / "meta_info_mine.txt"
    names.write_text("0003_s001.png (24,32,3)\n0001_s001.png (24,32,3)\n")
    for gt, lq in (("gt", "lq"), ("gt.lmdb", "lq.lmdb")):
        dataset = paired(pairs, gt, lq, meta_info_file=str(names))
        assert [sample["key"] for sample in whole(dataset)] == ["0001_s001", "0003_s001"]
    names.write_text("0003_s001.png (24,32,3)\n9999.png (24,32,3)\n")
    with pytest.raises(UserError, match=r"mine.txt: 1 of the 2 items that it names do not.* 9999"):
        paired(pairs, "gt", "lq", meta_info_file=str(names))
    names.write_text("\n")
    with pytest.raises(UserError, match=r"mine.txt: names no images"):
        paired(pairs, "gt", "lq", meta_info_file=str(names))
    with pytest.raises(UserError, match=r"meta_info_file: nowhere.txt: no such file"):
        paired(pairs, "gt", "lq", meta_info_file="nowhere.txt")


def test_meta_info_file_chooses_clips(clips: Path) -> None:
    names = clips / "meta.txt"
    names.write_text("001 7 (16,24,3)\n")
    dataset = clips_of(clips, "train_sharp", "lr", meta_info_file=str(names))
    assert {key.split("/")[0] for key in dataset.clip_names} == {"001"}


def test_checks_of_prepare_and_doctor_read_archives(pairs: Path) -> None:
    for number in (10, 11):  # a training needs images of one bit depth
        for side in ("gt", "lq"):
            (pairs / side / f"{number:04d}_s001.png").unlink()
            shutil.rmtree(pairs / f"{side}.lmdb", ignore_errors=True)
    for side in ("gt", "lq"):
        write_lmdb(pairs / side, pairs / f"{side}.lmdb")
    write_hdf5({"HR": pairs / "gt", "X2": pairs / "lq"}, pairs / "set.h5")
    for name, frames in (("gt.lmdb", "made when read"), ("set.h5", "")):
        prepared = prepare("folder", pairs / name, scale=2, cache=pairs / f"cache_{name}")
        assert [len(part.items) for part in prepared.parts] == [10]
        assert (not prepared.parts[0].lq) == bool(frames)
        assert list((pairs / f"cache_{name}").glob("pixels-*/pixels.bin"))
    roots = {"dataroot_gt": str(pairs / "gt.lmdb"), "dataroot_lq": str(pairs / "lq.lmdb")}
    spec = {"type": "PairedImages", **roots, "gt_size": 8}
    examined = examine(spec, 2, training=True)
    assert examined is not None and len(examined.items) == 10 and not examined.faults


def test_lr_files_are_not_written_into_an_archive(pairs: Path) -> None:
    for name in ("gt.lmdb", "set.h5"):
        with pytest.raises(UserError, match=rf"{name}: --make-lr writes no files into an archive"):
            prepare("folder", pairs / name, scale=4, make_lr=True, cache=None)
    prepared = prepare(
        "folder", pairs / "gt.lmdb", scale=4, make_lr=True, cache=None, out=pairs / "made"
    )
    assert prepared.parts[0].made == 12
    made, expected = (
        PairedImages(dataroot_gt=str(pairs / "gt.lmdb"), scale=4, gt_size=8, **more)
        for more in ({"dataroot_lq": str(pairs / "made")}, {})
    )
    assert_same(whole(made), whole(expected))


def change_value(folder: Path, key: str, value: bytes | None) -> None:
    with lmdb.open(str(folder), map_size=2**26) as environment, environment.begin(write=True) as f:
        f.delete(key.encode()) if value is None else f.put(key.encode(), value)


def change_meta(folder: Path, old: str, new: str) -> None:
    path = folder / "meta_info.txt"
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))


def cut(path: Path, size: int) -> None:
    os.truncate(path, size)


KEY = "0003_s001"
ENCODED = cv2.imencode(".png", picture(24, 32))[1].tobytes()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda f: cut(f / "data.mdb", 20000), "gt.lmdb: data.mdb is cut off: 20000 of"),
        (lambda f: (f / "data.mdb").write_bytes(b"x" * 9000), "gt.lmdb: data.mdb is damaged"),
        (
            lambda f: change_value(f, KEY, None),
            f"gt.lmdb: 1 of 12 keys that meta_info.txt lists do not exist, such as '{KEY}'",
        ),
        (
            lambda f: change_value(f, "more", b"x"),
            "gt.lmdb: meta_info.txt does not list 1 of 13 keys, such as 'more'",
        ),
        (
            lambda f: (change_value(f, KEY, None), change_value(f, "more", b"x")),
            f"gt.lmdb/{KEY}.png: meta_info.txt lists the key '{KEY}', but data.mdb does not have",
        ),
        (
            lambda f: change_meta(f, f"{KEY}.png (24,32,3)", f"{KEY}.png (24,31,3)"),
            rf"gt.lmdb/{KEY}.png: its shape \(H, W, C\) is \(24, 32, 3\), but meta_info.txt states",
        ),
        (
            lambda f: change_meta(f, f"{KEY}.png (24,32,3)", "nonsense"),
            "meta_info.txt, line 4: expected 'key.png",
        ),
        (
            lambda f: change_meta(f, f"{KEY}.png", f"../{KEY}.png"),
            f"gt.lmdb: the key '../{KEY}' is no path",
        ),
        (lambda f: change_value(f, KEY, b""), f"gt.lmdb/{KEY}.png: an empty file"),
        (lambda f: change_value(f, KEY, b"II*\0" + b"x" * 90), "neither a PNG, JPEG, BMP nor"),
        (
            lambda f: change_value(f, KEY, ENCODED[:900]),
            f"gt.lmdb/{KEY}.png: truncated or broken",
        ),
    ],
)
def test_faults_of_an_lmdb_take_one_line(
    pairs: Path, damage: Callable[[Path], Any], message: str
) -> None:
    damage(pairs / "gt.lmdb")
    with pytest.raises(UserError, match=message) as error:
        paired(pairs, "gt.lmdb", "lq.lmdb")
    assert len(str(error.value).splitlines()) <= 2  # a headline and the fault of the only bad file


def test_faults_of_an_hdf5_file_take_one_line(pairs: Path) -> None:
    path = pairs / "set.h5"
    with h5py.File(path, "a") as file:
        file["stack/0"] = np.zeros((2, 8, 8, 3), np.uint8)
        file["text/0"] = "text"
        file["linked/0"] = h5py.ExternalLink("other.h5", "/HR/0")
    with pytest.raises(UserError, match=r"set.h5/stack/0.npy: an array of shape \(2, 8, 8, 3\)"):
        PairedImages(dataroot_gt=str(path / "stack"), **SIZES)
    with pytest.raises(UserError, match=r"set.h5/text/0.npy: an array of shape \(\)"):
        PairedImages(dataroot_gt=str(path / "text"), **SIZES)
    with pytest.raises(UserError, match=r"linked: no such folder"):
        PairedImages(dataroot_gt=str(path / "linked"), **SIZES)
    cut(path, 3000)
    with pytest.raises(UserError, match=r"set.h5: a damaged HDF5 file, or none \("):
        PairedImages(dataroot=str(path), **SIZES)
    path.write_bytes(b"no archive")
    with pytest.raises(UserError, match=r"set.h5: a damaged HDF5 file, or none \("):
        PairedImages(dataroot=str(path), **SIZES)


@pytest.mark.parametrize(
    ("module", "name", "extra"), [("lmdb", "gt.lmdb", "lmdb"), ("h5py", "set.h5", "hdf5")]
)
def test_a_missing_package_is_named_with_its_extra(
    pairs: Path, monkeypatch: pytest.MonkeyPatch, module: str, name: str, extra: str
) -> None:
    imports = builtins.__import__

    def refuse(wanted: str, *arguments: Any, **more: Any) -> Any:
        if wanted == module:
            raise ImportError(wanted)
        return imports(wanted, *arguments, **more)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(
        UserError, match=rf'{name}: .* need {module}; pip install "srtoolbox\['
    ) as e:
        PairedImages(dataroot=str(pairs / name), **SIZES)
    assert f"[{extra}]" in str(e.value) and "\n" not in str(e.value)


def test_a_changed_archive_is_read_anew(pairs: Path) -> None:
    cache = str(pairs / "cache")
    before = paired(pairs, "gt.lmdb", "lq.lmdb", cache=cache)[0]["gt"].copy()
    save(pairs / "gt" / "0000_s001.png", picture(24, 32, 99))
    shutil.rmtree(pairs / "gt.lmdb")
    write_lmdb(pairs / "gt", pairs / "gt.lmdb")
    os.utime(pairs / "gt.lmdb" / "data.mdb", ns=(1, 1))
    after = paired(pairs, "gt.lmdb", "lq.lmdb", cache=cache)[0]["gt"]
    assert not np.array_equal(before, after)
    assert np.array_equal(after, picture(24, 32, 99).transpose(2, 0, 1))


def replace_lmdb(pairs: Path, seed: int) -> None:
    """Replaces ``gt.lmdb/data.mdb`` by one of the same size and time with another image."""
    data = pairs / "gt.lmdb" / "data.mdb"
    state = data.stat()
    folder = pairs / f"other{seed}"
    for number in range(12):
        save(folder / f"{number:04d}_s001.png", picture(24, 32, seed + number))
    new = write_lmdb(folder, pairs / f"other{seed}.lmdb") / "data.mdb"
    with new.open("ab") as file:
        file.truncate(max(state.st_size, new.stat().st_size))
    os.truncate(data, new.stat().st_size)
    os.utime(data, ns=(state.st_atime_ns, state.st_mtime_ns))
    os.utime(new, ns=(state.st_atime_ns, state.st_mtime_ns))
    new.replace(data)


@pytest.mark.skipif(os.name == "nt", reason="Windows does not replace opened files")
def test_a_replaced_lmdb_of_the_same_size_and_time(
    pairs: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = pairs / "gt.lmdb" / "0000_s001.png"
    replace_lmdb(pairs, 50)
    before = read_image(path)
    replace_lmdb(pairs, 100)
    assert not np.array_equal(read_image(path), before)
    assert "data.mdb was changed after this process had read from it" in caplog.text


@pytest.mark.skipif(os.name == "nt", reason="Windows does not replace opened files")
def test_an_lmdb_that_is_replaced_while_it_is_read(pairs: Path) -> None:
    """The reader keeps its memory, others wait for it; it learns that its image may be mixed."""
    path = pairs / "gt.lmdb" / "0000_s001.png"
    read_image(path)
    found: list[np.ndarray] = []
    other = threading.Thread(target=lambda: found.append(read_image(path)))
    words = r"0000_s001\.png: data\.mdb was changed while it was read"
    with pytest.raises(UserError, match=words), open_encoded(path) as file:
        start = file.read(8)
        replace_lmdb(pairs, 50)
        other.start()
        other.join(0.2)
        assert other.is_alive()
        with open_encoded(path) as again:  # within the block of the same thread
            assert again.read(8) == start
        assert file.read(4)
    other.join(20)
    assert np.array_equal(found[0], picture(24, 32, 50).transpose(2, 0, 1))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="Windows has no fork")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_fork_while_another_thread_opens_an_lmdb(
    pairs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, here = pairs / "gt.lmdb" / "0000_s001.png", threading.get_ident()
    read_image(path)
    opening, go_on, start = threading.Event(), threading.Event(), lmdb.open

    def slow(*arguments: Any, **options: Any) -> Any:
        if threading.get_ident() != here:
            opening.set()
            go_on.wait(20)
        return start(*arguments, **options)

    monkeypatch.setattr(lmdb, "open", slow)
    other = threading.Thread(target=read_image, args=(pairs / "lq.lmdb" / "0000_s001.png",))
    other.start()
    assert opening.wait(20)
    child = os.fork()
    if not child:
        signal.alarm(20)  # ends the process if it waits for the other thread, which it has not
        os._exit(0 if read_image(path).shape == (3, 24, 32) else 3)
    go_on.set()
    other.join(20)
    assert os.waitpid(child, 0)[1] == 0


@pytest.mark.skipif(os.name == "nt", reason="links need rights on Windows")
@pytest.mark.parametrize("cache", [False, True])
def test_links_to_archives_without_their_suffix(pairs: Path, cache: bool) -> None:
    more = {"cache": str(pairs / "cache")} if cache else {}
    (pairs / "gt.lmdb").rename(pairs / "blob")
    (pairs / "gt.lmdb").symlink_to(pairs / "blob")
    (pairs / "set.h5").rename(pairs / "file")
    (pairs / "set.h5").symlink_to(pairs / "file")
    theirs = whole(paired(pairs, "gt", "lq"))
    assert_same(whole(paired(pairs, "gt.lmdb", "lq.lmdb", **more)), theirs)
    ours = whole(paired(pairs, "set.h5/HR", "set.h5/X2", **more))
    assert_same(without_keys(ours), without_keys(theirs))


def test_keys_of_an_hdf5_file_with_suffixes(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "set.h5", "w") as file:
        for key in ("a.PNG", "b.npy", "c"):
            file[f"HR/{key}"] = picture(16, 16)
    sizes = {"scale": 2, "gt_size": 8}
    found = whole(PairedImages(dataroot_gt=str(tmp_path / "set.h5" / "HR"), **sizes))
    assert [sample["key"] for sample in found] == ["a", "b", "c"]
    with h5py.File(tmp_path / "set.h5", "a") as file:
        file["HR/a"] = picture(16, 16)
    with pytest.raises(UserError, match=r"'HR/a' and 'HR/a.PNG' differ in their suffix only"):
        PairedImages(dataroot_gt=str(tmp_path / "set.h5" / "HR"), **sizes)


def test_plain_folders_and_files_with_such_names(tmp_path: Path) -> None:
    path = save(tmp_path / "old.lmdb" / "set.h5" / "a.png", picture(8, 8))
    assert is_folder(path.parent) and is_folder(tmp_path / "old.lmdb")
    assert not is_folder(path)
    assert np.array_equal(read_image(path), picture(8, 8).transpose(2, 0, 1))
    assert image_info(path).size == (8, 8)
    assert file_state(path)[0] == path.stat().st_size
    assert len(PairedImages(dataroot_gt=str(path.parent), **SIZES)) == 1
