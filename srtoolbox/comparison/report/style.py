"""The common style of a report's figures, and their conversion to PNG and SVG."""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# The colours of Okabe and Ito can be distinguished with every kind of colour vision. Their yellow
# is left out: yellow lines are hardly visible on white. Markers and dashes distinguish methods in
# grey print.
_COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#444444")
_MARKERS = ("o", "s", "^", "D", "v", "P", "X")
_DASHES = ("-", (0, (5, 1.5)), (0, (1, 1.2)), (0, (6, 1.5, 1, 1.5)))

INK, QUIET, RULE, ACCENT = "#1d2733", "#5b6773", "#d5dbe1", "#d1495b"

# Used for characters that DejaVu Sans lacks, if they are installed.
_WIDE_FONTS = (
    "Noto Sans CJK SC",
    "Noto Sans SC",
    "Source Han Sans SC",
    "WenQuanYi Micro Hei",
    "WenQuanYi Zen Hei",
    "Noto Sans CJK JP",
    "Microsoft YaHei",
    "SimHei",
    "PingFang SC",
    "Hiragino Sans",
    "Malgun Gothic",
    "Droid Sans Fallback",
)

_log = logging.getLogger("srtoolbox")

_STYLE: dict[Any, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 8.5,
    "axes.titlesize": 9.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlepad": 8,
    "axes.labelcolor": QUIET,
    "axes.labelsize": 8.5,
    "axes.edgecolor": "#9aa5b1",
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "grid.color": RULE,
    "grid.linewidth": 0.6,
    "text.color": INK,
    "text.parse_math": False,  # names may contain dollar signs
    "xtick.color": QUIET,
    "ytick.color": QUIET,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "legend.handlelength": 1.8,
    "legend.columnspacing": 1.6,
    "legend.labelcolor": INK,
    "lines.linewidth": 1.6,
    "svg.hashsalt": "srtoolbox",  # without it ids are random and files differ
    "svg.fonttype": "path",
}


@dataclass(frozen=True)
class Look:
    """Colour, marker and dash pattern of a method in all charts of a study."""

    color: str
    marker: str
    dash: Any


def looks(methods: Sequence[str]) -> dict[str, Look]:
    """Returns a different look for each method, by its position; looks repeat after 28 methods."""
    return {
        method: Look(
            _COLORS[i % len(_COLORS)],
            _MARKERS[i % len(_MARKERS)],
            _DASHES[i // len(_COLORS) % len(_DASHES)],
        )
        for i, method in enumerate(methods)
    }


@contextmanager
def in_style() -> Iterator[None]:
    """Makes a function draw in the style of a report, without changing matplotlib's settings."""
    from matplotlib import rc_context  # slow to import

    with rc_context({**_STYLE, "font.family": ["DejaVu Sans", *_wide_fonts()]}), _one_glyph_note():
        yield


@cache
def _wide_fonts() -> list[str]:
    """Returns installed fonts with Chinese, Japanese and Korean characters, for names."""
    from matplotlib import font_manager

    installed = set(font_manager.get_font_names())
    return [name for name in _WIDE_FONTS if name in installed]


@contextmanager
def _one_glyph_note() -> Iterator[None]:
    """Turns matplotlib's many warnings on missing characters into one note."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield
    for warning in caught:
        if "missing from" in str(warning.message) and "Glyph" in str(warning.message):
            _note_missing_characters()
        else:
            warnings.warn_explicit(
                warning.message, warning.category, warning.filename, warning.lineno
            )


@cache
def _note_missing_characters() -> None:
    _log.warning(
        "figures show boxes for some characters of names: no installed font has them; install one "
        "of %s and write the report again",
        ", ".join(_WIDE_FONTS[:3]),
    )


def new_figure(width: float, height: float) -> Figure:
    """Returns an empty figure; width and height are in inches. No window is opened."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained", facecolor="white")


@in_style()
def render(figure: Figure, kind: str, dpi: int = 160) -> bytes:
    """Returns the figure as ``"png"`` or ``"svg"``; equal figures give equal bytes."""
    buffer = io.BytesIO()
    metadata = {"Software": None} if kind == "png" else {"Date": None, "Creator": None}
    figure.savefig(buffer, format=kind, dpi=dpi, metadata=metadata)
    figure.set_layout_engine("none")  # found once, it serves the other kind, too
    return buffer.getvalue()
