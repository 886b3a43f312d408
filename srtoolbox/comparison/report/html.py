"""Writes a study as one HTML page that works offline: no request, no other file, no server."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from srtoolbox.comparison.analysis.scores import Scores
from srtoolbox.comparison.report.crops import Picture, Profile
from srtoolbox.comparison.report.image_figures import ERROR_COLORS
from srtoolbox.comparison.report.table import TIED_MARK, Table
from srtoolbox.utils.portable import to_json

if TYPE_CHECKING:
    from jinja2 import Template

_STAGE_SIZE = 640  # most pixels of a side in the before-and-after view
_LOSSLESS = [cv2.IMWRITE_WEBP_QUALITY, 101]


def to_html(
    views: Sequence[Scores],
    tables: Sequence[Table],
    pictures: Sequence[Picture],
    profiles: Sequence[Profile],
    charts: Mapping[str, bytes],
) -> str:
    """Returns the page; the same arguments give the same text.

    Args:
        views: Scores of one study, one view per protocol.
        tables: All tables, the overview first.
        pictures: Pictures for the slider, the crops and the error maps.
        profiles: Temporal profiles of clips.
        charts: SVG by name: ``curves``, ``sweeps``, and ``tradeoff_…`` and ``differences_…`` of
            each dataset.
    """
    scores = views[0]

    def chart(name: str, text: str, dataset: str | None = None) -> list[dict[str, Any]]:
        return [{"svg": charts[name], "text": text, "dataset": dataset}] if name in charts else []

    general = [table for table in tables if table.dataset is None]
    tradeoffs = [
        tradeoff
        for dataset in scores.main_datasets
        for tradeoff in chart(f"tradeoff_{dataset}", f"Quality on {dataset} against cost", dataset)
    ]
    sections: dict[str, dict[str, Sequence[Any]]] = {  # by title; empty ones are left out
        "Overview": {"tables": [table for table in general if table.quantity is None]},
        "Sweeps": {
            "charts": chart("sweeps", "Scores over the quantities that test sets differ in"),
            "tables": [table for table in general if table.quantity is not None],
        },
        "Cost": {"charts": tradeoffs},
        "Training": {"charts": chart("curves", "Training loss and validation score")},
    }
    for dataset in scores.datasets:
        own = [table for table in tables if table.dataset == dataset]
        sections[f"Statistics: {dataset}"] = {
            "charts": chart(f"differences_{dataset}", f"Differences on {dataset}", dataset),
            # Tables by image or clip are long: they come last, and the page folds them.
            "tables": sorted(own, key=lambda table: table.across),
        }
    sections |= {
        "Before and after": {"slider": pictures},
        "Crops": {"crops": pictures},
        "Error maps": {"error_maps": pictures},
        "Temporal profiles": {"profiles": profiles},
    }
    choices = {
        "dataset": scores.main_datasets,
        "protocol": [view.card.protocol["name"] for view in views],
    }
    return _template().render(
        card=scores.card,
        lead=_lead(views),
        filters={name: values for name, values in choices.items() if len(values) > 1},
        sections={title: parts for title, parts in sections.items() if any(parts.values())},
    )


def _template() -> Template:
    """Returns the template of the page with everything that it calls."""
    from jinja2 import Environment, PackageLoader, StrictUndefined
    from markupsafe import Markup

    loader = PackageLoader("srtoolbox.comparison.report", "templates")
    # StrictUndefined: a misspelt name in a template is an error, not an empty text.
    options = {"undefined": StrictUndefined, "trim_blocks": True, "lstrip_blocks": True}
    environment = Environment(loader=loader, autoescape=True, **options)
    environment.filters |= {
        "anchor": lambda title: "-".join(title.lower().split()),
        "svg_address": lambda svg: _data_address(svg, "image/svg+xml"),
        "image_address": _image_address,
        "error_colors": _error_colors,
        "js_number": lambda value: "" if value is None else to_json(value).strip('"'),
        "shrink": _shrink,
        "stage": _stage,
    }
    environment.globals |= {
        "source": lambda name: Markup(loader.get_source(environment, name)[0].strip()),
        "tied_mark": TIED_MARK,
        "ramp": np.linspace(0, 1, 256)[None],
    }
    return environment.get_template("page.html.j2")


def _lead(views: Sequence[Scores]) -> str:
    """Returns the line below the title: counts and protocols."""
    scores = views[0]
    datasets = [dataset for dataset in scores.datasets if not scores.repeats(dataset)]
    counts = {
        "method": len(scores.methods),
        "dataset": len(datasets),
        "test image": sum(len(scores.keys(dataset)) for dataset in datasets),
        "seed": len({entry.seed for entry in scores.card.entries}),
    }
    words = [f"{count} {name}{'' if count == 1 else 's'}" for name, count in counts.items()]
    protocols = [scores.card.protocol for scores in views]
    names = ", ".join(f"{protocol['name']} ({protocol['hash']})" for protocol in protocols)
    return " · ".join([*words, f"protocol {names}"])


def _stage(picture: Picture) -> tuple[slice, slice]:
    """Returns the rows and columns of a picture that the before-and-after view shows."""
    y, x, side = picture.region
    window = []
    for start, size in ((y, picture.gt.shape[0]), (x, picture.gt.shape[1])):
        length = min(size, max(_STAGE_SIZE, side))
        first = min(max(0, start + side // 2 - length // 2), size - length)
        window.append(slice(first, first + length))
    return window[0], window[1]


def _shrink(image: np.ndarray, size: int) -> np.ndarray:
    """Returns the image, reduced if its longer side exceeds ``size`` pixels."""
    height, width = image.shape[:2]
    factor = size / max(height, width)
    if factor >= 1:
        return image
    shape = max(1, round(width * factor)), max(1, round(height * factor))
    return cv2.resize(image, shape, interpolation=cv2.INTER_AREA)


def _error_colors(errors: np.ndarray) -> np.ndarray:
    """Returns (H, W, 3) uint8 of errors (H, W); those above 1 get the last colour."""
    from matplotlib import colormaps  # slow to import

    colors: Any = colormaps[ERROR_COLORS](np.clip(errors, 0, 1))
    return (colors[..., :3] * 255).round().astype(np.uint8)


def _image_address(image: np.ndarray) -> str:
    """Returns (H, W, 3) uint8 RGB as a data address of a lossless WebP image."""
    pixels = cv2.cvtColor(np.ascontiguousarray(image), cv2.COLOR_RGB2BGR)
    _, content = cv2.imencode(".webp", pixels, _LOSSLESS)
    return _data_address(content.tobytes(), "image/webp")


def _data_address(content: bytes, kind: str) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"
