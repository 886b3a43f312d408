"""DSRNet, a single-image network with two branches between which a gate chooses per image."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from srtoolbox.archs.layers.upsample import Upsample, check_scale
from srtoolbox.errors import UserError
from srtoolbox.registry import ARCH_REGISTRY

RGB_MEAN = (0.4488, 0.4371, 0.4040)
"""Mean colour of the DIV2K training images."""


@ARCH_REGISTRY.register()
class DSRNet(nn.Module):
    """Dynamic super-resolution network.

    As in the public code, ``conv8`` is applied three times in a row, while ``conv9`` and
    ``conv10`` exist (published weights hold them) and are never used.

    The public code draws the gate's choice at random even when testing, one for the whole batch,
    and no gradient reaches the gate. Here the choice is made per image; in training it is drawn
    with a straight-through Gumbel-softmax from torch's global generator, so that the gate learns;
    in eval mode it is the likelier branch. In the published weights the gate never learned, and
    branch 2 is the trained one: use them with ``branch=2``.

    Args:
        scale: Factor by which height and width grow.
        num_feat: Channels of the features.
        branch: "gate" lets the gate choose; 1 (four 3×3 convolutions) or 2 (3×3 and 1×1
            alternating) always takes that branch, and the other and the gate stay unused.
    """

    paper = "Tian et al., Image super-resolution via dynamic network, CAAI Trans. 2023"
    scales = (2, 3, 4)
    num_frame = 1
    size_multiple = 1
    min_size = 1
    dead_parameters = ("conv9.", "conv10.")

    def __init__(
        self,
        scale: int = 4,
        num_feat: int = 64,
        branch: Literal["gate", 1, 2] = "gate",
    ) -> None:
        super().__init__()
        if branch not in ("gate", 1, 2):
            raise UserError(f"DSRNet: branch must be 'gate', 1 or 2, got {branch!r}")
        self.scale = check_scale(self, scale)
        self.branch = branch
        if branch != "gate":
            other = 3 - branch
            unused = tuple(f"conv{index}_{other}." for index in (7, 8, 9, 10))
            self.dead_parameters = (*type(self).dead_parameters, "gate.", *unused)

        self.sub_mean = MeanShift(-1)
        self.add_mean = MeanShift(+1)
        self.conv1 = _conv(3, num_feat)
        for index in range(2, 17):
            self.add_module(f"conv{index}", _conv(num_feat, num_feat))
        self.gate = Gate(num_feat)
        for index, kernel_size in zip((7, 8, 9, 10), (3, 1, 3, 1), strict=True):
            self.add_module(f"conv{index}_1", _conv(num_feat, num_feat))
            self.add_module(f"conv{index}_2", _conv(num_feat, num_feat, kernel_size))
        self.upsample = _Up(scale, num_feat)
        # Without ReLU, though it is an entry of a sequence like the others (the key is conv17.0).
        self.conv17 = nn.Sequential(nn.Conv2d(num_feat, 3, 3, padding=1, bias=False))

    def forward(self, lq: Tensor) -> Tensor:
        """Maps (N, 3, h, w) in [0, 1] to (N, 3, h * scale, w * scale)."""
        x1 = self.conv1(self.sub_mean(lq))
        x2 = self.conv2(x1)
        x4 = self.conv4(self.conv3(x2))
        x6 = self.conv6(self.conv5(x2 + x4))
        x10 = self.conv8(self.conv8(self.conv8(self.conv7(x6))))
        x10 = x10 + self._branches(x6)
        x15 = self.conv15(self.conv14(self.conv13(self.conv12(self.conv11(x10)))))
        x16 = self.conv16(x15 + x4 + x1)
        return self.add_mean(self.conv17(self.upsample(x16)))

    def _branches(self, x: Tensor) -> Tensor:
        if self.branch == 1:
            return self._branch1(x)
        if self.branch == 2:
            return self._branch2(x)
        # Both are computed and one is kept: the straight-through gradient needs the two, and
        # looking at the choice would make a GPU wait.
        choice = self.gate(x).to(x.dtype).view(-1, 2, 1, 1, 1)
        return choice[:, 0] * self._branch2(x) + choice[:, 1] * self._branch1(x)

    def _branch1(self, x: Tensor) -> Tensor:
        return self.conv10_1(self.conv9_1(self.conv8_1(self.conv7_1(x))))

    def _branch2(self, x: Tensor) -> Tensor:
        return self.conv10_2(self.conv9_2(self.conv8_2(self.conv7_2(x))))


class Gate(nn.Module):
    """Chooses one of two: drawn in training, with a gradient; the likelier one in eval mode.

    Args:
        num_feat: Channels of the feature to look at.
    """

    def __init__(self, num_feat: int) -> None:
        super().__init__()
        hidden = max(1, num_feat // 4)
        self.fc1 = nn.Linear(num_feat, hidden)
        self.fc2 = nn.Linear(hidden, 2)
        with torch.no_grad():
            self.fc2.bias.copy_(torch.tensor([0.1, 2.0]))

    def logits(self, x: Tensor) -> Tensor:
        """Maps (N, num_feat, h, w) to the (N, 2) unnormalised log-probabilities."""
        return self.fc2(torch.relu(self.fc1(x.mean(dim=(2, 3)))))

    def forward(self, x: Tensor) -> Tensor:
        """Maps (N, num_feat, h, w) to one-hot rows (N, 2), float32 or wider."""
        logits = self.logits(x)
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        if self.training:
            return F.gumbel_softmax(logits, tau=1.0, hard=True)
        return F.one_hot(logits.argmax(dim=1), 2).to(logits.dtype)


class MeanShift(nn.Module):
    """Adds ``sign`` times the mean colour; a frozen 1×1 convolution, as published weights have it.

    Args:
        sign: +1 or −1.
    """

    def __init__(self, sign: int) -> None:
        super().__init__()
        self.shifter = nn.Conv2d(3, 3, 1)
        with torch.no_grad():
            self.shifter.weight.copy_(torch.eye(3).view(3, 3, 1, 1))
            self.shifter.bias.copy_(sign * torch.tensor(RGB_MEAN))
        self.shifter.requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        """Maps (N, 3, h, w) to the same shape."""
        # The sum itself and not a convolution with the identity, which costs time and, in half
        # precision or TF32, the last bits of the image.
        return x + self.shifter.bias.view(-1, 1, 1)


class _Up(nn.Module):
    """Holds the upsampler under the nested names (``up.body``) of the published weights."""

    def __init__(self, scale: int, num_feat: int) -> None:
        super().__init__()
        self.up = nn.Module()
        self.up.body = Upsample(scale, num_feat)

    def forward(self, x: Tensor) -> Tensor:
        return self.up.body(x)


def _conv(num_in: int, num_out: int, kernel_size: int = 3) -> nn.Sequential:
    """Convolution without bias, and ReLU."""
    conv = nn.Conv2d(num_in, num_out, kernel_size, padding=kernel_size // 2, bias=False)
    return nn.Sequential(conv, nn.ReLU())
