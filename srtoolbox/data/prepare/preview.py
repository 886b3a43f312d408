"""A picture of a training batch: what the network is given, and what it is to make of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from srtoolbox.data.stream import Sample, SampleStream

_SMALLEST_CELL, _GAP, _MARGIN = 160, 8, 24  # pixels
_PAPER, _INK, _GREY, _BLUE = "#ffffff", "#1c1c1e", "#6e6e73", "#0a66c2"
_GAMMA = 1 / 2.2  # makes linear sensor values fit to be seen
_WORDS = ("as it is", "mirrored")


def draw_batch(stream: SampleStream, step: int, title: str, num_sample: int = 6) -> Image.Image:
    """The first samples of a step, one per row: all LR frames, pixel by pixel, and ground truth.

    Pixels are those that leave ``SampleStream.batches``: after crop, orientation and synthesis.
    RAW frames are shown as R, the mean of both G, and B, brightened by a gamma.

    Args:
        stream: The training samples of a run.
        step: Which step of it.
        title: What stands above.
        num_sample: Most rows.
    """
    batch = next(stream.batches(step, step + 1))
    first = step * stream.batch_size
    rows = []
    for index in range(min(num_sample, len(batch["key"]))):
        lq, gt = batch["lq"][index], batch["gt"][index]
        code = stream[first + index].get("orientation")
        rows.append((_caption(batch, index, code), *_cells(lq, gt, stream.dataset)))
    names = _column_names(rows[0][1], rows[0][2], stream.dataset.reference)
    line = (
        f"seed {stream.seed}, step {step}, batch of {stream.batch_size}"
        + (f", of which {len(rows)} are shown" if len(rows) < stream.batch_size else "")
        + f"; enlarged x{stream.dataset.scale} without smoothing"
    )
    return _compose(title, line, names, rows)


def _cells(lq: Tensor, gt: Tensor, dataset: Any) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """The images of a row, uint8 (H, W, 3) in the size of the ground truth."""
    raw = lq.shape[1] == 4
    layout = getattr(dataset, "layout", None)
    # Made bursts, and data with a white level, have a ground truth in sensor values too.
    linear = raw and (layout is None or layout.gt_white_level is not None)
    enlarge = gt.shape[-1] // lq.shape[-1]
    frames = [np.kron(_visible(one, raw), np.ones((enlarge, enlarge, 1), np.uint8)) for one in lq]
    truths = [_visible(one, linear) for one in (gt if gt.ndim == 4 else gt[None])]
    return frames, truths


def _visible(pixels: Tensor, linear: bool) -> np.ndarray:
    image = pixels.clamp(0, 1).numpy()
    if len(image) == 4:
        image = np.stack([image[0], (image[1] + image[2]) / 2, image[3]])
    if linear:
        image = image**_GAMMA
    return np.round(image * 255).astype(np.uint8).transpose(1, 2, 0)


def _caption(batch: Sample, index: int, code: int | None) -> tuple[str, str]:
    frames, channels, *lq = batch["lq"][index].shape
    truths, *_, height, width = (1, *batch["gt"][index].shape)[-4:]
    size = f"{frames} × {lq[1]}×{lq[0]}, {channels} channels to {truths} × {width}×{height}"
    return batch["key"][index], f"{size}; {_orientation(code)}"


def _orientation(code: int | None) -> str:
    if code is None:
        return "orientation drawn with the sample"
    turn = f"turned {90 * (code >> 1)}°" if code >> 1 else ""
    if not turn:
        return _WORDS[code & 1]
    return f"mirrored, {turn}" if code & 1 else turn


def _column_names(frames: Sequence, truths: Sequence, reference: int | None) -> list[str]:
    names = [f"LR {t}" for t in range(len(frames))]
    if len(frames) == 1:
        names = ["LR"]
    elif reference is not None:
        names[reference] += " (reference)"
    return names + (["GT"] if len(truths) == 1 else [f"GT {t}" for t in range(len(truths))])


def _font(size: int) -> ImageFont.FreeTypeFont:
    import matplotlib  # heavy; it brings a font that has all letters

    return ImageFont.truetype(f"{matplotlib.get_data_path()}/fonts/ttf/DejaVuSans.ttf", size)


def _compose(
    title: str, line: str, names: Sequence[str], rows: Sequence[tuple[tuple[str, str], list, list]]
) -> Image.Image:
    """Puts images and text on one sheet."""
    height, width = rows[0][2][0].shape[:2]
    num_column = len(names)
    zoom = max(1, -(-_SMALLEST_CELL // width))
    height, width = height * zoom, width * zoom
    sheet_width = 2 * _MARGIN + num_column * (width + _GAP) + _GAP
    unit = max(1.0, sheet_width / 1800)  # a wide sheet is looked at from further away
    head, body, small = (_font(int(unit * size)) for size in (20, 13, 12))
    # Room for the title and column names, and for a row's caption.
    top, above = _MARGIN + int(unit * 74), int(unit * 26)
    least = max(int(body.getlength(text)) for text in (line, *("   ".join(r[0]) for r in rows)))
    sheet_width = max(sheet_width, 2 * _MARGIN + max(least, int(head.getlength(title))) + 8)
    sheet = Image.new(
        "RGB", (sheet_width, top + len(rows) * (height + above + 2 * _GAP) + _MARGIN), _PAPER
    )
    draw = ImageDraw.Draw(sheet)
    draw.text((_MARGIN, _MARGIN - 6), title, _INK, head)
    draw.text((_MARGIN, _MARGIN + 26 * unit), line, _GREY, body)
    num_frame = len(rows[0][1])

    def column(index: int) -> int:  # the ground truth stands a little apart
        return _MARGIN + index * (width + _GAP) + (2 * _GAP if index >= num_frame else 0)

    for index, name in enumerate(names):
        colour = _BLUE if name.startswith("GT") or "(" in name else _INK
        draw.text((column(index), top - 22 * unit), name, colour, small)
    for number, ((key, facts), frames, truths) in enumerate(rows):
        y = top + number * (height + above + 2 * _GAP)
        draw.text((_MARGIN, y + 4), key, _INK, body)
        draw.text((_MARGIN + body.getlength(key) + 14 * unit, y + 4), facts, _GREY, body)
        for index, image in enumerate([*frames, *truths]):
            cell = Image.fromarray(np.ascontiguousarray(image))
            cell = cell.resize((width, height), Image.Resampling.NEAREST)
            sheet.paste(cell, (column(index), y + above))
    return sheet
