"""Writes the table of sizes to methods.md.

Run ``python docs/count_methods.py`` after changes of any network.
"""

from __future__ import annotations

from pathlib import Path

import torch

from srtoolbox import ARCH_REGISTRY
from srtoolbox.archs.base import arch_info
from srtoolbox.engine.counting import COUNTING
from srtoolbox.engine.profiling import count_flops

PAGE = Path(__file__).with_name("methods.md")
BEGIN, END = "<!-- counts: begin (made by docs/count_methods.py) -->", "<!-- counts: end -->"
SIDE = 64  # height and width of the LR input, if the network accepts it


def table() -> str:
    """Returns a Markdown table with parameters and FLOPs of every network with its defaults."""
    lines = ["| name | scale | input | parameters | GFLOPs |", "|---|---|---|---:|---:|"]
    for name in ARCH_REGISTRY:
        if arch_info(ARCH_REGISTRY.get(name)).weight_option:  # it has no defaults
            continue
        net = ARCH_REGISTRY.get(name)().eval()
        info = arch_info(net)
        side = -(-SIDE // info.size_multiple) * info.size_multiple
        frames = () if info.num_frame == 1 else (info.num_frame or 5,)
        shape = (1, *frames, 3, side, side)
        with torch.no_grad():
            count, _ = count_flops(lambda net=net, shape=shape: net(torch.rand(shape)))
        params = sum(parameter.numel() for parameter in net.parameters())
        size = "×".join(map(str, shape[1:]))
        lines.append(f"| `{name}` | x{net.scale} | {size} | {params:,} | {count / 1e9:.1f} |")
    return "\n".join([*lines, "", f"{COUNTING}."])


def main() -> None:
    """Replaces the text between the two marks of the page."""
    head, _, rest = PAGE.read_text().partition(BEGIN)
    tail = rest.partition(END)[2]
    PAGE.write_text(f"{head}{BEGIN}\n{table()}\n{END}{tail}")


if __name__ == "__main__":
    main()
