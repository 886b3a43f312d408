"""Draws a training batch: the inputs of the network and their ground truth."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from srtoolbox.data.base import Batch, TrainDataset, dataset_info
from srtoolbox.data.datasets.degraded import Plan
from srtoolbox.data.stream import SampleStream
from srtoolbox.errors import UserError

_MIN_CELL, _GAP, _MARGIN = 160, 8, 24  # pixels
_STEP_COLUMNS = 76  # characters in a line
_RED = (200, 30, 30)  # of missing pixels
_WHITE, _BLACK, _GREY, _BLUE = "#ffffff", "#1c1c1e", "#6e6e73", "#0a66c2"
_GAMMA = 1 / 2.2  # brightens linear sensor values for display

# caption, lines of steps, LR frames, GT images
_Row = tuple[tuple[str, str], list[str], list[np.ndarray], list[np.ndarray]]


def draw_batch(
    stream: SampleStream,
    step: int,
    title: str,
    num_sample: int = 6,
    rgb_bands: Sequence[int] | None = None,
) -> Image.Image:
    """Draws the first samples of a step, one per row: all LR frames, enlarged, and ground truth.

    The pixels are those that ``SampleStream.batches`` returns: after crop, orientation and
    synthesis. The steps of a degradation are listed; with one for each frame, those of the first.
    RAW frames are shown as R, the mean of both G, and B, brightened by a gamma. Of other images
    with more than three bands, three are shown. Pixels of the ground truth that do not count are
    red.

    Args:
        stream: The training samples of a run.
        step: Number of the step.
        title: Title of the image.
        num_sample: Maximum number of rows.
        rgb_bands: Numbers from 1 of the bands shown as red, green and blue, or of one band shown as
            grey; None: the first three, or the first as grey if there are only two.

    Raises:
        UserError: if the samples do not have these bands.
    """
    if rgb_bands is not None and (len(rgb_bands) not in (1, 3) or min(rgb_bands) < 1):
        raise UserError(f"rgb_bands {list(rgb_bands)}: expected one or three numbers from 1 on")
    batch = next(stream.batches(step, step + 1))
    first = step * stream.batch_size
    rows: list[_Row] = []
    for index in range(min(num_sample, len(batch["key"]))):
        lq, gt = batch["lq"][index], batch["gt"][index]
        mask = batch["mask"][index] if "mask" in batch else None
        drawn = stream[first + index]
        plan = drawn.get("synthesis", {}).get("plan")
        cells = _cells(lq, gt, mask, stream.dataset, rgb_bands)
        rows.append((_caption(batch, index, drawn.get("orientation")), _steps(plan), *cells))
    names = _column_names(rows[0][2], rows[0][3], stream.dataset.reference)
    line = (
        f"seed {stream.seed}, step {step}, batch of {stream.batch_size}"
        + (f" ({len(rows)} shown)" if len(rows) < stream.batch_size else "")
        + f"; enlarged x{stream.dataset.scale} without smoothing"
    )
    return _compose(title, line, names, rows)


def _cells(
    lq: Tensor,
    gt: Tensor,
    mask: Tensor | None,
    dataset: TrainDataset,
    bands: Sequence[int] | None,
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Returns LR frames and ground truths, uint8 (H, W, 3), in the size of the ground truth."""
    info = dataset_info(dataset)
    raw = lq.shape[1] == 4 if info.raw is None else info.raw
    linear = raw and info.linear_gt
    enlarge = gt.shape[-1] // lq.shape[-1]
    pixel = np.ones((enlarge, enlarge, 1), np.uint8)
    frames = [np.kron(_to_rgb(_packed(frame) if raw else frame, raw, bands), pixel) for frame in lq]
    truths = [_to_rgb(image, linear, bands) for image in (gt if gt.ndim == 4 else gt[None])]
    if mask is not None:
        for truth, counts in zip(truths, mask if mask.ndim == 4 else mask[None], strict=True):
            truth[~counts[0].numpy()] = _RED
    return frames, truths


def _packed(frame: Tensor) -> Tensor:
    """Returns R, the mean of both G, and B of a packed RAW frame (4, h, w)."""
    return torch.stack([frame[0], (frame[1] + frame[2]) / 2, frame[3]])


def _to_rgb(pixels: Tensor, linear: bool, bands: Sequence[int] | None) -> np.ndarray:
    """Converts an image (C, H, W) in [0, 1] to uint8 RGB (H, W, 3) for display."""
    image = pixels.clamp(0, 1).numpy()
    if bands is None:
        image = image[:3] if len(image) >= 3 else image[:1]
    elif max(bands) <= len(image):
        image = image[[band - 1 for band in bands]]
    else:
        raise UserError(
            f"rgb_bands {list(bands)}: the images have {len(image)} bands; choose from 1 to "
            f"{len(image)}"
        )
    if linear:
        image = image**_GAMMA
    image = np.broadcast_to(image, (3, *image.shape[1:]))
    return np.round(image * 255).astype(np.uint8).transpose(1, 2, 0)


def _caption(batch: Batch, index: int, code: int | None) -> tuple[str, str]:
    frames, channels, *lq = batch["lq"][index].shape
    truths, *_, height, width = (1, *batch["gt"][index].shape)[-4:]
    size = f"{frames} × {lq[1]}×{lq[0]}, {channels} channels to {truths} × {width}×{height}"
    text = f"{size}; {_orientation(code)}"
    if "mask" in batch:
        text += f"; {1 - batch['mask'][index].float().mean().item():.0%} missing"
    return batch["key"][index], text


def _steps(plan: Plan | None) -> list[str]:
    """Returns the steps of a degradation in lines of text; none without a degradation."""
    steps = [] if plan is None else plan.steps
    # Lines break between steps only: textwrap does not break at these spaces.
    text = ", ".join(step.replace(" ", "\u00a0") for step in steps)
    return textwrap.wrap(text, _STEP_COLUMNS, break_long_words=False)


def _orientation(code: int | None) -> str:
    if code is None:
        return "orientation drawn with the sample"
    changes = ["mirrored"] if code % 2 else []
    changes += [f"rotated by {90 * (code // 2)}°"] if code // 2 else []
    return ", ".join(changes) or "not mirrored or rotated"


def _column_names(frames: Sequence, truths: Sequence, reference: int | None) -> list[str]:
    names = [f"LR {t}" for t in range(len(frames))]
    if len(frames) == 1:
        names = ["LR"]
    elif reference is not None:
        names[reference] += " (reference)"
    return names + (["GT"] if len(truths) == 1 else [f"GT {t}" for t in range(len(truths))])


def _font(size: int) -> ImageFont.FreeTypeFont:
    import matplotlib  # slow to import; contains a font with all letters

    return ImageFont.truetype(f"{matplotlib.get_data_path()}/fonts/ttf/DejaVuSans.ttf", size)


def _compose(title: str, line: str, names: Sequence[str], rows: Sequence[_Row]) -> Image.Image:
    """Arranges images and text.

    Args:
        title: First line.
        line: Second line.
        names: Titles of the columns.
        rows: The samples.
    """
    height, width = rows[0][3][0].shape[:2]
    num_column = len(names)
    zoom = max(1, -(-_MIN_CELL // width))
    height, width = height * zoom, width * zoom
    sheet_width = 2 * _MARGIN + num_column * (width + _GAP) + _GAP
    # Text grows with the image, because wide images are shown reduced.
    unit = max(1.0, sheet_width / 1800)
    head, body, small = (_font(int(unit * size)) for size in (20, 13, 12))
    # Space for the title and column names, and for the caption of a row.
    top, line_height = _MARGIN + int(unit * 74), int(unit * 17)
    above = int(unit * 26) + line_height * max(len(steps) for _, steps, _, _ in rows)
    texts = [line, *("   ".join(caption) for caption, _, _, _ in rows)]
    texts += [text for _, steps, _, _ in rows for text in steps]
    text_width = max(int(head.getlength(title)), *(int(body.getlength(text)) for text in texts))
    sheet_width = max(sheet_width, 2 * _MARGIN + text_width + 8)
    sheet = Image.new(
        "RGB", (sheet_width, top + len(rows) * (height + above + 2 * _GAP) + _MARGIN), _WHITE
    )
    draw = ImageDraw.Draw(sheet)
    draw.text((_MARGIN, _MARGIN - 6), title, _BLACK, head)
    draw.text((_MARGIN, _MARGIN + 26 * unit), line, _GREY, body)
    num_frame = len(rows[0][2])

    def column(index: int) -> int:  # with a gap before the ground truth
        return _MARGIN + index * (width + _GAP) + (2 * _GAP if index >= num_frame else 0)

    for index, name in enumerate(names):
        colour = _BLUE if name.startswith("GT") or "(" in name else _BLACK
        draw.text((column(index), top - 22 * unit), name, colour, small)
    for number, ((key, facts), steps, frames, truths) in enumerate(rows):
        y = top + number * (height + above + 2 * _GAP)
        draw.text((_MARGIN, y + 4), key, _BLACK, body)
        draw.text((_MARGIN + body.getlength(key) + 14 * unit, y + 4), facts, _GREY, body)
        for count, text in enumerate(steps, 1):
            draw.text((_MARGIN, y + 4 + count * line_height), text, _GREY, small)
        for index, image in enumerate([*frames, *truths]):
            cell = Image.fromarray(np.ascontiguousarray(image))
            cell = cell.resize((width, height), Image.Resampling.NEAREST)
            sheet.paste(cell, (column(index), y + above))
    return sheet
