"""Small trainings."""

from __future__ import annotations

from pathlib import Path

import torch

from srtoolbox.engine.build import build_network
from srtoolbox.engine.options import RunOptions
from srtoolbox.engine.training.train import train
from srtoolbox.engine.weights.load import load_weights, weights_hash

CPU = torch.device("cpu")


def run(opt: RunOptions, resume: bool = False, folder: Path | None = None):
    return train(opt, CPU, resume=resume, folder=folder)


def best_of(opt: RunOptions) -> str:
    net = build_network(opt, CPU)
    load_weights(net, opt.folder / "weights" / "net_g_best.pth")
    return weights_hash(net)
