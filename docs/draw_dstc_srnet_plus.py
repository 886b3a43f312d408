"""Draws the figure dstc_srnet_plus.svg: run ``python docs/draw_dstc_srnet_plus.py``."""

from __future__ import annotations

from pathlib import Path

FILE = Path(__file__).with_name("dstc_srnet_plus.svg")
WIDTH, HEIGHT = 1080, 346
INK, FAINT = "#1f2933", "#66727f"
LEARNED, LEARNED_EDGE = "#dcebfa", "#2f78bd"
FIXED, FIXED_EDGE = "#f1f2f4", "#9aa5b1"  # without parameters

# name: (x, y, width, height, title, lines below the title)
BOXES = {
    "frames": (16, 142, 96, 92, "burst", "T × 3 × h × w"),
    "motion": (146, 142, 134, 92, "motion, trust", "Gauss–Newton; where\nframes agree"),
    "samples": (324, 28, 160, 76, "shift-and-add", "samples of the other\nframes, on the ×s grid"),
    "mean": (324, 250, 160, 76, "mean", "frames with the phase\nof the reference"),
    "head": (540, 142, 104, 92, "head", "one 3×3\nconvolution each"),
    "body": (674, 142, 104, 92, "body", "residual blocks\nat LR size"),
    "up": (808, 142, 90, 92, "up", "pixel\nshuffle"),
    "refine": (808, 28, 190, 76, "refine", "3×3 convolutions;\nonly where samples are new"),
    "bicubic": (540, 258, 104, 60, "bicubic ×s", ""),
}
LEARNED_BOXES = {"head", "body", "up", "refine"}
ARROWS = [  # corner points; label and its position
    ([(112, 188), (146, 188)], None),
    ([(280, 188), (302, 188), (302, 66), (324, 66)], None),
    ([(280, 188), (302, 188), (302, 288), (324, 288)], None),
    ([(484, 82), (512, 82), (512, 172), (540, 172)], None),
    ([(484, 270), (512, 270), (512, 204), (540, 204)], None),
    ([(484, 288), (540, 288)], None),
    ([(644, 188), (674, 188)], None),
    ([(778, 188), (808, 188)], None),
    ([(484, 50), (808, 50)], ("samples at full resolution", 646, 42)),
    ([(853, 142), (853, 104)], None),
    ([(898, 188), (1004, 188)], None),
    ([(998, 66), (1014, 66), (1014, 178)], None),
    ([(644, 288), (1014, 288), (1014, 198)], None),
    ([(1024, 188), (1052, 188)], None),
]
SHAPES = [("C × h × w", 726, 130), ("3 × sh × sw", 950, 208)]


def draw() -> str:
    """Returns the figure as SVG."""
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
        f'font-family="Helvetica, Arial, sans-serif" text-anchor="middle">',
        '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" '
        f'markerHeight="7" orient="auto"><path d="M0 0 8 4 0 8z" fill="{INK}"/></marker></defs>',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>',
    ]
    for points, label in ARROWS:
        path = " ".join(f"{corner_x},{corner_y}" for corner_x, corner_y in points)
        parts.append(
            f'<polyline points="{path}" fill="none" stroke="{INK}" stroke-width="1.4" '
            'marker-end="url(#tip)"/>'
        )
        if label:
            words, x, y = label
            parts.append(text(x, y, words, 12, FAINT, "start" if x < 600 else None))
    for name, box in BOXES.items():
        parts += boxed(*box, name in LEARNED_BOXES)
    parts += [text(x, y, words, 12, FAINT) for words, x, y in SHAPES]
    for x, y in [(1014, 188)]:  # sums
        parts.append(f'<circle cx="{x}" cy="{y}" r="10" fill="#ffffff" stroke="{INK}"/>')
        parts.append(text(x, y + 5, "+", 16, INK))
    parts.append(text(1052, 216, "SR", 14, INK))
    return "\n".join([*parts, "</svg>", ""])


def boxed(
    x: int, y: int, width: int, height: int, title: str, below: str, is_learned: bool
) -> list[str]:
    """Returns the elements of a box with a title and lines below it."""
    lines = below.split("\n")
    fill, edge = (LEARNED, LEARNED_EDGE) if is_learned else (FIXED, FIXED_EDGE)
    middle = x + width / 2
    first = y + height / 2 - 8 * len(lines) + 5
    return [
        f'<rect x="{x}" y="{y}" width="{width}" height="{height}" rx="8" fill="{fill}" '
        f'stroke="{edge}" stroke-width="1.4"/>',
        text(middle, first, title, 14, INK, weight="bold"),
        *(text(middle, first + 17 * i + 1, line, 11, FAINT) for i, line in enumerate(lines, 1)),
    ]


def text(
    x: float,
    y: float,
    words: str,
    size: int,
    colour: str,
    anchor: str | None = None,
    weight: str = "normal",
) -> str:
    """Returns a text element with one line."""
    alignment = f' text-anchor="{anchor}"' if anchor else ""
    return (
        f'<text x="{x}" y="{y}" font-size="{size}" font-weight="{weight}" '
        f'fill="{colour}"{alignment}>{words}</text>'
    )


if __name__ == "__main__":
    FILE.write_text(draw(), encoding="utf-8")
