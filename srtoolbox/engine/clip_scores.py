"""Metrics that compare neighbouring frames: fed clip by clip while frames are being scored."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor

from srtoolbox.errors import UserError

Record = dict[str, Any]
Scored = tuple[Record, Tensor, Tensor]  # a frame's record, its result and its truth
Measure = Callable[[str, Sequence[Tensor], Sequence[Tensor]], "float | None"]


def clips_of(dataset: Any) -> list[str]:
    """The clip that each sample of a dataset belongs to.

    Raises:
        UserError: if it has no clips.
    """
    if not hasattr(dataset, "clip_names"):
        raise UserError(
            f"metrics of neighbouring frames need clips, which {type(dataset).__name__} has not"
        )
    return dataset.clip_names


class ClipScores:
    """Keeps the frames of one clip until it is complete, then scores it.

    The clip's value goes into the record of each of its frames, so that the mean over frames and
    the mean over clips are formed as of any other metric.

    Args:
        names: The metrics.
        measure: Called as ``measure(name, sr, gt)`` with all frames of a clip, in order.
    """

    def __init__(self, names: Sequence[str], measure: Measure) -> None:
        self._names, self._measure = names, measure
        self._kept: list[Scored] = []

    def add(self, frames: Sequence[Scored]) -> None:
        """The next frames, all of one clip."""
        if not self._names or not frames:
            return
        if self._kept and _clip(self._kept[0]) != _clip(frames[0]):
            self.finish()
        self._kept += [(record, sr.cpu(), gt.cpu()) for record, sr, gt in frames]

    def finish(self) -> None:
        """Scores the clip that is kept, if there is one."""
        if not self._kept:
            return
        records, sr, gt = zip(*self._kept, strict=True)
        for name in self._names:
            value = self._measure(name, sr, gt)
            for record in records:
                record["metrics"][name] = value
        self._kept = []


def _clip(frame: Scored) -> str:
    return frame[0]["key"].rpartition("/")[0]
