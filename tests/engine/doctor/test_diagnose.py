"""Tests the checks of runs and studies; they must leave no files behind."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch
from PIL import Image
from support.backbones import write_backbone

from srtoolbox.cli import main
from srtoolbox.data import SampleBursts
from srtoolbox.data.base import Sample
from srtoolbox.engine.doctor import report as doctor_report
from srtoolbox.engine.doctor.diagnose import diagnose
from srtoolbox.engine.doctor.report import Diagnosis
from srtoolbox.engine.options import RunOptions
from srtoolbox.engine.training.train import train
from srtoolbox.errors import UserError
from srtoolbox.registry import DATASET_REGISTRY

CPU = torch.device("cpu")
Options = Callable[..., RunOptions]


def look_at(opt: RunOptions) -> Diagnosis:
    return diagnose({opt.name: opt}, CPU)


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    for number in range(2):
        path = tmp_path / "pictures" / "HR" / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(number).integers(0, 256, (48, 64, 3), np.uint8)
        Image.fromarray(pixels).save(path)
    return tmp_path / "pictures"


def test_a_sound_run_is_tried_and_leaves_nothing(options: Options, tmp_path: Path) -> None:
    opt = options("train.total_iter=1000", "train.ema_decay=0.9", "train.warmup_iter=20")
    found = look_at(opt)
    assert found.faults == []
    parts = ["network", "datasets.train", "datasets.val.sample", "metrics", "training"]
    assert [name for name, _ in found.passed] == [*parts, "evaluation"]
    (estimate,) = found.estimates
    assert estimate.step_memory > 0 and estimate.test_memory > 0
    assert estimate.total > 1000 * estimate.seconds > 0
    assert estimate.disk > 3 * estimate.checkpoint
    assert [path.name for path in tmp_path.iterdir()] == ["tiny.yml"]


def test_the_checkpoint_has_the_size_of_a_real_one(options: Options) -> None:
    opt = options("train.total_iter=4")
    (estimate,) = look_at(opt).estimates
    train(opt, CPU, resume=False)
    sizes = [path.stat().st_size for path in (opt.folder / "checkpoints").iterdir()]
    assert estimate.checkpoint == pytest.approx(max(sizes), rel=0.05)


def test_a_run_of_one_step_is_tried(options: Options) -> None:
    found = look_at(options("train.total_iter=1"))
    assert found.faults == [] and dict(found.passed)["training"] == "ok, 1 iterations"


def test_an_accumulated_step_needs_less_memory(options: Options) -> None:
    whole, parts = (
        look_at(options("train.batch_size=8", f"train.accumulate={parts}")).estimates[0]
        for parts in (1, 8)
    )
    assert parts.step_memory < whole.step_memory


def test_all_faults_are_listed(options: Options, tmp_path: Path) -> None:
    found = look_at(
        options(
            "path.pretrain_network_g=no.pth",
            f"datasets.val.mine={{type: PairedImages, dataroot: {tmp_path / 'nowhere'}}}",
            "train.losses.l_pix={type: LPIPSLoss}",
        )
    )
    with pytest.raises(UserError) as caught:
        found.raise_faults()
    assert "no.pth: no such weight file" in str(caught.value)
    assert "nowhere: no such folder" in str(caught.value)
    assert ("datasets.val.sample", "ok, 2 to score on") in found.passed


@pytest.mark.slow
def test_the_backbone_of_lpips_is_named(
    options: Options, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("lpips")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    spec = "val.metrics.lpips={{type: LPIPS{}}}"
    (warning,) = [text for text in look_at(options(spec.format(""))).warnings if "lpips" in text]
    assert "lpips is left out" in warning and "run `srtoolbox fetch lpips`" in warning
    file = write_backbone(tmp_path / "mine.pth")
    found = dict(look_at(options(spec.format(f", backbone: {file}"))).passed)
    assert "lpips with mine.pth, which differs from torchvision's alexnet" in found["metrics"]
    file.write_bytes(b"")
    ((part, fault),) = look_at(options(spec.format(f", backbone: {file}"))).faults
    assert part == "metrics" and "it is no weight file" in fault


def test_a_crop_that_does_not_fit_is_a_fault(options: Options, pictures: Path) -> None:
    data = f"datasets.train={{type: PairedImages, dataroot: {pictures}, gt_size: 64}}"
    ((part, fault),) = look_at(options(data)).faults
    assert part == "datasets.train" and "too small (2)" in fault
    ((part, fault),) = look_at(options("datasets.train.gt_size=34")).faults
    assert part == "datasets.train" and "not a multiple of scale 4" in fault


def test_a_step_that_diverges_is_a_fault(options: Options) -> None:
    found = look_at(options("train.optim_g={type: SGD, lr: 1e36}"))
    ((part, fault),) = found.faults
    assert part == "training" and "non-finite" in fault
    assert found.estimates[0].seconds is None


def test_the_cache_is_measured_and_not_built(options: Options, pictures: Path) -> None:
    cache = pictures / "cache"
    spec = f"{{type: PairedImages, dataroot: {pictures}, gt_size: 32, cache: {cache}}}"
    found = look_at(options(f"datasets.train={spec}"))
    assert found.faults == [] and found.caches == {cache: 2 * 3 * 48 * 64}
    assert not cache.exists()


def test_warnings(options: Options, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage("/")
    monkeypatch.setattr(doctor_report.shutil, "disk_usage", lambda _: usage._replace(free=1000))
    monkeypatch.setattr(doctor_report, "_memory", lambda _: 0.001)
    monkeypatch.setattr(doctor_report, "cpu_count", lambda: 0)
    words = "\n".join(look_at(options("train.num_worker=1")).warnings)
    assert "experiments is too small" in words
    assert "num_worker 1 is more than the 0 CPU cores" in words
    assert "a training step needs" in words
    assert "no GPU" in words


@pytest.mark.parametrize("command", [["doctor"], ["train", "--dry-run"]])
def test_a_study_is_examined_method_by_method(
    command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: Options, capsys
) -> None:
    monkeypatch.chdir(tmp_path)
    options()
    study = tmp_path / "study.yml"
    study.write_text(
        "_base_: tiny.yml\nnetwork_g: !delete\nseeds: [0, 1]\n"
        "methods: {Bicubic: {network_g: {type: Bicubic}}, "
        "EDSR: {network_g: {type: EDSR, num_feat: 4, num_block: 1}}}\n"
    )
    assert main([command[0], str(study), *command[1:]]) == 0
    shown = capsys.readouterr().out
    assert "2 methods, 2 seeds" in shown and "EDSR: training" in shown
    assert "Bicubic: training" not in shown and "all checks passed" in shown
    assert shown.count("datasets.val.sample") == 1
    assert not (tmp_path / "experiments").exists()
    wrong = ["--set", "methods.EDSR.network_g.scale=2"]
    assert main([command[0], str(study), *command[1:], *wrong]) == 2
    assert "EDSR: network: network_g.scale is 2" in capsys.readouterr().err


@pytest.mark.slow
def test_methods_of_a_study_need_not_take_every_test_set(options: Options) -> None:
    sets = (
        "datasets.train.num_frame=3",
        "datasets.val=!delete",
        "datasets.test={bursts: {type: SampleBursts, split: val, num_frame: 3, gt_size: 32}, "
        "images: {type: SampleBursts, split: val, num_frame: 1, gt_size: 32}}",
    )
    frames = "network_g={type: TDAN, num_feat: 8, num_frame: 3, num_extract_block: 1}"
    runs = {"EDSR": options(*sets), "TDAN": options(*sets, frames)}
    assert diagnose(runs, CPU).faults == []
    alone = [fault for _, fault in diagnose({"TDAN": runs["TDAN"]}, CPU).faults]
    assert len(alone) == 1
    assert "TDAN takes 3 frames but the dataset gives 1" in alone[0]


def test_metrics_of_clips_are_tried_on_two_frames(
    options: Options, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Frames(SampleBursts):
        """The frames of a clip, by name only."""

        seen: ClassVar[list[int]] = []

        @property
        def clip_names(self) -> list[str]:
            return ["clip"] * len(self)

        def __getitem__(self, index: int) -> Sample:
            self.seen.append(index)
            sample = super().__getitem__(index)
            return {**sample, "key": f"clip/{index}"}

    monkeypatch.setitem(DATASET_REGISTRY._entries, "SampleBursts", Frames)
    opt = options("val.metrics={psnr: {type: PSNR}, tpsnr: {type: TemporalPSNR}}")
    found = look_at(options("datasets.val.sample.num_burst=4", "val=!delete"))
    assert found.faults == [] and set(Frames.seen) == {0}
    found = look_at(opt)
    assert found.faults == [] and set(Frames.seen) == {0, 1}
    assert "tpsnr" in dict(found.passed)["evaluation"]


def test_images_of_other_bands_are_decoded_as_the_network_takes_them(
    options: Options, tmp_path: Path
) -> None:
    (tmp_path / "bands").mkdir()
    (tmp_path / "masks").mkdir()
    rng = np.random.default_rng(0)
    np.save(tmp_path / "bands" / "a.npy", rng.integers(0, 256, (48, 48, 4), np.uint8))
    np.save(tmp_path / "masks" / "a.npy", rng.integers(0, 2, (48, 48), np.uint8))
    given = f"dataroot_gt: {tmp_path / 'bands'}, dataroot_mask: {tmp_path / 'masks'}"
    opt = options(
        "datasets.train=!delete",
        f"datasets.train={{type: PairedImages, {given}, gt_size: 16, cache: {tmp_path / 'cache'}}}",
        "datasets.val=!delete",
        "datasets.val={}",
        "network_g.num_in_ch=4",
    )
    found = look_at(opt)
    assert [text for text in found.faults if "datasets.train" in str(text)] == []
    assert "datasets.train" in dict(found.passed)
    assert found.caches == {tmp_path / "cache": 48 * 48 * (4 + 1)}
