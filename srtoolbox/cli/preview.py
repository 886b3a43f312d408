"""Opens the training samples of an option file, or of a folder in a known layout."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from srtoolbox.config.files import Tree, as_tree, merge, read
from srtoolbox.config.load import check_options
from srtoolbox.config.schema import build, option
from srtoolbox.data.base import check_dataset, dataset_info
from srtoolbox.data.datasets.source import DATASET_TYPES
from srtoolbox.data.layouts import get_layout
from srtoolbox.data.stream import SampleStream
from srtoolbox.engine.options import DatasetsOptions
from srtoolbox.errors import UserError


@dataclass(frozen=True)
class _BatchOptions:
    batch_size: int = option(default=4, min=1)


@dataclass(frozen=True)
class _SampleOptions:
    """The options that decide the training samples."""

    datasets: DatasetsOptions
    scale: int = option(default=4, min=1)
    manual_seed: int = option(default=0, min=0)
    plugins: list[str] = option(default=[])
    train: _BatchOptions = field(default_factory=_BatchOptions)


def open_stream(
    name: str, overrides: Sequence[str] = (), source: Path | None = None
) -> SampleStream:
    """Returns the stream of training samples.

    Args:
        name: Option file of a run or study, or one that only describes data; with ``source``: a
            layout.
        overrides: ``KEY=VALUE`` each.
        source: Folder of a dataset in that layout.

    Raises:
        UserError: if there is no training dataset, or it cannot be built.
    """
    if source is None:
        tree = read(name, overrides)
    else:
        tree = merge(as_tree(_describe(name, source), "--source"), read(None, overrides))
    opt = check_options(_sample_tree(tree), _SampleOptions)
    spec = opt.datasets.train
    if spec is None:
        raise UserError(f"{name}: describes no training data (datasets.train)")
    # The cache does not change the samples, and a few samples do not need all files decoded.
    spec = {key: value for key, value in spec.items() if key not in ("cache", "cache_limit")}
    dataset = build("dataset", spec, scale=opt.scale, **_channels(tree))
    check_dataset(dataset, training=True)
    if (check_training := dataset_info(dataset).check_training) is not None:
        check_training()
    return SampleStream(dataset, opt.manual_seed, opt.train.batch_size)


def _channels(tree: Tree) -> dict[str, int]:
    """Returns the number of channels that the options give the network, if they do."""
    network = tree.get("network_g")
    number = network.get("num_in_ch") if isinstance(network, Tree) else None
    return {"channels": number} if isinstance(number, int) else {}


def _describe(name: str, source: Path) -> dict[str, Any]:
    layout = get_layout(name)
    split = "train" if "train" in layout.splits else next(iter(layout.splits))
    spec = {"type": DATASET_TYPES[layout.kind], "layout": layout.name, "dataroot": str(source)}
    scale = 4 if not layout.scales or 4 in layout.scales else layout.scales[0]
    # Layouts count sensor pixels; a packed RAW frame has half as many rows and columns.
    return {
        "scale": 2 * scale if layout.raw else scale,
        "datasets": {"train": {**spec, "split": split}},
    }


def _sample_tree(tree: Tree) -> Tree:
    """Returns the part of ``tree`` that decides the samples."""
    part = _select(tree, "datasets", "scale", "manual_seed", "plugins")
    if isinstance(train := tree.get("train"), Tree):
        part.put("train", _select(train, "batch_size"), tree.marks["train"])
    return part


def _select(tree: Tree, *keys: str) -> Tree:
    part = Tree(tree.where)
    for key in keys:
        if key in tree:
            part.put(key, tree[key], tree.marks[key])
    return part
