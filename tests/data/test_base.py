"""The optional attributes of a dataset and their defaults."""

from __future__ import annotations

import numpy as np
import pytest

from srtoolbox.data.base import DatasetInfo, Sample, dataset_info, read_sample
from srtoolbox.errors import ComponentError


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


class Masked(Minimal):
    def __init__(self, mask: object) -> None:
        self.mask = mask

    def __getitem__(self, index: int) -> Sample:
        return {**super().__getitem__(index), "mask": self.mask}  # type: ignore[typeddict-item]


def test_a_mask_has_one_bool_for_each_pixel_of_the_ground_truth() -> None:
    assert read_sample(Masked(np.ones((1, 8, 8), bool)), 0)["mask"].all()
    for wrong in (np.ones((8, 8), bool), np.ones((1, 8, 8), np.uint8), None):
        with pytest.raises(ComponentError, match=r"as mask; return .* bool with shape \(1, 8, 8\)"):
            read_sample(Masked(wrong), 0)
