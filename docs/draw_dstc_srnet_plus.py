"""Draws the figure dstc_srnet_plus.svg: run ``python docs/draw_dstc_srnet_plus.py``."""

from __future__ import annotations

from pathlib import Path

FILE = Path(__file__).with_name("dstc_srnet_plus.svg")
WIDTH, HEIGHT = 1080, 424
INK, FAINT = "#1f2933", "#66727f"
STAGE, STAGE_EDGE = "#dcebfa", "#2f78bd"  # the five stages of DSTC-SRNet
ADDED, ADDED_EDGE = "#f1f2f4", "#9aa5b1"  # additional parts

# name: (x, y, width, height, title, lines below the title)
BOXES = {
    "frames": (16, 166, 96, 92, "burst", "T × 3 × h × w"),
    "head": (146, 166, 130, 92, "shallow features", "conv, residual blocks\nper frame"),
    "motion": (146, 28, 130, 76, "global motion", "Gauss–Newton,\nwithout labels"),
    "samples": (310, 28, 170, 76, "shift-and-add", "samples of all frames\non the ×s grid"),
    "mtms": (310, 134, 170, 76, "MTMS", "align, embed, ConvGRU,\nmean (at 3 scales)"),
    "drss": (310, 234, 170, 76, "DRSS", "selective kernels of 3, 5,\n13 pixels; reference only"),
    "bcaf": (546, 166, 118, 92, "BCAF", "cross attention in\nwindows, gate"),
    "mlfe": (696, 166, 126, 92, "MLFE", "attention groups,\nhalf-size context"),
    "decoder": (850, 166, 130, 92, "decoder", "×2 per stage,\none image per stage"),
    "bicubic": (310, 334, 170, 60, "bicubic ×s", "reference"),
}
STAGES = {"mtms", "drss", "bcaf", "mlfe", "decoder"}
ARROWS = [  # corner points; label and its position
    ([(112, 212), (146, 212)], None),
    ([(132, 212), (132, 66), (146, 66)], None),
    ([(132, 212), (132, 364), (310, 364)], None),
    ([(276, 66), (310, 66)], None),
    ([(293, 66), (293, 160), (310, 160)], None),
    ([(276, 212), (293, 212), (293, 186), (310, 186)], None),
    ([(293, 212), (293, 272), (310, 272)], None),
    ([(480, 190), (546, 190)], None),
    ([(480, 272), (520, 272), (520, 236), (546, 236)], None),
    ([(480, 82), (512, 82), (512, 180)], ("s² phases", 518, 134)),
    ([(664, 212), (696, 212)], None),
    ([(822, 212), (850, 212)], None),
    ([(480, 50), (915, 50), (915, 166)], ("samples at full resolution", 690, 42)),
    ([(980, 212), (1004, 212)], None),
    ([(480, 364), (1014, 364), (1014, 222)], None),
    ([(1024, 212), (1052, 212)], None),
]
SHAPES = [("C × h × w", 680, 280), ("3 × sh × sw", 1030, 190)]


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
        parts += boxed(*box, name in STAGES)
    parts += [text(x, y, words, 12, FAINT) for words, x, y in SHAPES]
    for x, y in [(512, 190), (1014, 212)]:  # sums
        parts.append(f'<circle cx="{x}" cy="{y}" r="10" fill="#ffffff" stroke="{INK}"/>')
        parts.append(text(x, y + 5, "+", 16, INK))
    parts.append(text(1052, 240, "SR", 14, INK))
    return "\n".join([*parts, "</svg>", ""])


def boxed(
    x: int, y: int, width: int, height: int, title: str, below: str, is_stage: bool
) -> list[str]:
    """Returns the elements of a box with a title and lines below it."""
    lines = below.split("\n")
    fill, edge = (STAGE, STAGE_EDGE) if is_stage else (ADDED, ADDED_EDGE)
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
