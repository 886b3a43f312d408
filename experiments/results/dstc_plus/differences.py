"""Prints how far the methods of a study are ahead of one of them, per test set, as Markdown.

Scores are means over seeds. Brackets: 95 % intervals of the paired difference, over images (or, for
a single clip, which has none, over seeds)::

    python experiments/results/dstc_plus/differences.py FOLDER_OF_STUDY METHOD
"""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from pathlib import Path

import numpy as np

from srtoolbox.comparison.analysis.statistics import over_seeds, paired


def main(folder: str, base: str, metric: str = "psnr") -> None:
    """Prints the table of ``metric`` with differences to the method ``base``."""
    scores: dict[tuple[str, str], dict[str, dict[int, float]]] = defaultdict(
        lambda: defaultdict(dict)
    )
    with (Path(folder) / "results.jsonl").open(encoding="utf-8") as file:
        for record in map(json.loads, file):
            column = record["dataset"], record["protocol"]
            images = scores[column][record["method"]]
            images.setdefault(record["key"], {})[record["seed"]] = record["metrics"][metric]
    for (dataset, protocol), methods in scores.items():
        print(f"\n{dataset} (protocol {protocol})\n")
        print(f"| method | {metric} | difference to {base} |\n|---|---:|---:|")
        reference = methods[base]
        for method, images in methods.items():
            keys = sorted(images)
            values = np.array([[*images[key].values()] for key in keys])
            text = f"| {method} | {values.mean():.3f} |"
            if method != base:
                other = np.array([[reference[key][seed] for seed in images[key]] for key in keys])
                if len({Path(key).parent for key in keys}) == 1 and "/" in keys[0]:
                    found = over_seeds((values - other).mean(0))
                else:
                    found = paired(values.mean(1), other.mean(1))
                if found is not None:
                    text += f" {found.mean:+.3f} [{found.low:+.3f}, {found.high:+.3f}]"
            print(f"{text} |")


if __name__ == "__main__":
    main(*sys.argv[1:])
