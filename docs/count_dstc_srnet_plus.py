"""Writes the sizes of DSTC-SRNet+'s modules to dstc_srnet_plus.md.

Run ``python docs/count_dstc_srnet_plus.py`` after changes of the network.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch.utils.flop_counter import FlopCounterMode

from srtoolbox import ARCH_REGISTRY
from srtoolbox.config.files import read

PAGE = Path(__file__).with_name("dstc_srnet_plus.md")
PRESETS = Path(__file__).parents[1] / "options/_base_/networks"
BEGIN, END = (
    "<!-- counts: begin (made by docs/count_dstc_srnet_plus.py) -->",
    "<!-- counts: end -->",
)
SHAPE = (14, 3, 48, 48)
MODULES = {
    "head": "shallow features",
    "temporal": "MTMS",
    "samples": "shift-and-add memory",
    "spatial": "DRSS",
    "fusion": "BCAF",
    "enhance": "MLFE",
    "decoder": "ProgressiveDecoder",
}


def table() -> str:
    """Returns a Markdown table with the size and cost of every module, for each preset."""
    columns = {preset: count(preset) for preset in "sbl"}
    head = " | ".join(f"{name} params (K) | {name} GMAC" for name in "SBL")
    lines = [f"| module | {head} |", "|---|" + "---:|" * 2 * len(columns)]
    for module, name in {**MODULES, "": "all"}.items():
        sizes = [counts[module] for counts in columns.values()]
        cells = " | ".join(f"{params:.1f} | {gmac:.2f}" for params, gmac in sizes)
        lines.append(f"| {name} | {cells} |")
    shape = "×".join(map(str, SHAPE))
    note = (
        f"For one burst of {shape} at x4. GMAC are multiply-adds of convolutions and matrix "
        "products; motion estimation, sampling and element-wise work are not counted."
    )
    return "\n".join([*lines, "", note])


def count(preset: str) -> dict[str, tuple[float, float]]:
    """Returns (thousands of parameters, GMAC) by module; "" is the whole network."""
    options = dict(read(PRESETS / f"dstcsrnet_plus_{preset}.yml")["network_g"])
    net = ARCH_REGISTRY.get(options.pop("type"))(**options).eval()
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        net(torch.rand(1, *SHAPE))
    flops = {
        name.rpartition(".")[2]: sum(operations.values())
        for name, operations in counter.get_flop_counts().items()
        if name.count(".") <= 1
    }
    counts = {"": (sum(p.numel() for p in net.parameters()), counter.get_total_flops())}
    for name, module in net.named_children():
        counts[name] = (sum(p.numel() for p in module.parameters()), flops.get(name, 0))
    return {name: (params / 1e3, count / 2e9) for name, (params, count) in counts.items()}


def main() -> None:
    """Replaces the text between the two marks of the page."""
    head, _, rest = PAGE.read_text().partition(BEGIN)
    tail = rest.partition(END)[2]
    PAGE.write_text(f"{head}{BEGIN}\n{table()}\n{END}{tail}")


if __name__ == "__main__":
    main()
