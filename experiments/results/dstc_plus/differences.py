"""Prints how far the methods of a study are ahead of one of them, per test set, as Markdown.

Scores are means over seeds; differences are those of the seeds that both methods have. Brackets:
95 % intervals of the paired difference, over images, or over seeds for clips::

    python experiments/results/dstc_plus/differences.py FOLDER_OF_STUDY METHOD
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from srtoolbox.comparison.analysis.scores import Scores
from srtoolbox.comparison.analysis.statistics import over_seeds, paired
from srtoolbox.comparison.store import ResultStore


def main(folder: str, base: str, metric: str = "psnr") -> None:
    """Prints the tables of ``metric`` with differences to the method ``base``."""
    store = ResultStore(Path(folder))
    for card in store.load_card().views():
        scores = Scores(store, card)
        for dataset in scores.datasets:
            print(f"\n{dataset} (protocol {card.protocol['name']})\n")
            print(f"| method | {metric} | difference to {base} |\n|---|---:|---:|")
            reference = _by_seed(scores, base, dataset, metric)
            for method in scores.methods:
                own = _by_seed(scores, method, dataset, metric)
                text = f"| {method} | {np.mean([*own.values()]):.3f} |"
                seeds = sorted(own.keys() & reference.keys())
                if method != base and seeds:
                    a, b = (np.array([of[seed] for seed in seeds]) for of in (own, reference))
                    if scores.unit(dataset) == "clips":
                        found = over_seeds((a - b).mean(1))
                    else:
                        found = paired(a.mean(0), b.mean(0))
                    if found is not None:
                        text += f" {found.mean:+.3f} [{found.low:+.3f}, {found.high:+.3f}]"
                print(f"{text} |")


def _by_seed(scores: Scores, method: str, dataset: str, metric: str) -> dict[int, list[float]]:
    """Returns a method's scores of all images, in the order of their keys, by seed."""
    found = {}
    for entry in scores.entries[method]:
        records = sorted(scores.records(entry, dataset), key=lambda record: record["key"])
        if records:
            found[entry.seed] = [record["metrics"][metric] for record in records]
    return found


if __name__ == "__main__":
    main(*sys.argv[1:])
