"""BasicVSR++: features that are carried through a clip four times, aligned to two frames."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from srtoolbox.archs.layers.basic import conv3, is_exporting
from srtoolbox.archs.layers.burst.motion import warp
from srtoolbox.archs.layers.deform import DeformConv
from srtoolbox.archs.layers.video.recurrent import RecurrentNetwork, Trunk, to_fast_format
from srtoolbox.errors import UserError
from srtoolbox.registry import ARCH_REGISTRY

_BLOCK_SIZE = 2**26  # bytes; twice the size that glibc returns to the system at once
BRANCHES = ("backward_1", "forward_1", "backward_2", "forward_2")


@ARCH_REGISTRY.register()
class BasicVSRPlusPlus(RecurrentNetwork):
    """Recurrent network with second-order propagation; the defaults are the published size.

    It restores all frames of a clip of any length. Features are carried from the last frame to the
    first and back, twice. At each frame, the features of the last two frames on the way are aligned
    by a deformable convolution, whose offsets are small corrections of the optical flow.

    Args:
        scale: 4, or 1 for the variant whose input is as large as its output.
        num_feat: Channels of the features.
        num_block: Residual blocks of each of the four passes.
        num_extract_block: Residual blocks applied to each frame.
        num_reconstruct_block: Residual blocks after the passes.
        deformable_groups: Groups of channels, each with its own offsets: the first half for the
            last frame, the second half for the frame before. Divides ``2 * num_feat``.
        max_residue: Largest difference between an offset and the optical flow, in pixels.
        num_hr_feat: Channels after the second enlargement.
        num_flow_level: Levels of SpyNet, each half as large as the next.
        num_flow_feat: Channels of SpyNet's first convolution.
        num_in_ch: Bands of the input. The flow of other numbers than 3 is that of their mean.
        num_out_ch: Bands of the output, equal to ``num_in_ch``, since the result is added to the
            input; None: ``num_in_ch``.
    """

    paper = "Chan et al., BasicVSR++: Enhanced propagation and alignment, CVPR 2022"
    scales = (1, 4)
    checkpoint_blocks = (
        "feat_extract.main.2",
        *(f"backbone.{branch}.main.2" for branch in BRANCHES),
        "reconstruction.main.2",
    )

    def __init__(
        self,
        scale: int = 4,
        num_feat: int = 64,
        num_block: int = 7,
        num_extract_block: int = 5,
        num_reconstruct_block: int = 5,
        deformable_groups: int = 16,
        max_residue: float = 10,
        num_hr_feat: int = 64,
        num_flow_level: int = 6,
        num_flow_feat: int = 32,
        num_in_ch: int = 3,
        num_out_ch: int | None = None,
    ) -> None:
        flow = num_flow_level, num_flow_feat
        super().__init__(scale, num_feat, num_hr_feat, *flow, num_in_ch, num_out_ch)
        self.size_multiple = self.min_size = 4 if scale == 1 else 1
        if scale == 1:
            self.feat_extract: nn.Module = nn.Sequential(
                conv3(num_in_ch, num_feat, stride=2),
                nn.LeakyReLU(0.1),
                conv3(num_feat, num_feat, stride=2),
                nn.LeakyReLU(0.1),
                Trunk(num_feat, num_feat, num_extract_block),
            )
            self.checkpoint_blocks = ("feat_extract.4.main.2", *self.checkpoint_blocks[1:])
        else:
            self.feat_extract = Trunk(num_in_ch, num_feat, num_extract_block)
        self.deform_align = nn.ModuleDict(
            {
                branch: SecondOrderAlignment(num_feat, deformable_groups, max_residue)
                for branch in BRANCHES
            }
        )
        self.backbone = nn.ModuleDict(
            {
                branch: Trunk((2 + number) * num_feat, num_feat, num_block)
                for number, branch in enumerate(BRANCHES)
            }
        )
        self.reconstruction = Trunk(5 * num_feat, num_feat, num_reconstruct_block)

    def forward(self, lq: Tensor) -> Tensor:
        """Super-resolves all frames of each clip.

        Args:
            lq: (N, T, num_in_ch, h, w) in [0, 1].

        Returns:
            (N, T, num_in_ch, h * scale, w * scale).
        """
        small = lq
        if self.scale == 1:
            size = [lq.shape[-2] // 4, lq.shape[-1] // 4]
            small = F.interpolate(lq.flatten(0, 1), size, mode="bicubic")
            small = small.unflatten(0, lq.shape[:2])
        to_next, to_previous = self.flows(small)
        frames = [to_fast_format(frame) for frame in lq.unbind(1)]
        # For each frame, the features that all passes up to now computed.
        keep = _Keeper(len(BRANCHES) * len(frames))
        known = [[keep(self.feat_extract(frame))] for frame in frames]
        restored = []
        for branch in BRANCHES:
            backward = branch.startswith("backward")
            order = list(range(len(frames)))[:: -1 if backward else 1]
            flows = to_next[::-1] if backward else to_previous
            previous: list[Tensor] = []  # features of the last two frames, the last one first
            for step, i in enumerate(order):
                feat = self._align(branch, known[i][0], previous, flows[max(step - 2, 0) : step])
                feat = feat + self.backbone[branch](torch.cat([*known[i], feat], 1))
                previous = [feat, *previous[:1]]
                if branch != BRANCHES[-1]:
                    known[i].append(keep(feat))
                    continue
                final = self.reconstruction(torch.cat([*known[i], feat], 1))
                restored.append(self.enlarge_features(final, frames[i]))
                known[i] = []  # frees the memory
        return torch.stack(restored, 1)

    def _align(
        self, branch: str, own: Tensor, previous: list[Tensor], flows: list[Tensor]
    ) -> Tensor:
        """Returns the features of the last two frames, aligned to a frame: (N, num_feat, h, w).

        Args:
            branch: The pass.
            own: First features of the frame (N, num_feat, h, w).
            previous: Features of the last frame and of the one before, as far as there are any.
            flows: Flow of the last frame to the one before it, and of the frame to the last one;
                the former is missing for the second frame of a pass.
        """
        if not previous:
            return torch.zeros_like(own)
        last, flow = previous[0], flows[-1]
        moved = warp(last, flow, "zeros")
        if len(previous) == 1:
            nothing = torch.zeros_like(own)
            before, moved_before, flow_before = nothing, nothing, torch.zeros_like(flow)
        else:
            before, flow_before = previous[1], flow + warp(flows[0], flow, "zeros")
            moved_before = warp(before, flow_before, "zeros")
        condition = torch.cat([moved, own, moved_before, flow, flow_before], 1)
        both = torch.cat([last, before], 1)
        aligned = self.deform_align[branch](both, to_fast_format(condition), flow, flow_before)
        return to_fast_format(aligned)


class _Keeper:
    """Keeps feature maps in blocks of memory that the system gets back as soon as they are unused.

    The C library returns only large pieces of memory at once. Without blocks, a long clip needs
    memory for all features and all SR frames at the same time.

    Args:
        num_map: How many maps will be kept.
    """

    def __init__(self, num_map: int) -> None:
        self.num_map = num_map
        self.free: list[Tensor] = []

    def __call__(self, feat: Tensor) -> Tensor:
        """Returns a copy of ``feat`` (N, C, h, w) in a block; in training, ``feat`` itself."""
        if feat.requires_grad or feat.device.type != "cpu" or is_exporting():
            return feat
        if not self.free:
            n, c, h, w = feat.shape
            count = min(-(-_BLOCK_SIZE // max(feat.nbytes, 1)), self.num_map)
            block = feat.new_empty(count, n, h, w, c).movedim(-1, 2)
            self.free = list(block.unbind())
        self.num_map -= 1
        return self.free.pop().copy_(feat)


class SecondOrderAlignment(DeformConv):
    """Deformable convolution of the features of two frames, guided by optical flow.

    Args:
        num_feat: Channels of a frame's features.
        deformable_groups: Groups of channels of both frames, each with its own offsets and mask.
        max_residue: Largest difference between an offset and the flow, in pixels.
    """

    def __init__(self, num_feat: int, deformable_groups: int, max_residue: float) -> None:
        if deformable_groups < 2 or deformable_groups % 2:
            raise UserError(
                f"BasicVSRPlusPlus: deformable_groups must be even, got {deformable_groups}; one "
                "half is for the last frame, the other one for the frame before"
            )
        super().__init__(2 * num_feat, num_feat, deformable_groups)
        self.max_residue = max_residue
        layers: list[nn.Module] = [conv3(3 * num_feat + 4, num_feat), nn.LeakyReLU(0.1)]
        for _ in range(2):
            layers += [conv3(num_feat, num_feat), nn.LeakyReLU(0.1)]
        last = conv3(num_feat, self.offset_channels * 3 // 2)
        for parameter in last.parameters():
            nn.init.zeros_(parameter)
        self.conv_offset = nn.Sequential(*layers, last)

    def forward(self, x: Tensor, condition: Tensor, flow: Tensor, flow_before: Tensor) -> Tensor:
        """Aligns the features of two frames.

        Args:
            x: Features of both frames, one after the other: (N, 2 * num_feat, h, w).
            condition: What the offsets depend on: (N, 3 * num_feat + 4, h, w).
            flow: Flow to the first of them, (N, 2, h, w) in pixels, x before y.
            flow_before: Flow to the second.

        Returns:
            (N, num_feat, h, w).
        """
        hidden = self.conv_offset[:-1](condition)
        # The deformable convolution needs its many offsets in the usual memory format.
        result = self.conv_offset[-1](hidden.contiguous())
        raw, mask = result.split([self.offset_channels, self.offset_channels // 2], 1)
        # Offsets are pairs of y and x; half of the groups belong to each frame.
        flows = torch.stack([flow, flow_before], 1).flip(2)[:, :, None]
        residue = torch.tanh(raw).unflatten(1, (2, -1, 2))
        offset = torch.add(flows, residue, alpha=self.max_residue)
        return super().forward(x, offset.flatten(1, 3), torch.sigmoid(mask))
