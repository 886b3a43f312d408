"""The look that all figures of a report share, and how they are written."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import wraps
from typing import Any, TypeVar

Draw = TypeVar("Draw", bound=Callable[..., Any])

# Okabe and Ito's colours, which stay apart for every kind of colour vision; yellow is left out,
# since lines of it vanish on white. Marker and dash tell methods apart in grey as well.
_COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#444444")
_MARKERS = ("o", "s", "^", "D", "v", "P", "X")
_DASHES = ("-", (0, (5, 1.5)), (0, (1, 1.2)), (0, (6, 1.5, 1, 1.5)))

INK, QUIET, RULE, ACCENT = "#1d2733", "#5b6773", "#d5dbe1", "#d1495b"

_STYLE = {
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
    "text.parse_math": False,  # names of methods and images may have dollar signs
    "xtick.color": QUIET,
    "ytick.color": QUIET,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "lines.linewidth": 1.6,
    "svg.hashsalt": "srtoolbox",  # otherwise ids are random and no two files alike
    "svg.fonttype": "path",
}


@dataclass(frozen=True)
class Look:
    """How a method is drawn in every chart of a study."""

    color: str
    marker: str
    dash: Any


def looks(methods: Sequence[str]) -> dict[str, Look]:
    """A look for each method, by its place in the study."""
    return {
        method: Look(
            _COLORS[i % len(_COLORS)],
            _MARKERS[i % len(_MARKERS)],
            _DASHES[i // len(_COLORS) % len(_DASHES)],
        )
        for i, method in enumerate(methods)
    }


def in_style(draw: Draw) -> Draw:
    """A function whose figures have the look of a report; nothing of it remains afterwards."""

    @wraps(draw)
    def drawn(*arguments: Any, **options: Any) -> Any:
        from matplotlib import rc_context  # heavy, and only reports draw

        with rc_context(_STYLE):
            return draw(*arguments, **options)

    return drawn


def new_figure(width: float, height: float) -> Any:
    """An empty figure of that size in inches, without any window."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained", facecolor="white")


@in_style
def render(figure: Any, kind: str, dpi: int = 160) -> bytes:
    """The figure as ``"png"`` or ``"svg"``: the same bytes whenever it is drawn again."""
    buffer = io.BytesIO()
    metadata = {"Software": None} if kind == "png" else {"Date": None, "Creator": None}
    figure.savefig(buffer, format=kind, dpi=dpi, metadata=metadata)
    return buffer.getvalue()
