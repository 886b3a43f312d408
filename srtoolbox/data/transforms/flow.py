"""Optical flow between the frames of a clip, by any registered estimator.

Flow is an input of networks and is not learned: it is computed from the LR frames on the CPU. A
flow (2, h, w) is in pixels, x before y, and points from a pixel of the first frame to the same
point in the second frame: ``first(p) = second(p + flow(p))``.
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

_MIN_SIDE = 32  # pixels; smaller images have no content on the coarse levels of the pyramid


class Estimator(Protocol):
    """A registered flow estimator."""

    def __call__(self, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        """Returns the flow (h, w, 2), float32, between two RGB images (h, w, 3), uint8.

        Images that are not RGB arrive as the mean of their bands, three times.
        """
        ...


@FLOW_REGISTRY.register()
class DIS:
    """Dense inverse search (Kroeger et al., ECCV 2016) of OpenCV, on luma, at full resolution.

    OpenCV's presets stop at half resolution, where subpixel motion, such as between the frames of a
    staring satellite, is hardly visible: on an image moved by (2, 3) pixels, the mean error is 0.05
    pixels with them and 2e-6 with this class.
    """

    def __call__(self, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        height, width = first.shape[:2]
        bottom, right = max(0, _MIN_SIDE - height), max(0, _MIN_SIDE - width)

        def padded_luma(image: np.ndarray) -> np.ndarray:
            luma = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
            return cv2.copyMakeBorder(luma, 0, bottom, 0, right, cv2.BORDER_REPLICATE)

        search = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
        search.setFinestScale(0)
        # None asks for a new array, which OpenCV's type stubs do not know.
        images = padded_luma(first), padded_luma(second)
        flow = search.calc(*images, None)  # pyright: ignore[reportCallIssue, reportArgumentType]
        return flow[:height, :width]


class FlowCache:
    """Keeps the most recently used flows, by the content of the frames.

    Args:
        limit: Maximum size of the kept flows, in bytes.
    """

    def __init__(self, limit: int = 2**29) -> None:
        self.limit, self._size = limit, 0
        self._flows: OrderedDict[bytes, np.ndarray] = OrderedDict()
        self._lock = Lock()

    def between(self, name: str, frames: np.ndarray) -> np.ndarray:
        """Returns the same as ``flow_between``, computed only if it is not in the cache."""
        frames = _to_bytes(frames)
        key = hashlib.blake2b(f"{name} {frames.shape}".encode())
        key.update(frames.data)
        with self._lock:
            found = self._flows.pop(key.digest(), None)
            if found is not None:
                self._flows[key.digest()] = found  # now the most recently used
                return found
        found = flow_between(name, frames)
        with self._lock:
            if key.digest() not in self._flows:
                self._flows[key.digest()] = found
                self._size += found.nbytes
            while self._size > self.limit and len(self._flows) > 1:
                self._size -= self._flows.popitem(last=False)[1].nbytes
        return found


_cache = FlowCache()


def flow_between(name: str, frames: np.ndarray) -> np.ndarray:
    """Computes the flow between neighbouring frames in both directions.

    Estimators get RGB images in 8 bits. RGB frames stay as they are, and `DIS` takes their luma.
    Frames of another number of bands become the mean of their bands, as grey images.

    Args:
        name: Name of a registered estimator.
        frames: (T, C, h, w) of any number of bands C, uint8, uint16 or float in [0, 1].

    Returns:
        (2, T - 1, 2, h, w), float32: first from each frame to the next, then from the next back.

    Raises:
        RegistryError: if no estimator has that name.
    """
    estimate: Estimator = FLOW_REGISTRY.get(name)()
    frames = _to_bytes(frames)
    if frames.shape[1] != 3:
        grey = np.rint(frames.mean(1, keepdims=True)).astype(np.uint8)
        frames = grey.repeat(3, 1)
    images = np.ascontiguousarray(frames.transpose(0, 2, 3, 1))
    pairs = list(pairwise(images))
    both = [
        [estimate(first, second) for first, second in pairs],
        [estimate(second, first) for first, second in pairs],
    ]
    shape = (2, len(pairs), *images.shape[1:3], 2)
    flow = np.asarray(both, np.float32).reshape(shape)
    return np.ascontiguousarray(flow.transpose(0, 1, 4, 2, 3))


def batch_flow(name: str, lq: Tensor) -> Tensor:
    """Computes the flows of a batch of clips, or takes them from the cache.

    Args:
        name: Name of a registered estimator.
        lq: (N, T, C, h, w) in [0, 1], on any device; see `flow_between` for C ≠ 3.

    Returns:
        (N, 2, T - 1, 2, h, w), float32, on the device of ``lq``.
    """
    clips = lq.detach().float().cpu().numpy()
    flow = np.stack([_cache.between(name, clip) for clip in clips])
    return torch.from_numpy(flow).to(lq.device)


def orient_flow(flow: Tensor, code: int) -> Tensor:
    """Returns the flow (…, 2, h, w) of frames after they are brought into an orientation."""
    x, y = orient(flow, code).unbind(-3)
    if code % 2:
        x = -x
    for _ in range(code // 2 % 4):
        x, y = y, -x
    return torch.stack([x, y], -3)


def orient_flow_batch(flow: Tensor, codes: Sequence[int]) -> Tensor:
    """Applies ``orient_flow`` to each flow of a batch (N, …, 2, h, w) of square frames."""
    flows = zip(flow, codes, strict=True)
    return torch.stack([orient_flow(sample, code) for sample, code in flows])


def _to_bytes(frames: np.ndarray) -> np.ndarray:
    """Returns frames in 8 bits; floats that were converted from 8 bits become the same bytes."""
    if frames.dtype == np.uint8:
        return np.ascontiguousarray(frames)
    if frames.dtype == np.uint16:
        return np.rint(frames / 257).astype(np.uint8)
    return np.rint(frames.clip(0, 1) * 255).astype(np.uint8)
