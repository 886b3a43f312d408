"""Merged parts of a study give the same results as the whole study."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from support.studies import compare

from srtoolbox.cli import main
from srtoolbox.comparison.store import ResultStore
from srtoolbox.comparison.study.merge import merge_studies
from srtoolbox.engine.training.trainer import Trainer
from srtoolbox.errors import UserError
from srtoolbox.utils.files import read_lines

TINY = """
name: tiny
seeds: [0, 1]
datasets:
  train: {type: SampleBursts, num_frame: 3, gt_size: 32}
  test:
    sample: {type: SampleBursts, split: val, num_frame: 3, gt_size: 32, num_burst: 2}
train: {total_iter: 2, batch_size: 1}
protocols: [rgb, basicsr-y]
logger: {use_tb_logger: false}
report: {num_image: 1}
methods:
  Bicubic: {network_g: {type: Bicubic}}
  EDSR: {network_g: {type: EDSR, num_feat: 4, num_block: 1}}
  DSRNet: {network_g: {type: DSRNet, num_feat: 4}}
"""


def write(root: Path) -> Path:
    path = root / "study.yml"
    path.write_text(TINY + f"path: {{experiments_root: '{root / 'experiments'}'}}\n")
    return path


def table(store: ResultStore) -> list[tuple]:
    """Returns the content of the tables without times."""
    return [
        (
            view.protocol["name"],
            entry.method,
            entry.seed,
            entry.steps,
            [r["metrics"] for r in store.records(entry.evaluations["sample"])],
            {key: store.cost(entry.cost)[key] for key in ("params", "flops", "memory")},
        )
        for view in store.load_card().views()
        for entry in view.entries
    ]


def without(*methods: str) -> list[str]:
    return [f"methods.{name}=!delete" for name in methods]


@pytest.fixture(scope="module")
def halves(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    path = write(tmp_path_factory.mktemp("halves"))
    first = compare(path, "name=first", *without("DSRNet"))
    return first.folder, compare(path, "name=second", *without("Bicubic", "EDSR")).folder


@pytest.mark.slow
def test_two_halves_give_the_whole(halves, tmp_path, monkeypatch) -> None:
    path = write(tmp_path)
    whole = compare(path, "name=whole")
    root = tmp_path / "experiments" / "compare"
    merged = merge_studies(halves, root / "merged")
    assert len(table(merged)) == 12
    assert table(merged) == table(whole)
    assert merged.load_card().remarks() == whole.load_card().remarks()
    names = {p.relative_to(whole.folder) for p in whole.folder.rglob("*.png")}
    assert names == {p.relative_to(merged.folder) for p in merged.folder.rglob("*.png")}
    assert len(list(merged.folder.glob("runs/*/log.jsonl"))) == 4
    # The merged study is finished: running it again trains and evaluates nothing.
    monkeypatch.setattr(Trainer, "run", lambda *_: pytest.fail("trained again"))
    lines = (merged.folder / "results.jsonl").read_text()
    again = compare(path, "name=merged")
    assert (again.folder / "results.jsonl").read_text() == lines
    assert table(again) == table(whole)


@pytest.mark.slow
def test_merging_again_or_one_by_one_changes_nothing(halves, tmp_path) -> None:
    first, second = halves
    at_once = merge_studies([first, second], tmp_path / "at_once")
    merge_studies([second], tmp_path / "steps")
    steps = merge_studies([first], tmp_path / "steps")
    merge_studies([first, second], tmp_path / "steps")
    key = lambda row: row[:3]  # noqa: E731
    assert sorted(table(steps), key=key) == sorted(table(at_once), key=key)
    assert (
        len(list(read_lines(steps.folder / "results.jsonl"))) == 20
    )  # Bicubic's seeds are one evaluation


@pytest.mark.parametrize("link", [False, True])
def test_a_part_that_is_given_twice_or_is_the_target_is_refused(tmp_path, capsys, link) -> None:
    study = tmp_path / "st"
    study.mkdir()
    again = tmp_path / "again"
    again.symlink_to(study)
    other = str(again if link else study)
    assert main(["merge", str(study), other, "--into", str(tmp_path / "merged")]) == 2
    assert f"{other} is given twice; give each part once" in capsys.readouterr().err
    assert main(["merge", str(study), "--into", other]) == 2
    assert f"{study} is a part and also the merged study" in capsys.readouterr().err
    assert not (tmp_path / "merged").exists()


@pytest.mark.slow
def test_parts_with_different_seeds(tmp_path) -> None:
    path = write(tmp_path)
    only = without("Bicubic", "DSRNet")
    one = compare(path, "name=one", "seeds=[0]", *only).folder
    two = compare(path, "name=two", "seeds=[1]", *only).folder
    merged = merge_studies([one, two], tmp_path / "merged").load_card()
    assert [(entry.method, entry.seed) for entry in merged.entries] == [("EDSR", 0), ("EDSR", 1)]


def change(folder: Path, target: Path, by: float) -> Path:
    """Copies a study and changes its first PSNR."""
    shutil.copytree(folder, target)
    file = target / "results.jsonl"
    first, *rest = read_lines(file)
    first["metrics"]["psnr"] += by
    file.write_text("".join(json.dumps(record) + "\n" for record in [first, *rest]))
    return target


def test_different_scores_of_one_image_are_refused(halves, tmp_path) -> None:
    changed = change(halves[0], tmp_path / "changed", 0.02)
    with pytest.raises(
        UserError, match=r"Bicubic, seed 0, sample \w+.*: psnr is .* in .*first and"
    ):
        merge_studies([halves[0], changed], tmp_path / "merged")
    assert not (tmp_path / "merged" / "results.jsonl").exists()
    rounded = change(halves[0], tmp_path / "rounded", 0.002)
    merge_studies([halves[0], rounded], tmp_path / "merged")


@pytest.mark.slow
def test_different_weights_of_one_method_are_refused(halves, tmp_path) -> None:
    other = compare(
        write(tmp_path), "name=other", "methods.EDSR.network_g.num_feat=6", *without("DSRNet")
    )
    with pytest.raises(UserError, match=r"EDSR, seed 0, sample .*: psnr is"):
        merge_studies([halves[0], other.folder], tmp_path / "merged")


@pytest.mark.parametrize(
    ("override", "what"),
    [("train.total_iter=3", "training"), ("protocols=[rgb]", "protocol")],
)
def test_parts_of_other_studies_are_refused(halves, tmp_path, override: str, what: str) -> None:
    other = compare(write(tmp_path), "name=other", override, *without("EDSR", "DSRNet"))
    with pytest.raises(UserError, match=f"no part of the same study as .*: its {what} is"):
        merge_studies([halves[0], other.folder], tmp_path / "merged")


def test_parts_with_different_weights_of_a_metric_are_refused(halves, tmp_path) -> None:
    parts = []
    for number, half in enumerate(halves[:2]):
        parts.append(shutil.copytree(half, tmp_path / f"part{number}"))
        card = ResultStore(half).load_card()
        content = f"{number:012x}"
        card.metrics["ssim"]["source"] = {"text": f"file {number}", "content": content}
        ResultStore(parts[-1]).save_card(card)
    with pytest.raises(UserError, match="ssim was computed with file 1, not with file 0"):
        merge_studies(parts, tmp_path / "merged")


def test_a_folder_without_a_study_leaves_nothing_behind(halves, tmp_path) -> None:
    with pytest.raises(UserError, match="no study here"):
        merge_studies([halves[0], tmp_path / "nothing"], tmp_path / "merged")
    assert not (tmp_path / "merged").exists()
