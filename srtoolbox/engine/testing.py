"""Scoring one network on test sets, as `srtoolbox test` does."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from srtoolbox.engine.checkpoint import load_weights, weights_hash
from srtoolbox.engine.environment import describe_environment
from srtoolbox.engine.evaluator import Evaluator, average
from srtoolbox.engine.files import write_atomic
from srtoolbox.engine.run import RunOptions, build_dataset, build_network
from srtoolbox.errors import UserError
from srtoolbox.options import dump

_log = logging.getLogger("srtoolbox")


def test(
    opt: RunOptions, device: torch.device, weights: Path | None = None
) -> tuple[dict[str, dict[str, float | None]], str, Path]:
    """Scores the options' network on their test sets (or validation sets, if there are none).

    Args:
        opt: Checked options.
        device: Where to run.
        weights: Weight file; default ``path.pretrain_network_g``, then what the run of that name
            was trained to.

    Returns:
        Mean scores by dataset, the description of the protocol, and the folder with the
        per-image records (and SR images, with ``val.save_img``).
    """
    sets = opt.datasets.test or opt.datasets.val
    if not sets:
        raise UserError(f"{opt.name}: the options name no dataset under datasets.test")
    net = build_network(opt, device)
    _load(net, opt, weights)
    datasets = {name: build_dataset(name, spec, opt, net) for name, spec in sets.items()}
    precision = opt.train.precision if opt.train else "fp32"
    evaluator = Evaluator(opt.val, device, precision)
    folder = opt.folder / "test" / f"{evaluator.protocol.name}-{weights_hash(net)}"
    scores, records = {}, []
    for name, dataset in datasets.items():
        _log.info("scoring %s on %s (%d)", opt.name, name, len(dataset))
        keep = _image_writer(folder / name) if opt.val.save_img else None
        scored = evaluator.run(net, dataset, keep)
        scores[name] = average(scored, evaluator.protocol.average)
        facts = {"dataset": name, "protocol": evaluator.protocol.hash}
        records += [{**facts, **record} for record in scored]
    write_atomic(folder / "results.jsonl", "".join(json.dumps(r) + "\n" for r in records))
    write_atomic(folder / "options.yml", dump(opt))
    environment = json.dumps(describe_environment(device), indent=1)
    write_atomic(folder / "environment.json", environment)
    return scores, evaluator.protocol.describe(), folder


def save_image(path: Path, image: Tensor) -> None:
    """Writes (3, H, W) in [0, 1] as an 8-bit PNG."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = (image.clamp(0, 1) * 255).round().byte().permute(1, 2, 0).numpy()
    Image.fromarray(np.ascontiguousarray(pixels)).save(path)


def _load(net: nn.Module, opt: RunOptions, weights: Path | None) -> None:
    if not net.state_dict():
        return
    trained = opt.folder / "weights" / "net_g_latest.pth"
    path = weights or opt.path.pretrain_network_g or (trained if trained.exists() else None)
    if path is None:
        raise UserError(
            f"{opt.name}: no weights to test: give --weights FILE, set path.pretrain_network_g, "
            f"or train first (no {trained})"
        )
    _log.info("%s", load_weights(net, path, opt.path.strict_load_g))


def _image_writer(folder: Path) -> Any:
    return lambda key, sr: save_image(folder / f"{key}.png", sr)
