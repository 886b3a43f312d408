"""Scores of images, and their means; none of it needs torch, so a report starts at once."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from srtoolbox.utils.console import names_text

Record = dict[str, Any]
"""The scores of one image: ``{"key", "seconds", "metrics": {name: value or None}}``, and
``"kind"`` (``"given"`` or ``"interpolated"``) for a frame of space-time super-resolution."""

BLIND = "reference only"
"""Name of the scores with every frame replaced by the reference."""
SHUFFLED = "shuffled"
"""Name of the scores with the other frames in random order."""


def clip_of(key: str) -> str:
    """Returns the clip of a frame, whose key is ``clip/frame``; empty for the key of an image."""
    return key.rpartition("/")[0]


def average(
    records: Sequence[Record], over: str = "images", lower_is_better: Collection[str] = ()
) -> dict[str, float | None]:
    """Returns the score of a dataset by metric; None where a metric was unavailable.

    Records of several kinds also give one score per kind, such as ``psnr_given`` and
    ``psnr_interpolated``.

    Args:
        records: The records of one dataset under one protocol.
        over: ``"images"``: the mean over all records. ``"clips"``: the mean over the clips' means.
        lower_is_better: Names of the metrics whose infinite scores make the mean infinite.
    """
    kinds = dict.fromkeys(record["kind"] for record in records if "kind" in record)
    means: dict[str, float | None] = {}
    for kind in (None, *kinds):
        groups: dict[str, list[dict[str, float | None]]] = {}
        for record in records:
            if kind is None or record.get("kind") == kind:
                group = clip_of(record["key"]) if over == "clips" else ""
                groups.setdefault(group, []).append(record["metrics"])
        for name in records[0]["metrics"] if records else ():
            worst = name in lower_is_better
            values = [mean([scores[name] for scores in group], worst) for group in groups.values()]
            means[name if kind is None else f"{name}_{kind}"] = mean(values, worst)
    return means


def not_finite(
    records: Sequence[Record], lower_is_better: Collection[str] = ()
) -> tuple[list[str], list[str]]:
    """Returns sentences on the NaN and on the infinite scores of a dataset, one per metric."""
    nan: list[str] = []
    infinite: list[str] = []
    for name in records[0]["metrics"] if records else ():
        values = {record["key"]: record["metrics"].get(name) for record in records}
        known = {key: value for key, value in values.items() if value is not None}
        count = f"of {len(values)} images"
        if keys := [key for key, value in known.items() if math.isnan(value)]:
            nan.append(f"{name}: {len(keys)} {count} are not finite ({names_text(keys)})")
        if keys := [key for key, value in known.items() if math.isinf(value)]:
            stays = name in lower_is_better or -math.inf in known.values()
            effect = "the mean is infinite" if stays else "means leave them out"
            means = "" if len(keys) == len(known) else f"; {effect}"
            text = f"{name}: {len(keys)} {count} are infinite ({names_text(keys)}){means}"
            infinite.append(text)
    return nan, infinite


def mean(values: Sequence[float | None], keep_infinite: bool = False) -> float | None:
    """Returns the mean; None if a value is missing, since a mean over fewer images misleads.

    Values of +inf (the PSNR of equal images) are left out, unless all are infinite. For a metric
    whose lower values are better they are the worst ones; ``keep_infinite`` keeps them. Values of
    -inf stay: no mean may become better because the worst image is left out.
    """
    known = [value for value in values if value is not None]
    if not known or len(known) < len(values):
        return None
    kept = [value for value in known if keep_infinite or value != math.inf] or known
    return sum(kept) / len(kept)


def gain_from_frames(scores: Mapping[str, float | None]) -> float | None:
    """Returns the gain from the other frames in dB, from the result of `frame_use`."""
    full = [psnr for name, psnr in scores.items() if name.endswith(("frame", "frames"))][-1]
    return gain_of(full, scores[BLIND])


def gain_of(full: float | None, blind: float | None) -> float | None:
    """Returns the PSNR with all frames minus that with one frame; None if one is missing."""
    if full is None or blind is None:
        return None
    return 0.0 if full == blind else full - blind  # also where both are infinite
