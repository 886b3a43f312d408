"""The figures of a study, drawn from its store: crops side by side, and learning curves."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from srtoolbox.comparison.results import Entry, ResultStore, StudyCard
from srtoolbox.data.reader import read_image
from srtoolbox.engine.files import read_lines

_CROP = 1 / 3  # of the image's shorter side


def draw_comparison(store: ResultStore, card: StudyCard, path: Path) -> bool:
    """A grid: each image with a frame around the crop, then the crop of LR, every method and GT.

    The crop is where the methods disagree most. Returns False if no images were kept.
    """
    entries = _first_seed(card)
    rows = [
        (dataset, record["key"])
        for dataset in dict.fromkeys(name for entry in entries for name in entry.evaluations)
        for record in store.records(entries[0].evaluations.get(dataset, ""))
        if (store.image_folder(dataset) / f"{_stem(record['key'])}_gt.png").exists()
    ]
    if not rows:
        return False
    figure_class = _figure_class()
    columns = len(entries) + 3
    figure = figure_class(figsize=(1.75 * columns, 2.05 * len(rows)), layout="constrained")
    axes = figure.subplots(len(rows), columns, squeeze=False)
    for line, (dataset, key) in zip(axes, rows, strict=True):
        for axis in line:
            axis.set_axis_off()
        _draw_row(line, store, entries, dataset, key)
    figure.savefig(path, dpi=160)
    return True


def draw_curves(store: ResultStore, card: StudyCard, path: Path) -> bool:
    """Training loss and validation score over the steps. Returns False if nothing was trained."""
    trained = [entry for entry in _first_seed(card) if entry.run]
    logs = {e.method: list(read_lines(store.folder / e.run / "log.jsonl")) for e in trained}
    scores = {
        e.method: list(read_lines(store.folder / e.run / "evaluation.jsonl")) for e in trained
    }
    if not any(logs.values()):
        return False
    figure = _figure_class()(figsize=(11, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    for method, lines in logs.items():
        losses = [name for name in (lines[0] if lines else {}) if name not in _NO_LOSS]
        total = [sum(line[name] for name in losses) for line in lines]
        left.plot([line["step"] for line in lines], total, label=method)
    metric = next(iter(card.metrics))
    unit = card.metrics[metric]["unit"]
    for method, lines in scores.items():
        first = [line for line in lines if line["dataset"] == lines[0]["dataset"]]
        right.plot(
            [line["step"] for line in first],
            [line[metric] for line in first],
            marker="o",
            markersize=3,
            label=method,
        )
    left.set(title="training loss", xlabel="iteration", yscale="log")
    right.set(
        title=f"validation {metric.upper()}{f' ({unit})' if unit else ''}", xlabel="iteration"
    )
    for axis in (left, right):
        axis.grid(alpha=0.3)
        axis.spines[["top", "right"]].set_visible(False)
    right.legend(frameon=False)
    figure.savefig(path, dpi=130)
    return True


_NO_LOSS = {"step", "lr", "it/s", "data wait", "memory"}


def _draw_row(line, store: ResultStore, entries: list[Entry], dataset: str, key: str) -> None:
    stem, originals = _stem(key), store.image_folder(dataset)
    gt = _read(originals / f"{stem}_gt.png")
    lq = _read(originals / f"{stem}_lq.png")
    lq = cv2.resize(lq, gt.shape[1::-1], interpolation=cv2.INTER_NEAREST)
    results = {}
    for entry in entries:
        file = store.image_folder(entry.evaluations.get(dataset, "-")) / f"{stem}.png"
        if file.exists():
            results[entry.method] = _read(file), _caption(store, entry, dataset, key)
    y, x, size = _disagreement([image for image, _ in results.values()])
    line[0].imshow(gt)
    line[0].set_title(key, fontsize=7)
    line[0].add_patch(_rectangle(x, y, size))
    crop = np.s_[y : y + size, x : x + size]
    cells = [("LR", lq, ""), *((m, image, text) for m, (image, text) in results.items())]
    cells.append(("GT", gt, ""))
    for axis, (name, image, text) in zip(line[1:], cells, strict=False):
        axis.imshow(image[crop], interpolation="nearest")
        axis.set_title(f"{name}\n{text}" if text else name, fontsize=7)


def _read(path: Path) -> np.ndarray:
    """An image as it can be shown: uint8 (H, W, 3)."""
    image = read_image(path)
    if image.dtype != np.uint8:
        whole = np.iinfo(image.dtype).max if image.dtype.kind == "u" else 1
        image = np.round(image * (255 / whole)).astype(np.uint8)
    return np.ascontiguousarray(np.broadcast_to(image, (3, *image.shape[1:])).transpose(1, 2, 0))


def _disagreement(images: list[np.ndarray]) -> tuple[int, int, int]:
    """Corner (y, x) and side of the square in which the images differ most from each other."""
    stack = np.stack(images).astype(np.float32)
    spread = stack.var(axis=0).sum(axis=-1)
    size = max(8, int(min(spread.shape) * _CROP))
    size = min(size, *spread.shape)
    total = cv2.boxFilter(spread, -1, (size, size), anchor=(0, 0), borderType=cv2.BORDER_CONSTANT)
    inside = total[: spread.shape[0] - size + 1, : spread.shape[1] - size + 1]
    y, x = np.unravel_index(int(inside.argmax()), inside.shape)
    return int(y), int(x), size


def _caption(store: ResultStore, entry: Entry, dataset: str, key: str) -> str:
    for record in store.records(entry.evaluations[dataset]):
        if record["key"] == key:
            metric, value = next(iter(record["metrics"].items()))
            return f"{value:.2f} dB" if metric == "psnr" else f"{metric} {value:.3f}"
    return ""


def _first_seed(card: StudyCard) -> list[Entry]:
    seed = card.entries[0].seed if card.entries else 0
    return [entry for entry in card.entries if entry.seed == seed]


def _stem(key: str) -> str:
    return key.replace("/", "__")


def _figure_class():
    from matplotlib.figure import Figure  # heavy, and only reports draw

    return Figure


def _rectangle(x: int, y: int, size: int):
    from matplotlib.patches import Rectangle

    return Rectangle((x, y), size, size, fill=False, edgecolor="#ff3b30", linewidth=1.5)
