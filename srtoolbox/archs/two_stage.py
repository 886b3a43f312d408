"""The baseline of super-resolution in space and time: frames are interpolated, then enlarged."""

from __future__ import annotations

from typing import Annotated, Any

import torch
from torch import Tensor, nn

from srtoolbox.archs.layers.upsample import check_scale
from srtoolbox.archs.layers.video.interpolate import interpolate_frames
from srtoolbox.config.schema import Component, build
from srtoolbox.errors import UserError
from srtoolbox.registry import ARCH_REGISTRY

_INNER = "network."


@ARCH_REGISTRY.register()
class TwoStage(nn.Module):
    """Frames between the given ones by warping along optical flow, then any network frame by frame.

    What joint methods have to beat. Nothing is learned in the first stage; the second one is
    trained on all frames. Its weights have the names that they have in the network alone, so that
    those of one trained for super-resolution in space load as they are.

    A single-image network sees each frame. One that restores the middle or first of several sees
    those around, a frame beyond the clip's ends being replaced by the one that is restored. One
    that restores all its frames gets all.

    Args:
        scale: Factor by which height and width grow.
        network: The registered arch of the second stage and its options; null is an EDSR.
        time_scale: How many intervals each one between two given frames is divided into.
        num_window: Frames around each that a network of any number of frames is given, with it.
        flow: Name of the estimator that gives the flow between the given frames.
    """

    paper = "interpolation after Jiang et al., Super SloMo, CVPR 2018; then the network's own paper"
    scales = (2, 3, 4)
    restores_all = True
    own_weights = False  # their names are those of the network inside
    needs_flow = "DIS"
    num_frame = None
    reference = 0

    def __init__(
        self,
        scale: int = 4,
        network: Annotated[dict[str, Any], Component("arch", ("scale",))] | None = None,
        time_scale: int = 2,
        num_window: int = 5,
        flow: str = "DIS",
    ) -> None:
        super().__init__()
        if time_scale < 2 or num_window < 1:
            raise UserError(
                "TwoStage: time_scale is at least 2 and num_window at least 1, got "
                f"{time_scale} and {num_window}"
            )
        self.network = build("arch", network or {"type": "EDSR"}, scale=scale)
        name = type(self.network).__name__
        if getattr(self.network, "time_scale", 1) > 1:
            raise UserError(f"TwoStage: {name} interpolates frames itself; use it alone")
        self.scales = self.network.scales
        self.scale = check_scale(self, scale)
        if self.network.scale != scale:
            raise UserError(f"TwoStage: network.scale is {self.network.scale}, the run's {scale}")
        self.time_scale, self.needs_flow = time_scale, flow
        self._window = self.network.num_frame or num_window
        self.size_multiple, self.min_size = self.network.size_multiple, self.network.min_size
        for name in ("checkpoint_blocks", "dead_parameters"):
            inner = getattr(self.network, name, ())
            setattr(self, name, tuple(_INNER + each for each in inner))
        self.register_state_dict_post_hook(_without_prefix)
        self.register_load_state_dict_pre_hook(_with_prefix)

    def forward(self, lq: Tensor, flow: Tensor | None = None) -> Tensor:
        """Super-resolves a clip in space and time.

        Args:
            lq: (N, T, 3, h, w) in [0, 1].
            flow: (N, 2, T - 1, 2, h, w) in LR pixels, x before y: from each frame to the next, and
                back. None stands for frames between which nothing moves.

        Returns:
            (N, time_scale * (T - 1) + 1, 3, h * scale, w * scale).
        """
        n, frames, _, height, width = lq.shape
        if flow is None:
            flow = lq.new_zeros(n, 2, frames - 1, 2, height, width)
        lq = interpolate_frames(lq, flow, self.time_scale)
        if getattr(self.network, "restores_all", False):
            return self._sr(lq)
        # Without a gradient one by one, for the sake of memory.
        times = torch.arange(lq.shape[1])
        parts = [times] if torch.is_grad_enabled() else times.split(1)
        sr = [self._sr(self._views(lq, part).flatten(0, 1)) for part in parts]
        return torch.cat([one.unflatten(0, (n, -1)) for one in sr], 1)

    def _sr(self, lq: Tensor) -> Tensor:
        output = self.network(lq)
        return output["sr"] if isinstance(output, dict) else output

    def _views(self, lq: Tensor, times: Tensor) -> Tensor:
        """What the network gets for some of the frames: (N, times, C, h, w) or (N, times, K, …)."""
        if self._window == 1 and self.network.num_frame == 1:
            return lq[:, times]
        reach = range(-(self._window // 2), self._window - self._window // 2)
        order = [step for step in reach if step]
        order.insert(getattr(self.network, "reference", 0), 0)
        windows = times[:, None] + torch.tensor(order)
        missing = (windows < 0) | (windows >= lq.shape[1])
        return lq[:, torch.where(missing, times[:, None], windows)]


def _without_prefix(module: nn.Module, state: dict[str, Any], prefix: str, _: Any) -> None:
    inner = prefix + _INNER
    for key in [key for key in state if key.startswith(inner)]:
        state[prefix + key.removeprefix(inner)] = state.pop(key)


def _with_prefix(module: nn.Module, state: dict[str, Any], prefix: str, *_: Any) -> None:
    for key in [key for key in state if key.startswith(prefix)]:
        state[prefix + _INNER + key.removeprefix(prefix)] = state.pop(key)
