"""Writes the table of sizes into methods.md: run it after a change of any network.

python docs/count_methods.py
"""

from __future__ import annotations

from pathlib import Path

import torch

from srtoolbox import ARCH_REGISTRY
from srtoolbox.archs.base import arch_info
from srtoolbox.engine.profiling import COUNTING, count_flops

PAGE = Path(__file__).with_name("methods.md")
BEGIN, END = "<!-- counts: begin (made by docs/count_methods.py) -->", "<!-- counts: end -->"
SIDE = 64


def table() -> str:
    """Parameters and FLOPs of every network in its default configuration, as Markdown."""
    lines = ["| name | scale | input | parameters | GFLOPs |", "|---|---|---|---:|---:|"]
    for name in ARCH_REGISTRY:
        net = ARCH_REGISTRY.get(name)().eval()
        info = arch_info(net)
        side = -(-SIDE // info.size_multiple) * info.size_multiple
        frames = () if info.num_frame == 1 else (info.num_frame or 5,)
        shape = (1, *frames, 3, side, side)
        with torch.no_grad():
            count, _ = count_flops(lambda net=net, shape=shape: net(torch.rand(shape)))
        size = sum(parameter.numel() for parameter in net.parameters())
        given = "×".join(map(str, shape[1:]))
        flops = count / 1e9
        lines.append(f"| `{name}` | x{net.scale} | {given} | {size:,} | {flops:.1f} |")
    return "\n".join([*lines, "", f"{COUNTING}."])


def main() -> None:
    """Replaces what stands between the two marks."""
    head, _, rest = PAGE.read_text().partition(BEGIN)
    tail = rest.partition(END)[2]
    PAGE.write_text(f"{head}{BEGIN}\n{table()}\n{END}{tail}")


if __name__ == "__main__":
    main()
