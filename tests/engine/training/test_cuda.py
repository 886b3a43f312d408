"""Tests that need a GPU; skipped without one."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from support.runs import go, start

from srtoolbox.data import SampleBursts, SampleStream
from srtoolbox.engine.device.precision import autocast
from srtoolbox.errors import RunError

pytestmark = pytest.mark.cuda
CUDA = torch.device("cuda")


@pytest.mark.parametrize(
    "overrides",
    [
        (),
        ("train.precision=bf16", "train.channels_last=true"),
        ("train.precision=tf32", "train.ema_decay=0.9", "train.grad_clip=1"),
        ("train.precision=fp16",),
        ("model_type=GANModel", "network_d={type: UNetDiscriminatorSN, num_feat: 4}"),
    ],
    ids=["fp32", "bf16", "tf32, average, clip", "fp16", "gan"],
)
def test_no_step_waits_for_the_device(options, tmp_path, overrides: tuple[str, ...]) -> None:
    trainer = start(options("train.total_iter=30", *overrides), tmp_path, device=CUDA)
    batches = trainer.stream.batches(0, 25, 0, CUDA)
    for _ in range(5):
        trainer._optimize(next(batches))
        trainer.step += 1
    torch.cuda.set_sync_debug_mode("error")
    try:
        for _ in range(20):
            trainer._optimize(next(batches))
            trainer.step += 1
    finally:
        torch.cuda.set_sync_debug_mode("default")
    trainer._check_finite()


def test_a_bad_step_leaves_the_weights_alone(options, tmp_path) -> None:
    class Poisoned(SampleBursts):
        def draw(self, index: int, rng: np.random.Generator) -> dict:
            sample = super().draw(index, rng)
            if rng.bit_generator.seed_seq.entropy[2] == 2:
                sample["lq"] = sample["lq"].astype(np.float32) * np.nan
                return sample
            return {**sample, "lq": sample["lq"].astype(np.float32) / 255}

    opt = options("train.total_iter=6", "logger.print_freq=6")
    dataset = Poisoned(num_frame=2, gt_size=32)
    trainer = start(opt, tmp_path, dataset=dataset, device=CUDA)
    with pytest.raises(RunError, match="non-finite at step 3"):
        go(trainer, tmp_path)
    assert all(torch.isfinite(value).all() for value in trainer.result.state_dict().values())


def test_batches_are_those_of_the_cpu() -> None:
    stream = SampleStream(SampleBursts(num_frame=2, gt_size=32), 5, 3)
    for here, there in zip(stream.batches(0, 6, 2), stream.batches(0, 6, 2, CUDA), strict=True):
        torch.cuda._sleep(1_000_000)
        assert here["key"] == there["key"]
        assert torch.equal(here["lq"], there["lq"].cpu())
        assert torch.equal(here["gt"], there["gt"].cpu())


def test_fp32_is_not_tf32() -> None:
    torch.manual_seed(0)
    conv = torch.nn.Conv2d(64, 64, 3, padding=1).cuda()
    x = torch.rand(1, 64, 32, 32, device=CUDA)
    exact = torch.nn.functional.conv2d(
        x.double(), conv.weight.double(), conv.bias.double(), padding=1
    )
    with torch.no_grad(), autocast(CUDA, "fp32"):
        assert (conv(x) - exact).abs().max() < 1e-5
