"""TwoStage: a baseline in space and time that interpolates frames and then super-resolves them."""

from __future__ import annotations

from typing import Annotated, Any

import torch
from torch import Tensor, nn

from srtoolbox.archs.base import arch_info
from srtoolbox.archs.layers.upsample import check_scale
from srtoolbox.archs.layers.video.interpolate import interpolate_frames
from srtoolbox.config.schema import Component, build
from srtoolbox.errors import UserError
from srtoolbox.registry import ARCH_REGISTRY

_PREFIX = "network."


@ARCH_REGISTRY.register()
class TwoStage(nn.Module):
    """Interpolates frames by warping along optical flow, then applies a network to each frame.

    This is the baseline for joint methods. The first stage has no parameters; the second one is
    trained on all frames. Weights have the names of the inner network, so that weights of a network
    trained for super-resolution in space can be loaded.

    A single-image network gets each frame. A network that restores one of several frames gets a
    window of frames around each; frames beyond the ends of the clip are replaced by the frame to
    restore. A network that restores all its frames gets all frames.

    Args:
        scale: Factor by which height and width grow.
        network: The registered arch of the second stage and its options; null means EDSR.
        time_scale: Frame rate of the output divided by that of the input.
        num_window: Size of the window for a network that accepts any number of frames.
        flow: Name of the estimator of the optical flow between the given frames.
        num_in_ch: Bands of the input, given to the network of the second stage; None: its own.
        num_out_ch: Bands of the output, given to it likewise; None: its own.
    """

    paper = "interpolation after Jiang et al., Super SloMo, CVPR 2018; then the network's own paper"
    scales = (2, 3, 4)
    restores_all = True
    own_weights = False  # their names are those of the network inside
    needs_flow = "DIS"
    num_frame = None

    def __init__(
        self,
        scale: int = 4,
        network: Annotated[dict[str, Any], Component("arch", ("scale",))] | None = None,
        time_scale: int = 2,
        num_window: int = 5,
        flow: str = "DIS",
        num_in_ch: int | None = None,
        num_out_ch: int | None = None,
    ) -> None:
        super().__init__()
        if time_scale < 2 or num_window < 1:
            raise UserError(
                "TwoStage: time_scale is at least 2 and num_window at least 1, got "
                f"{time_scale} and {num_window}"
            )
        bands = {"num_in_ch": num_in_ch, "num_out_ch": num_out_ch}
        bands = {option: number for option, number in bands.items() if number is not None}
        self.network = build("arch", network or {"type": "EDSR"}, scale=scale, **bands)
        self._inner = inner = arch_info(self.network)
        if inner.time_scale > 1:
            name = type(self.network).__name__
            raise UserError(f"TwoStage: {name} interpolates frames itself; use it alone")
        self.scales = inner.scales
        self.scale = check_scale(self, scale)
        if self.network.scale != scale:
            raise UserError(f"TwoStage: network.scale is {self.network.scale}, the run's {scale}")
        self.time_scale, self.needs_flow = time_scale, flow
        self.size_multiple, self.min_size = inner.size_multiple, inner.min_size
        self.pad_mode = inner.pad_mode
        self.channels, self.out_channels = inner.channels, inner.out_channels
        if num_in_ch not in (None, self.channels) or num_out_ch not in (None, self.out_channels):
            raise UserError(
                f"TwoStage: num_in_ch is {num_in_ch} and num_out_ch {num_out_ch}, but its network "
                f"maps {self.channels} bands to {self.out_channels}; set them in network only"
            )
        self.checkpoint_blocks = tuple(_PREFIX + block for block in inner.checkpoint_blocks)
        self.dead_parameters = tuple(_PREFIX + prefix for prefix in inner.dead_parameters)
        self._offsets = _window_offsets(inner.num_frame or num_window, inner.reference)
        self.register_state_dict_post_hook(_without_prefix)
        self.register_load_state_dict_pre_hook(_with_prefix)

    def forward(self, lq: Tensor, flow: Tensor | None = None) -> Tensor:
        """Super-resolves a clip in space and time.

        Args:
            lq: (N, T, num_in_ch, h, w) in [0, 1].
            flow: (N, 2, T - 1, 2, h, w) in LR pixels, x before y: from each frame to the next, and
                back. None means no motion.

        Returns:
            (N, time_scale * (T - 1) + 1, num_out_ch, h * scale, w * scale).
        """
        n, frames, _, height, width = lq.shape
        if flow is None:
            flow = lq.new_zeros(n, 2, frames - 1, 2, height, width)
        lq = interpolate_frames(lq, flow, self.time_scale)
        if self._inner.restores_all:
            return self._sr(lq)
        # Frame by frame in evaluation, to save memory.
        times = torch.arange(lq.shape[1])
        parts = [times] if torch.is_grad_enabled() else times.split(1)
        sr = [self._sr(self._inputs(lq, part).flatten(0, 1)) for part in parts]
        return torch.cat([part.unflatten(0, (n, -1)) for part in sr], 1)

    def _sr(self, lq: Tensor) -> Tensor:
        output = self.network(lq)
        return output["sr"] if isinstance(output, dict) else output

    def _inputs(self, lq: Tensor, times: Tensor) -> Tensor:
        """Returns the network's inputs for some frames: (N, times, C, h, w) or (N, times, K, …)."""
        if self._inner.num_frame == 1:
            return lq[:, times]
        windows = times[:, None] + torch.tensor(self._offsets)
        missing = (windows < 0) | (windows >= lq.shape[1])
        return lq[:, torch.where(missing, times[:, None], windows)]


def _window_offsets(num_frame: int, reference: int) -> list[int]:
    """Returns the time offsets of a window's frames, in the order that a network expects."""
    first = -(num_frame // 2)
    offsets = [offset for offset in range(first, first + num_frame) if offset]
    offsets.insert(reference, 0)
    return offsets


def _without_prefix(module: nn.Module, state: dict[str, Any], prefix: str, _: Any) -> None:
    inner = prefix + _PREFIX
    for key in [key for key in state if key.startswith(inner)]:
        state[prefix + key.removeprefix(inner)] = state.pop(key)


def _with_prefix(module: nn.Module, state: dict[str, Any], prefix: str, *_: Any) -> None:
    for key in [key for key in state if key.startswith(prefix)]:
        state[prefix + _PREFIX + key.removeprefix(prefix)] = state.pop(key)
