"""Scoring one network on test sets, as `srtoolbox test` does."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from srtoolbox.config.files import Tree, as_tree, dump, merge, read
from srtoolbox.config.load import check_options
from srtoolbox.engine.build import assemble, build_dataset, build_network, fingerprint
from srtoolbox.engine.evaluation.evaluator import Evaluator, average
from srtoolbox.engine.evaluation.images import image_writer
from srtoolbox.engine.options import RunOptions
from srtoolbox.engine.weights.load import load_weights, read_weights, weights_hash
from srtoolbox.errors import UserError
from srtoolbox.utils.environment import describe_environment
from srtoolbox.utils.files import write_atomic

_log = logging.getLogger("srtoolbox")


def load_test_options(
    path: Path | None,
    overrides: Sequence[str] = (),
    weights: Path | None = None,
    data: tuple[Path, Path] | None = None,
) -> RunOptions:
    """Options of a test, of which a weight file may give the network and a name.

    Args:
        path: Option file; may be None or leave out ``network_g`` if the weights say their arch.
        overrides: As for ``read``.
        weights: Weight file; default ``path.pretrain_network_g``.
        data: Folders of LR and GT images: one more test set, named as the second.

    Raises:
        UserError: if network or datasets are said nowhere, or the options are faulty.
    """
    tree = read(path, overrides)
    if data is not None:
        lq, gt = data
        pair = {"type": "PairedImages", "dataroot_lq": str(lq), "dataroot_gt": str(gt)}
        more = {"datasets": {"test": {gt.resolve().name: pair}}}
        tree = merge(as_tree(more, "--data"), tree)
    if path is None and "datasets" not in tree:
        raise UserError("no images to test on: give an option file, or --data LR_DIR GT_DIR")
    paths = tree.get("path")
    paths = paths if isinstance(paths, Tree) else {}
    if weights is None and isinstance(paths.get("pretrain_network_g"), str):
        weights = Path(paths["pretrain_network_g"]).expanduser()
    if weights is None:
        if path is None and "network_g" not in tree:
            raise UserError("no network to test: give an option file, or --weights FILE")
        return check_options(tree, RunOptions)
    said: dict[str, Any] = {"name": weights.stem}
    network = tree.get("network_g", Tree())
    if isinstance(network, Tree) and "type" not in network:
        said["network_g"] = read_weights(weights, paths.get("param_key_g")).require_arch()
        if "scale" in said["network_g"]:
            said["scale"] = said["network_g"]["scale"]
    return check_options(merge(as_tree(said, str(weights)), tree), RunOptions)


def test(
    opt: RunOptions, device: torch.device, weights: Path | None = None
) -> tuple[dict[str, dict[str, float | None]], str, Path]:
    """Scores the options' network on their test sets (or validation sets, if there are none).

    Args:
        opt: Checked options.
        device: Where to run.
        weights: Weight file; default what these options were trained to, then
            ``path.pretrain_network_g``, then what another run of that name was trained to.

    Returns:
        Mean scores by dataset, the description of the protocol and of ``val.enhance``, and the
        folder with the per-image records (and SR images, with ``val.save_img``).
    """
    sets = opt.datasets.test or opt.datasets.val
    if not sets:
        raise UserError(f"{opt.name}: the options name no dataset under datasets.test")
    net = build_network(opt, device)
    _load(net, opt, weights)
    net, enhance = assemble(opt, net), opt.val.enhance
    datasets = {name: build_dataset(name, spec, opt, net) for name, spec in sets.items()}
    precision = opt.train.precision if opt.train else "fp32"
    evaluator = Evaluator(opt.val, device, precision)
    how = "".join(f"-{key}={value}" for key, value in enhance.changed.items())
    folder = opt.folder / "test" / f"{evaluator.protocol.name}-{weights_hash(net)}{how}"
    scores, records = {}, []
    for name, dataset in datasets.items():
        _log.info("scoring %s on %s (%d)", opt.name, name, len(dataset))
        keep = image_writer(folder / name) if opt.val.save_img else None
        scored = evaluator.run(net, dataset, keep, enhance)
        scores[name] = average(scored, evaluator.protocol.average)
        facts = {"dataset": name, "protocol": evaluator.protocol.hash}
        records += [{**facts, **record} for record in scored]
    write_atomic(folder / "results.jsonl", "".join(json.dumps(r) + "\n" for r in records))
    write_atomic(folder / "options.yml", dump(opt))
    environment = json.dumps(describe_environment(device), indent=1)
    write_atomic(folder / "environment.json", environment)
    return scores, opt.val.describe(), folder


def _load(net: nn.Module, opt: RunOptions, weights: Path | None) -> None:
    if not net.state_dict():
        return
    trained = opt.folder / "weights" / "net_g_latest.pth"
    own = trained if trained.exists() else None
    given = opt.path.pretrain_network_g
    # Of a training that was done as these very options say, those weights are where it started.
    path = weights or (own if own and _trained_so(opt) else given or own)
    if path is None:
        raise UserError(
            f"{opt.name}: no weights to test: give --weights FILE, set path.pretrain_network_g, "
            f"or train first (no {trained})"
        )
    _log.info("%s", load_weights(net, path, opt.path.strict_load_g, opt.path.param_key_g))


def _trained_so(opt: RunOptions) -> bool:
    """Whether the run's folder holds a training by these options."""
    card = opt.folder / "run.json"
    if opt.train is None or not card.exists():
        return False
    return json.loads(card.read_text()).get("fingerprint") == fingerprint(opt)
