"""Measures whether a short training of DSTC-SRNet+ learns to use the other frames, for every seed.

Prints, for every seed and some steps, the PSNR on the test bursts, the PSNR with the reference in
place of all frames, and the difference. The bursts are the embedded ones, or synthetic bursts from
two folders of photographs::

    python experiments/results/dstc_plus/seeds.py
    python experiments/results/dstc_plus/seeds.py --train T91 --test Set5 --set fusion=concat
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
import yaml
from torch import Tensor, nn

from srtoolbox import ARCH_REGISTRY, DATASET_REGISTRY
from srtoolbox.data import SampleStream
from srtoolbox.data.stream import to_float

NETWORKS = Path(__file__).parents[3] / "options/_base_/networks"
SCHEDULE = 1600  # steps of the quickstart's cosine; this training stops early


def psnr(sr: Tensor, gt: Tensor) -> float:
    """Returns the PSNR in dB of RGB rounded to 8 bits, with 8 pixels cropped on each side."""
    error = (sr.clamp(0, 1) * 255).round() / 255 - gt
    return -10 * error[..., 8:-8, 8:-8].square().mean().log10().item()


@torch.no_grad()
def score(net: nn.Module, bursts: list[tuple[Tensor, Tensor]], bf16: bool) -> tuple[float, float]:
    """Returns the mean PSNR in dB, with all frames and with the reference repeated."""
    net.eval()
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        scores = [
            (psnr(net(lq).float(), gt), psnr(net(lq[:, :1].expand_as(lq)).float(), gt))
            for lq, gt in bursts
        ]
    net.train()
    full, repeated = np.mean(scores, 0)
    return float(full), float(repeated)


def report(step: int, full: float, repeated: float) -> str:
    """Returns both PSNRs and the gain from other frames as text."""
    return f"  {step}: {full:.2f} {repeated:.2f} {full - repeated:+.2f}"


def main() -> None:
    """Trains a network for each seed and prints its scores."""
    parser = argparse.ArgumentParser(
        description="Measures the gain from other frames for each seed."
    )
    parser.add_argument("--preset", default="s")
    parser.add_argument("--train", help="folder of photographs")
    parser.add_argument("--test", help="folder of photographs")
    parser.add_argument("--set", nargs="*", default=[], metavar="OPTION=VALUE")
    parser.add_argument("--seeds", type=int, default=8)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--lr", type=float, default=2.5e-3)
    parser.add_argument("--grad-clip", type=float, default=float("inf"))
    parser.add_argument("--bf16", action="store_true")
    args = parser.parse_args()
    torch.set_num_threads(1)

    options = yaml.safe_load((NETWORKS / f"dstcsrnet_plus_{args.preset}.yml").read_text())[
        "network_g"
    ]
    changed = dict(option.split("=") for option in args.set)
    options |= {name: int(v) if v.isdigit() else v for name, v in changed.items()}
    arch = ARCH_REGISTRY.get(options.pop("type"))
    if args.train:
        dataset = DATASET_REGISTRY.get("SyntheticBursts")
        train = dataset(dataroot=args.train, num_frame=5, gt_size=64)
        test = dataset(dataroot=args.test, num_frame=5)
    else:
        dataset = DATASET_REGISTRY.get("SampleBursts")
        train = dataset("train", num_frame=5, gt_size=64)
        test = dataset("test", num_frame=5, gt_size=192, num_burst=6)
    samples = [test[i] for i in range(len(test))]
    bursts = [
        (
            to_float(torch.from_numpy(sample["lq"]))[None],
            to_float(torch.from_numpy(sample["gt"]))[None],
        )
        for sample in samples
    ]
    for seed in range(args.seeds):
        torch.manual_seed(seed)
        net = arch(**options).train().to(memory_format=torch.channels_last)
        optimizer = torch.optim.Adam(net.parameters(), args.lr, (0.9, 0.99))
        line = f"seed {seed}"
        for step, batch in enumerate(SampleStream(train, seed, 2).batches(0, args.steps), 1):
            if step == 1:
                line += report(0, *score(net, bursts, args.bf16))
            cosine = 0.5 * (1 + np.cos(np.pi * step / SCHEDULE))
            optimizer.param_groups[0]["lr"] = args.lr * min(1, step / 20) * cosine
            with torch.autocast("cpu", torch.bfloat16, enabled=args.bf16):
                sr = net(batch["lq"])
            loss = ((sr.float() - batch["gt"]).square() + 1e-4).sqrt().mean()
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(net.parameters(), args.grad_clip)
            optimizer.step()
            if step % 150 == 0:
                line += report(step, *score(net, bursts, args.bf16))
        print(line, flush=True)


if __name__ == "__main__":
    main()
