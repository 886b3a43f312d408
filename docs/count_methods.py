"""Writes the table of sizes into methods.md: run it after a change of any network.

python docs/count_methods.py
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch.utils.flop_counter import FlopCounterMode

from srtoolbox import ARCH_REGISTRY

PAGE = Path(__file__).with_name("methods.md")
BEGIN, END = "<!-- counts: begin (made by docs/count_methods.py) -->", "<!-- counts: end -->"
SIDE = 64


def table() -> str:
    """Parameters and FLOPs of every network in its default configuration, as Markdown."""
    lines = ["| name | scale | input | parameters | GFLOPs |", "|---|---|---|---:|---:|"]
    for name in ARCH_REGISTRY:
        net = ARCH_REGISTRY.get(name)().eval()
        single = net.num_frame == 1
        shape = (1, 3, SIDE, SIDE) if single else (1, net.num_frame or 5, 3, SIDE, SIDE)
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            net(torch.rand(shape))
        size = sum(parameter.numel() for parameter in net.parameters())
        given = "×".join(map(str, shape[1:]))
        flops = counter.get_total_flops() / 1e9
        lines.append(f"| `{name}` | x{net.scale} | {given} | {size:,} | {flops:.1f} |")
    note = (
        "GFLOPs are 2 per multiply-add of convolutions and matrix products; sampling and "
        "element-wise work are not counted."
    )
    return "\n".join([*lines, "", note])


def main() -> None:
    """Replaces what stands between the two marks."""
    head, _, rest = PAGE.read_text().partition(BEGIN)
    tail = rest.partition(END)[2]
    PAGE.write_text(f"{head}{BEGIN}\n{table()}\n{END}{tail}")


if __name__ == "__main__":
    main()
