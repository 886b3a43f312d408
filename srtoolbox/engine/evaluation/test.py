"""Evaluates one network on test sets, for `srtoolbox test`."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from srtoolbox.archs.base import arch_info
from srtoolbox.config.files import Tree, as_tree, dump, merge, read
from srtoolbox.config.load import check_options
from srtoolbox.data.files.find import scan_pair
from srtoolbox.data.files.image_info import ReadOptions
from srtoolbox.data.files.reader import image_info
from srtoolbox.engine.build import assemble, build_dataset, build_network, fingerprint
from srtoolbox.engine.evaluation.evaluator import Evaluator
from srtoolbox.engine.evaluation.images import image_writer
from srtoolbox.engine.evaluation.records import Record, average, not_finite
from srtoolbox.engine.options import RunOptions
from srtoolbox.engine.weights.load import load_weights, read_weights, weights_hash
from srtoolbox.engine.weights.pixels import PixelFacts
from srtoolbox.errors import UserError
from srtoolbox.utils.environment import describe_environment
from srtoolbox.utils.files import user_path, write_atomic
from srtoolbox.utils.portable import to_json

_log = logging.getLogger("srtoolbox")


@dataclass(frozen=True)
class TestResult:
    """The result of a test.

    Attributes:
        scores: Mean scores by dataset and metric; None where a metric was unavailable.
        protocol: Description of the protocol, of ``val.enhance``, of tiles and of segments.
        folder: Folder with ``results.jsonl`` (one record per image), ``options.yml``,
            ``environment.json``, and the SR images with ``val.save_img``.
        nan: Sentences on scores that are NaN; the test failed if there are any.
        infinite: Sentences on infinite scores.
        sources: The weights that metrics use: ``text`` and ``content`` hash by metric.
    """

    scores: dict[str, dict[str, float | None]]
    protocol: str
    folder: Path
    nan: tuple[str, ...] = ()
    infinite: tuple[str, ...] = ()
    sources: Mapping[str, dict[str, str]] = field(default_factory=dict)


def run_test(opt: RunOptions, device: torch.device, weights: Path | None = None) -> TestResult:
    """Evaluates a network on ``datasets.test``, or on ``datasets.val`` if there are no test sets.

    Args:
        opt: Checked options.
        device: Device of the network.
        weights: Weight file. By default the result of a training with these options, then
            ``path.pretrain_network_g``, then the result of another training with this name. A
            network that is built from a weight file needs none of them.

    Raises:
        UserError: if there are no test sets or no weights, or if they do not suit the network.
    """
    sets = opt.datasets.test or opt.datasets.val
    if not sets:
        raise UserError(f"{opt.name}: the options name no dataset under datasets.test")
    net = build_network(opt, device)
    _load(net, opt, weights)
    net, enhance = assemble(opt, net), opt.val.enhance
    datasets = {name: build_dataset(name, spec, opt, net) for name, spec in sets.items()}
    evaluator = Evaluator(opt.val, device, opt.train.precision if opt.train else "fp32")
    protocol = evaluator.protocol
    settings = enhance.changed
    if opt.val.segment is not None:
        settings["segment"] = f"{opt.val.segment}+{opt.val.segment_overlap}"
    changed = "".join(f"-{key}={value}" for key, value in settings.items())
    folder = opt.folder / "test" / f"{protocol.name}-{weights_hash(net)}{changed}"
    scores: dict[str, dict[str, float | None]] = {}
    nan: list[str] = []
    infinite: list[str] = []
    lines: list[Record] = []
    for name, dataset in datasets.items():
        _log.info("evaluating %s on %s (%d samples)", opt.name, name, len(dataset))
        on_image = image_writer(folder / name, opt.val.rgb_bands) if opt.val.save_img else None
        records = evaluator.run(net, dataset, on_image, enhance)[protocol.name]
        scores[name] = average(records, protocol.average, evaluator.lower_is_better)
        for sentences, found in zip(
            (nan, infinite), not_finite(records, evaluator.lower_is_better), strict=True
        ):
            sentences += [f"{name}: {sentence}" for sentence in found]
        facts = {"dataset": name, "protocol": protocol.hash}
        lines += [{**facts, **record} for record in records]
    write_atomic(folder / "results.jsonl", "".join(to_json(line) + "\n" for line in lines))
    write_atomic(folder / "options.yml", dump(opt))
    found = {name: metric.source() for name, metric in evaluator.metrics.items()}
    sources = {name: source for name, source in found.items() if source}
    facts = {**describe_environment(device), **({"metrics": sources} if sources else {})}
    environment = json.dumps(facts, indent=1)
    write_atomic(folder / "environment.json", environment)
    return TestResult(scores, opt.val.describe(), folder, tuple(nan), tuple(infinite), sources)


def _load(net: nn.Module, opt: RunOptions, weights: Path | None) -> None:
    """Loads the weights to test; see ``run_test``."""
    if not net.state_dict():
        return
    latest = opt.folder / "weights" / "net_g_latest.pth"
    trainable = any(parameter.requires_grad for parameter in net.parameters())
    trained = latest if trainable and latest.exists() else None
    pretrained = opt.path.pretrain_network_g
    # A training with these very options started from the pretrained weights.
    card = opt.folder / "run.json"
    trained_here = trained and opt.train is not None and card.exists()
    same = trained_here and json.loads(card.read_text()).get("fingerprint") == fingerprint(opt)
    own = trained if same else None
    path = weights or own or pretrained or trained
    if path is None and (origin := arch_info(net).origin):
        _log.info("%s: %s", opt.name, origin)
        return
    if path is None:
        raise UserError(
            f"{opt.name}: no weights to test: give --weights FILE, set path.pretrain_network_g, "
            f"or train first (no {latest})"
        )
    _log.info("%s", load_weights(net, path, opt.path.strict_load_g, opt.path.param_key_g))


def load_test_options(
    path: Path | None,
    overrides: Sequence[str] = (),
    weights: Path | None = None,
    data: tuple[Path, Path] | None = None,
) -> RunOptions:
    """Reads and checks the options of a test; option file and overrides come first.

    Args:
        path: Option file. It may be None, and it may leave out ``network_g`` if the weight file
            contains its arch.
        overrides: As for ``read``.
        weights: Weight file; default: ``path.pretrain_network_g``.
        data: Folders of LR and GT images that form one more test set, with the name of the GT
            folder. Bands and levels are those of the training data that the weight file states; for
            other numbers of bands than one or three the protocol is "bands".

    Raises:
        UserError: if there is no network or no dataset, or the options are faulty.
    """
    tree = read(path, overrides)
    if path is None and data is None and "datasets" not in tree:
        raise UserError("no images to test on: give an option file, or --data LR_DIR GT_DIR")
    paths = tree.get("path")
    paths = paths if isinstance(paths, Tree) else Tree()
    if weights is None and isinstance(paths.get("pretrain_network_g"), str):
        weights = user_path(paths["pretrain_network_g"])
    if data is not None:
        facts = PixelFacts()
        if weights is not None:
            facts = read_weights(weights, paths.get("param_key_g")).pixels
        tree = merge(as_tree(_data_options(*data, facts), "--data"), tree)
    if weights is not None:
        tree = merge(_weights_options(weights, tree, paths.get("param_key_g")), tree)
    elif path is None and "network_g" not in tree:
        raise UserError("no network to test: give an option file, or --weights FILE")
    return check_options(tree, RunOptions)


def _data_options(lq: Path, gt: Path, facts: PixelFacts) -> dict[str, Any]:
    """Returns the options of a test set of two folders, read as the training data were."""
    spec: dict[str, Any] = {"dataroot_lq": str(lq), "dataroot_gt": str(gt)}
    found = facts.to_json()
    if facts.bands is not None and _has_bands(lq, facts.bands):
        spec["bands"] = found["bands"]
    if facts.has_levels:
        levels = ("white_level", "black_level", "scale_floats")
        spec |= {name: found[name] for name in levels if name in found}
    options: dict[str, Any] = {}
    if facts.channels not in (1, 3):
        options["val"] = {"protocol": "bands"}
    stated = [f"{name}: {value}" for name, value in spec.items() if not name.startswith("dataroot")]
    stated += [f"val.protocol: {value['protocol']}" for value in options.values()]
    if stated:
        _log.info("--data: as in the training of the weights, unless set: %s", ", ".join(stated))
    name = gt.resolve().name
    return {"datasets": {"test": {name: {"type": "PairedImages", **spec}}}, **options}


def _has_bands(folder: Path, bands: tuple[int, ...]) -> bool:
    """Returns whether the first image of a folder has all these bands."""
    try:
        items, _ = scan_pair(folder)
        image_info(items[0].gt[0], ReadOptions(bands=bands, any_range=True))
    except (UserError, IndexError):
        return False  # if there is no image, the dataset reports it
    return True


def _weights_options(weights: Path, tree: Tree, key: str | None) -> Tree:
    """Returns a name and, if the options leave out the network, the arch in a weight file."""
    options: dict[str, Any] = {"name": weights.stem}
    network = tree.get("network_g", Tree())
    if isinstance(network, Tree) and "type" not in network:
        arch = read_weights(weights, key).require_arch()
        options["network_g"] = arch
        if "scale" in arch:
            options["scale"] = arch["scale"]
    return as_tree(options, str(weights))
