"""One network that is trained on several scales in turn, as MDSR is published."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from support.images import picture, save
from support.runs import go, run, same, start, stop_in

from srtoolbox.data.datasets.paired_images import PairedImages
from srtoolbox.data.stream import scale_of
from srtoolbox.engine.build import build_dataset, build_network
from srtoolbox.engine.doctor.diagnose import diagnose
from srtoolbox.engine.evaluation.evaluator import Evaluator
from srtoolbox.engine.options import RunOptions
from srtoolbox.engine.weights.load import load
from srtoolbox.errors import UserError
from srtoolbox.inference.scales import at_scale
from srtoolbox.utils.files import read_lines

CPU = torch.device("cpu")
SEED = 3
SCALES = (2, 3, 4)


@pytest.fixture
def several(options: Callable[..., RunOptions], tmp_path: Path) -> Callable[..., RunOptions]:
    """The tiny run with MDSR at three scales."""
    for number in range(3):
        save(tmp_path / "pictures" / f"{number}.png", picture(48, 60, number))
    images = f"type: PairedImages, dataroot_gt: {tmp_path / 'pictures'}"

    def make(*overrides: str) -> RunOptions:
        return options(
            "network_g={type: MDSR, num_feat: 4, num_block: 1}",
            f"datasets.train={{{images}, gt_size: 24, scales: [2, 3, 4]}}",
            f"datasets.val={{X4: {{{images}}}, X2: {{{images}, scale: 2}}}}",
            f"manual_seed={SEED}",
            *overrides,
        )

    return make


def test_a_step_has_one_scale_and_equal_lr_crops(several) -> None:
    opt = several()
    dataset = build_dataset("train", opt.datasets.train, opt, build_network(opt, CPU))
    trainer = start(opt, opt.folder, dataset=dataset)
    batches = list(trainer.stream.batches(0, 30))
    assert [batch["scale"] for batch in batches] == [scale_of(SEED, t, SCALES) for t in range(30)]
    assert {batch["scale"] for batch in batches} == set(SCALES)
    for batch in batches:
        side = 6 * batch["scale"]
        assert batch["lq"].shape == (2, 1, 3, 6, 6)
        assert batch["gt"].shape == (2, 3, side, side)


def test_a_step_changes_the_parts_of_its_scale_alone(several) -> None:
    opt = several("train.total_iter=1")
    before = build_network(opt, CPU).state_dict()
    after = run(opt).net.state_dict()
    drawn = f"x{scale_of(SEED, 0, SCALES)}"
    changed = {key for key in before if not torch.equal(before[key], after[key])}
    parts = {key.split(".")[1] for key in changed if key.startswith(("pre.", "upsample."))}
    assert parts == {drawn}
    assert any(key.startswith("body.") for key in changed)


def test_every_scale_is_trained_and_evaluated(several) -> None:
    opt = several()
    assert {scale_of(SEED, step, SCALES) for step in range(6)} == set(SCALES)
    before = build_network(opt, CPU).state_dict()
    net = run(opt).net
    assert all(not torch.equal(before[key], value) for key, value in net.state_dict().items())
    scores = {
        record["dataset"]: record["psnr"]
        for record in read_lines(opt.folder / "evaluation.jsonl")
        if record["step"] == 6
    }
    for name, scale in (("X4", 4), ("X2", 2)):
        dataset = build_dataset(f"val.{name}", opt.datasets.val[name], opt, net)
        assert dataset.scale == scale
        loaded, arch = load(opt.folder / "weights" / "net_g_latest.pth")
        assert arch["scale"] == 4
        loaded.scale = scale
        records = Evaluator(opt.val, CPU).run(loaded, dataset)["rgb"]
        mean = sum(record["metrics"]["psnr"] for record in records) / len(records)
        assert scores[name] == pytest.approx(mean)


def test_a_resumed_run_ends_with_the_same_bits(several, tmp_path: Path) -> None:
    opt = several("train.ema_decay=0.5")
    whole = go(start(opt, tmp_path / "whole"), tmp_path / "whole")
    part = tmp_path / "part"
    with pytest.raises(KeyboardInterrupt):
        go(stop_in(4, start(opt, part)), part)
    rest = start(opt, part)
    assert 0 < rest.step < 6
    go(rest, part)
    ours, theirs = rest.state_dict(), whole.state_dict()
    assert all(same(ours[key], theirs[key]) for key in ("networks", "ema", "optimizers"))


def test_a_network_at_another_scale_shares_weights_and_mode(several) -> None:
    net = build_network(several(), CPU)
    other, lq = at_scale(net, 2), torch.rand(1, 3, 5, 6)
    assert at_scale(net, 4) is net
    assert other.eval()(lq).shape == (1, 3, 10, 12)
    assert not net.training
    assert torch.equal(other(lq), net(lq, 2))
    assert {p.data_ptr() for p in other.parameters()} == {p.data_ptr() for p in net.parameters()}
    edsr = build_network(several("network_g={type: EDSR, num_feat: 4, num_block: 1}"), CPU)
    assert at_scale(edsr, 2) is edsr


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("network_g={type: EDSR}", "datasets.train: scales: EDSR has one scale; remove the option"),
        ("datasets.train.scales=[2, 3]", "scales must be different numbers .* with scale 4 among"),
        ("datasets.train.scales=[4, 4]", "scales must be different numbers .*, got"),
        ("datasets.train.scales=[4, 8]", "datasets.train: scales: MDSR has 2, 3, 4, not 8"),
        ("datasets.train.filename_tmpl=a{}", "describe the LR images of one scale; remove scales"),
        ("datasets.train.gt_size=56", "p?0.*48.*56|smaller"),
    ],
)
def test_what_does_not_fit_is_refused(several, override: str, message: str) -> None:
    opt = several(override)
    with pytest.raises(UserError, match=message):
        build_dataset("train", opt.datasets.train, opt, build_network(opt, CPU))


def test_every_scale_has_the_same_images(several, tmp_path: Path) -> None:
    for number in range(3):
        image = picture(48, 60, number)
        save(tmp_path / "data" / "HR" / f"{number}.png", image)
        for scale in SCALES:
            if (scale, number) != (3, 2):
                lq = image[::scale, ::scale]
                save(tmp_path / "data" / "LR_bicubic" / f"X{scale}" / f"{number}.png", lq)
    opt = several(
        "datasets.train.dataroot_gt=!delete", f"datasets.train.dataroot={tmp_path / 'data'}"
    )
    words = r"HR/2.png: has no partner .*X3"
    with pytest.raises(UserError, match=words):
        build_dataset("train", opt.datasets.train, opt, build_network(opt, CPU))
    ((part, fault),) = [entry for entry in diagnose({opt.name: opt}, CPU).faults]
    assert part == "datasets.train" and re.search(words, fault)


def test_hr_images_of_one_scale_alone_are_refused(tmp_path: Path) -> None:
    for scale, names in ((2, "ab"), (4, "abc")):
        for number, name in enumerate(names):
            folder, image = tmp_path / f"image_SRF_{scale}", picture(48, 48, number)
            save(folder / f"{name}_SRF_{scale}_HR.png", image)
            save(folder / f"{name}_SRF_{scale}_LR.png", image[::scale, ::scale])
    with pytest.raises(UserError, match="x4 and x2 do not have the same images: c; complete"):
        PairedImages("set5", str(tmp_path), gt_size=24, scales=[2, 4])


@pytest.mark.slow
def test_the_doctor_decodes_every_scale(several) -> None:
    found = diagnose({"tiny": several()}, CPU)
    assert found.faults == []
    assert "datasets.train" in dict(found.passed)
