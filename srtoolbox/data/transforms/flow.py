"""Optical flow between the frames of a clip, by whichever estimator is registered.

Flow is an input here, not something that is learned: it is computed from the LR frames on the CPU,
outside of all networks. Conventions: a flow (2, h, w) is in pixels, x before y, and says where a
pixel of the first frame is seen in the second: ``first(p) = second(p + flow(p))``.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Sequence
from itertools import pairwise
from threading import Lock
from typing import Protocol

import cv2
import numpy as np
import torch
from torch import Tensor

from srtoolbox.data.transforms.orientation import orient
from srtoolbox.registry import FLOW_REGISTRY

_SMALLEST = 32  # pixels; the coarse levels of the pyramid need something to see


class Estimator(Protocol):
    """What a registered flow estimator can do."""

    def __call__(self, first: np.ndarray, second: np.ndarray) -> np.ndarray: ...


@FLOW_REGISTRY.register()
class DIS:
    """Dense inverse search (Kroeger et al., ECCV 2016), OpenCV's, on luma, in full resolution.

    OpenCV's presets stop at half resolution, where motion below a pixel, as between the frames of a
    staring satellite, is hardly seen: on a picture moved by (2, 3) pixels the mean error is 0.05
    pixels there and 2e-6 here.
    """

    def __call__(self, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        height, width = first.shape[:2]
        bottom, right = max(0, _SMALLEST - height), max(0, _SMALLEST - width)
        grey = [
            cv2.copyMakeBorder(
                cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), 0, bottom, 0, right, cv2.BORDER_REPLICATE
            )
            for image in (first, second)
        ]
        search = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
        search.setFinestScale(0)
        return search.calc(*grey, None)[:height, :width]


class FlowCache:
    """Flows by the content of the frames, the latest ones within a limit.

    Args:
        limit: Most that is held, in bytes.
    """

    def __init__(self, limit: int = 2**29) -> None:
        self.limit, self._held = limit, 0
        self._flows: OrderedDict[bytes, np.ndarray] = OrderedDict()
        self._lock = Lock()

    def between(self, name: str, frames: np.ndarray) -> np.ndarray:
        """As ``flow_between``, computed only where it is not held."""
        frames = _to_bytes(frames)
        key = hashlib.blake2b(f"{name} {frames.shape}".encode())
        key.update(frames)
        with self._lock:
            found = self._flows.pop(key.digest(), None)
            if found is not None:
                self._flows[key.digest()] = found  # now the latest
                return found
        found = flow_between(name, frames)
        with self._lock:
            if key.digest() not in self._flows:
                self._flows[key.digest()] = found
                self._held += found.nbytes
            while self._held > self.limit and len(self._flows) > 1:
                self._held -= self._flows.popitem(last=False)[1].nbytes
        return found


_cache = FlowCache()


def flow_between(name: str, frames: np.ndarray) -> np.ndarray:
    """The flow between neighbouring frames, both ways.

    Args:
        name: A registered estimator.
        frames: (T, 3, h, w), uint8, uint16 or float in [0, 1]; estimators see them in 8 bits.

    Returns:
        (2, T - 1, 2, h, w), float32: first from each frame to the next, then back.
    """
    estimate: Estimator = FLOW_REGISTRY.get(name)()
    images = np.ascontiguousarray(_to_bytes(frames).transpose(0, 2, 3, 1))
    pairs = list(pairwise(images))
    both = [
        [estimate(first, second) for first, second in pairs],
        [estimate(second, first) for first, second in pairs],
    ]
    shape = (2, len(pairs), *images.shape[1:3], 2)
    flow = np.asarray(both, np.float32).reshape(shape)
    return np.ascontiguousarray(flow.transpose(0, 1, 4, 2, 3))


def batch_flow(name: str, lq: Tensor) -> Tensor:
    """The flows of a batch of clips, from the cache where they were computed before.

    Args:
        name: A registered estimator.
        lq: (N, T, 3, h, w) in [0, 1], on any device.

    Returns:
        (N, 2, T - 1, 2, h, w), float32, on the device of ``lq``.
    """
    clips = lq.detach().float().cpu().numpy()
    flow = np.stack([_cache.between(name, clip) for clip in clips])
    return torch.from_numpy(flow).to(lq.device)


def orient_flow(flow: Tensor, code: int) -> Tensor:
    """Flow (…, 2, h, w) of frames that are brought into an orientation (see ``augment``)."""
    x, y = orient(flow, code).unbind(-3)
    if code % 2:
        x = -x
    for _ in range(code // 2 % 4):
        x, y = y, -x
    return torch.stack([x, y], -3)


def orient_flow_batch(flow: Tensor, codes: Sequence[int]) -> Tensor:
    """Flows (N, …, 2, h, w) of square frames, each in its own orientation."""
    return torch.stack([orient_flow(one, code) for one, code in zip(flow, codes, strict=True)])


def _to_bytes(frames: np.ndarray) -> np.ndarray:
    """Frames in 8 bits, exactly those that they were read from, if they were of 8 bits."""
    if frames.dtype == np.uint8:
        return np.ascontiguousarray(frames)
    if frames.dtype == np.uint16:
        return np.rint(frames / 257).astype(np.uint8)
    return np.rint(frames.clip(0, 1) * 255).astype(np.uint8)
