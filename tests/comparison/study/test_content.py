"""Test sets are identified by the content of their files, wherever these are."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from srtoolbox.comparison.options import StudyOptions
from srtoolbox.comparison.store import ResultStore
from srtoolbox.comparison.study import content
from srtoolbox.comparison.study.content import FileHashes, content_of
from srtoolbox.comparison.study.run import run_study
from srtoolbox.config.load import load_options
from srtoolbox.data.datasets.paired_images import PairedImages
from srtoolbox.errors import UserError
from srtoolbox.utils.files import sha256_of

STORED = "test_files.json"


def write_images(folder: Path, seed: int = 0, suffix: str = ".bmp") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(2):
        pixels = np.random.default_rng([seed, number]).integers(0, 256, (32, 32, 3), np.uint8)
        if suffix == ".npy":
            np.save(folder / f"{number}.npy", pixels)
        else:
            Image.fromarray(pixels).save(folder / f"{number}{suffix}")
    return folder


def contents(gt: Path, hashes: Path) -> tuple[dict, dict]:
    spec = {"type": "PairedImages", "dataroot_gt": str(gt)}
    stored = FileHashes(hashes)
    found = content_of(spec, PairedImages(dataroot_gt=str(gt), scale=4), stored)
    stored.save()
    return found


@pytest.mark.parametrize("suffix", [".bmp", ".tif", ".npy"])
def test_other_pixels_of_equal_size_are_another_test_set(tmp_path: Path, suffix: str) -> None:
    gt = write_images(tmp_path / "gt", suffix=suffix)
    sizes = {path.name: path.stat().st_size for path in gt.iterdir()}
    before, old = contents(gt, tmp_path / STORED)
    write_images(gt, seed=1, suffix=suffix)
    assert {path.name: path.stat().st_size for path in gt.iterdir()} == sizes
    now, old_now = contents(gt, tmp_path / STORED)
    assert now != before
    assert old_now == old  # how earlier versions identified it


@pytest.mark.parametrize("kind", ["lmdb", "h5"])
def test_other_pixels_in_an_archive(tmp_path: Path, kind: str) -> None:
    pytest.importorskip("lmdb")
    pytest.importorskip("h5py")
    from support.archives import write_hdf5, write_lmdb  # needs both

    def write(seed: int) -> Path:
        shutil.rmtree(tmp_path / "set.lmdb", ignore_errors=True)
        images = write_images(tmp_path / "gt", seed, ".png")
        if kind == "lmdb":
            write_lmdb(images, tmp_path / "set.lmdb")
            return tmp_path / "set.lmdb"
        write_hdf5({"HR": images}, tmp_path / "set.h5")
        return tmp_path / "set.h5" / "HR"

    first = contents(write(0), tmp_path / STORED)[0]
    assert contents(write(1), tmp_path / STORED)[0] != first


def test_a_copy_and_other_times_are_the_same_test_set(tmp_path: Path) -> None:
    gt = write_images(tmp_path / "here" / "gt")
    before, _ = contents(gt, tmp_path / STORED)
    os.utime(gt / "0.bmp", (1, 1))
    assert contents(gt, tmp_path / STORED)[0] == before
    copy = shutil.copytree(gt, tmp_path / "there" / "gt", copy_function=shutil.copyfile)
    assert contents(copy, tmp_path / "other.json")[0] == before


def test_a_file_is_read_once_until_it_changes(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(content, "_SETTLED", 0.0)
    read: list[str] = []

    def count(path: Path) -> str:
        read.append(path.name)
        return sha256_of(path)

    monkeypatch.setattr(content, "sha256_of", count)
    gt = write_images(tmp_path / "gt")
    before, _ = contents(gt, tmp_path / STORED)
    assert sorted(read) == ["0.bmp", "1.bmp"]
    assert contents(gt, tmp_path / STORED)[0] == before
    assert len(read) == 2
    os.utime(gt / "1.bmp", (1, 1))
    assert contents(gt, tmp_path / STORED)[0] == before
    assert read[2:] == ["1.bmp"]


def known_files(stored: Path) -> set[str]:
    return {Path(name).name for name in json.loads(stored.read_bytes())}


def test_the_hashes_of_files_that_a_command_does_not_need_stay(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(content, "_SETTLED", 0.0)
    gt, stored = write_images(tmp_path / "gt"), tmp_path / STORED
    contents(gt, stored)
    other = write_images(tmp_path / "other", suffix=".tif")
    contents(other, stored)
    assert known_files(stored) == {"0.bmp", "1.bmp", "0.tif", "1.tif"}
    (gt / "0.bmp").unlink()
    os.utime(other / "0.tif", (1, 1))
    contents(other, stored)
    assert known_files(stored) == {"1.bmp", "0.tif", "1.tif"}


def test_the_state_of_a_file_is_looked_up_once_by_a_command(tmp_path: Path, monkeypatch) -> None:
    gt, asked = write_images(tmp_path / "gt"), []
    stat = os.stat

    def count(path, *arguments, **options):
        if str(path).endswith(".bmp"):
            asked.append(Path(path).name)
        return stat(path, *arguments, **options)

    data = PairedImages(dataroot_gt=str(gt), scale=4)
    hashes, spec = FileHashes(tmp_path / STORED), {"type": "PairedImages"}
    monkeypatch.setattr(os, "stat", count)
    for _ in ("EDSR", "EDVR"):
        content_of(spec, data, hashes)
    assert sorted(asked) == ["0.bmp", "1.bmp"]


def test_another_node_with_other_inodes_does_not_read_files_again(
    tmp_path: Path, monkeypatch
) -> None:
    """Earlier versions stored the inode as the last number; it no longer counts."""
    monkeypatch.setattr(content, "_SETTLED", 0.0)
    gt, stored = write_images(tmp_path / "gt"), tmp_path / STORED
    before, _ = contents(gt, stored)
    known = {
        file: [*state, 17, sha] for file, (*state, sha) in json.loads(stored.read_bytes()).items()
    }
    stored.write_text(json.dumps(known))
    monkeypatch.setattr(content, "sha256_of", lambda path: pytest.fail(f"{path} is read again"))
    assert contents(gt, stored)[0] == before


def test_a_file_with_other_pixels_and_the_old_size_and_time_is_read_again(
    tmp_path: Path, monkeypatch
) -> None:
    """An archive that gives all files the same time, for example."""
    monkeypatch.setattr(content, "_SETTLED", 0.0)
    gt = write_images(tmp_path / "gt")
    for path in gt.iterdir():
        os.utime(path, (1, 1))
    before, _ = contents(gt, tmp_path / STORED)
    for path in write_images(gt, seed=1).iterdir():
        os.utime(path, (1, 1))
    assert contents(gt, tmp_path / STORED)[0] != before


def test_the_hash_of_a_file_that_has_just_changed_is_not_stored(tmp_path: Path) -> None:
    """A second change may leave size and time as they are."""
    gt = write_images(tmp_path / "gt")
    contents(gt, tmp_path / STORED)
    assert not (tmp_path / STORED).exists()


@pytest.mark.parametrize("damage", ["17", "{", '{"a": 1}', '{"a": []}'])
def test_damaged_hashes_are_computed_again(tmp_path: Path, caplog, damage: str) -> None:
    gt = write_images(tmp_path / "gt")
    before, _ = contents(gt, tmp_path / STORED)
    (tmp_path / STORED).write_text(damage)
    assert contents(gt, tmp_path / STORED)[0] == before
    assert f"{STORED} damaged" in caplog.text


@pytest.fixture
def study(study_file: Callable[..., Path], tmp_path: Path) -> Path:
    """A study of Bicubic on two BMP files."""
    gt = write_images(tmp_path / "gt")
    extra = f"""
datasets: {{val: !delete, test: {{own: {{type: PairedImages, dataroot_gt: '{gt}'}}}}}}
methods: {{EDSR: !delete, EDVR: !delete}}
"""
    return study_file(extra)


def compare(path: Path) -> ResultStore:
    return run_study(*load_options(path, [], StudyOptions), torch.device("cpu"))


def scores(store: ResultStore) -> list[dict]:
    (entry,) = store.load_card().entries
    return [record["metrics"] for record in store.records(entry.evaluations["own"])]


def test_hashes_are_kept_though_the_options_have_a_mistake(
    study: Path, tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.setattr(content, "_SETTLED", 0.0)
    other = f"network_g: {{type: Bicubic}}, path: {{pretrain_network_g: '{tmp_path / 'no.pth'}'}}"
    opt, tree = load_options(study, [f"methods.Other={{{other}}}"], StudyOptions)
    with pytest.raises(UserError, match="method Other: "):
        run_study(opt, tree, torch.device("cpu"))
    monkeypatch.setattr(content, "sha256_of", lambda path: pytest.fail(f"{path} is read again"))
    compare(study)


def test_a_study_evaluates_changed_pixels_again(study: Path, tmp_path: Path) -> None:
    before = scores(compare(study))
    write_images(tmp_path / "gt", seed=1)
    assert scores(compare(study)) != before
    write_images(tmp_path / "gt", seed=0)
    assert scores(compare(study)) == before


def test_scores_of_earlier_versions_are_replaced_with_one_line(
    study: Path, monkeypatch, caplog
) -> None:
    plan = "srtoolbox.comparison.study.plan.content_of"
    with monkeypatch.context() as patch:
        patch.setattr(plan, lambda *arguments: (content_of(*arguments)[1],) * 2)
        store = compare(study)
    before = scores(store)
    caplog.clear()
    store = compare(study)
    assert scores(store) == before
    assert (
        caplog.text.count("own: the stored scores are of an earlier version, which compared") == 1
    )
    lines = [json.loads(line) for line in (store.folder / "results.jsonl").open()]
    assert len({line["evaluation"] for line in lines}) == 2  # the earlier ones stay
    caplog.clear()
    compare(study)
    assert "earlier version" not in caplog.text


def test_scores_on_earlier_files_are_in_no_table_with_those_of_new_ones(
    study_file: Callable[..., Path], tmp_path: Path, caplog
) -> None:
    gt = write_images(tmp_path / "gt")
    spec = f"{{type: PairedImages, dataroot_gt: '{gt}'}}"
    study = study_file(f"""
datasets: {{val: !delete, test: {{own: {spec}}}}}
methods: {{EDSR: {{train: null}}, EDVR: !delete}}
""")

    def methods(*only: str) -> list[str]:
        opt, tree = load_options(study, [], StudyOptions)
        card = run_study(opt, tree, torch.device("cpu"), only).load_card()
        return [entry.method for entry in card.entries if entry.evaluations]

    assert methods() == ["Bicubic", "EDSR"]
    assert methods("Bicubic") == ["Bicubic", "EDSR"]
    write_images(gt, seed=1)
    assert methods("Bicubic") == ["Bicubic"]
    assert "EDSR, seed 0: its scores on own are of other files" in caplog.text
    assert methods() == ["Bicubic", "EDSR"]


def test_scores_of_earlier_versions_are_left_out_with_that_reason(
    study_file: Callable[..., Path], tmp_path: Path, monkeypatch, caplog
) -> None:
    study = study_file(f"""
datasets:
  val: !delete
  test: {{own: {{type: PairedImages, dataroot_gt: '{write_images(tmp_path / "gt")}'}}}}
methods: {{EDSR: {{train: null}}, EDVR: !delete}}
""")
    opt, tree = load_options(study, [], StudyOptions)
    with monkeypatch.context() as patch:
        plan = "srtoolbox.comparison.study.plan.content_of"
        patch.setattr(plan, lambda *arguments: (content_of(*arguments)[1],) * 2)
        run_study(opt, tree, torch.device("cpu"))
    card = run_study(opt, tree, torch.device("cpu"), ["Bicubic"]).load_card()
    assert [entry.method for entry in card.entries] == ["Bicubic"]
    said = "EDSR, seed 0: its scores on own are of an earlier version, which compared sizes of"
    assert said in caplog.text


def test_a_further_protocol_makes_no_scores_of_an_earlier_version(
    study_file: Callable[..., Path], caplog
) -> None:
    """The test set is made of no files, so it has the same identity in all versions."""
    path = study_file("methods: {EDSR: !delete, EDVR: !delete}")
    for names in ("[basicsr-y]", "[basicsr-y, rgb]"):
        opt, tree = load_options(path, [f"protocols={names}"], StudyOptions)
        run_study(opt, tree, torch.device("cpu"))
    assert "earlier version" not in caplog.text
