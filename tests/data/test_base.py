"""The optional attributes of a dataset and their defaults."""

from __future__ import annotations

import numpy as np

from srtoolbox.data.base import DatasetInfo, Sample, dataset_info


class Minimal:
    """A dataset that has nothing but what every dataset must have."""

    scale, num_frame, reference = 4, 1, 0

    def __len__(self) -> int:
        return 2

    def __getitem__(self, index: int) -> Sample:
        return {"key": str(index), "lq": np.zeros((1, 3, 2, 2)), "gt": np.zeros((3, 8, 8))}


class Stated(Minimal):
    channels, gt_size, skip_frames = 4, 32, 2

    @property
    def clip_names(self) -> list[str]:
        return ["a", "b"]

    def finish(self, batch: dict) -> dict:
        return {**batch, "finished": True}


def test_missing_attributes_have_their_defaults() -> None:
    assert dataset_info(Minimal()) == DatasetInfo()


def test_attributes_properties_and_methods_are_read() -> None:
    info = dataset_info(Stated())
    assert (info.channels, info.gt_size, info.skip_frames) == (4, 32, 2)
    assert info.clip_names == ["a", "b"]
    assert info.finish is not None
    assert info.finish({}) == {"finished": True}
    assert (info.missing_neighbours, info.check_training, info.num_source) == (None, None, None)
