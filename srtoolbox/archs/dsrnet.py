"""DSRNet: a single-image network with two branches; a gate selects one for each image."""

from __future__ import annotations

from collections import OrderedDict
from typing import Literal, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from srtoolbox.archs.layers.bands import RGB_MEAN, check_bands
from srtoolbox.archs.layers.upsample import Upsample, check_scale
from srtoolbox.errors import check_choice
from srtoolbox.registry import ARCH_REGISTRY


@ARCH_REGISTRY.register()
class DSRNet(nn.Module):
    """Dynamic super-resolution network.

    As in the public code, ``conv8`` is applied three times in a row, while ``conv9`` and
    ``conv10`` exist (they are in published weights) and are never used.

    The public code draws the gate's choice at random, also in tests and once for the whole batch,
    and no gradient reaches the gate. Here the choice is made for each image. In training it is
    drawn by a straight-through Gumbel-softmax from torch's global generator, so that the gate
    learns; in eval mode it is the more probable branch. The gate of the published weights is
    untrained, and branch 2 is the trained one: use these weights with ``branch=2``.

    Args:
        scale: Factor by which height and width grow.
        num_feat: Channels of the features.
        branch: "gate": the gate chooses. 1 (four 3×3 convolutions) or 2 (alternating 3×3 and 1×1):
            always this branch; the other one and the gate are unused.
        num_in_ch: Bands of the input. The mean colour is subtracted from 3 bands only (RGB).
        num_out_ch: Bands of the output; None: as many as the input. The mean colour is added to 3
            bands only.
    """

    paper = "Tian et al., Image super-resolution via dynamic network, CAAI Trans. 2023"
    scales = (2, 3, 4)
    dead_parameters = ("conv9.", "conv10.")

    def __init__(
        self,
        scale: int = 4,
        num_feat: int = 64,
        branch: Literal["gate", 1, 2] = "gate",
        num_in_ch: int = 3,
        num_out_ch: int | None = None,
    ) -> None:
        super().__init__()
        check_choice("DSRNet: branch", branch, ("gate", 1, 2))
        self.scale = check_scale(self, scale)
        self.channels, self.out_channels = check_bands(self, num_in_ch, num_out_ch)
        self.branch: Literal["gate", 1, 2] = branch
        if branch != "gate":
            other = 3 - branch
            unused = tuple(f"conv{index}_{other}." for index in (7, 8, 9, 10))
            self.dead_parameters = (*type(self).dead_parameters, "gate.", *unused)

        self.sub_mean = MeanShift(-1) if self.channels == 3 else nn.Identity()
        self.add_mean = MeanShift(+1) if self.out_channels == 3 else nn.Identity()
        self.conv1 = _conv(self.channels, num_feat)
        for index in range(2, 17):
            self.add_module(f"conv{index}", _conv(num_feat, num_feat))
        self.gate = Gate(num_feat)
        for index, kernel_size in zip((7, 8, 9, 10), (3, 1, 3, 1), strict=True):
            self.add_module(f"conv{index}_1", _conv(num_feat, num_feat))
            self.add_module(f"conv{index}_2", _conv(num_feat, num_feat, kernel_size))
        # Nested for the keys of published weights, upsample.up.body.0.weight and so on.
        up = nn.Sequential(OrderedDict(body=Upsample(scale, num_feat)))
        self.upsample = nn.Sequential(OrderedDict(up=up))
        # No ReLU here; the sequence only gives the published key, conv17.0.
        self.conv17 = nn.Sequential(
            nn.Conv2d(num_feat, self.out_channels, 3, padding=1, bias=False)
        )

    def forward(self, lq: Tensor) -> Tensor:
        """Maps (N, num_in_ch, h, w) in [0, 1] to (N, num_out_ch, h * scale, w * scale)."""
        x1 = self.conv1(self.sub_mean(lq))
        x2 = self._apply_convs(x1, "2")
        x4 = self._apply_convs(x2, "3", "4")
        x6 = self._apply_convs(x2 + x4, "5", "6")
        x10 = self._apply_convs(x6, "7", "8", "8", "8")
        x10 = x10 + self._branches(x6)
        x15 = self._apply_convs(x10, "11", "12", "13", "14", "15")
        x16 = self._apply_convs(x15 + x4 + x1, "16")
        return self.add_mean(self.conv17(self.upsample(x16)))

    def _branches(self, x: Tensor) -> Tensor:
        if self.branch != "gate":
            return self._branch(x, self.branch)
        # Both branches are computed: the straight-through gradient needs both, and reading the
        # choice would make a GPU wait.
        choice = self.gate(x).to(x.dtype).view(-1, 2, 1, 1, 1)
        return choice[:, 0] * self._branch(x, 2) + choice[:, 1] * self._branch(x, 1)

    def _branch(self, x: Tensor, number: int) -> Tensor:
        return self._apply_convs(x, *(f"{index}_{number}" for index in (7, 8, 9, 10)))

    def _apply_convs(self, x: Tensor, *numbers: str) -> Tensor:
        """Applies the layers ``conv{number}`` one after the other."""
        for number in numbers:
            x = getattr(self, f"conv{number}")(x)
        return x


class Gate(nn.Module):
    """Chooses one of two branches: at random in training (with a gradient), else the more probable.

    Args:
        num_feat: Channels of the input features.
    """

    def __init__(self, num_feat: int) -> None:
        super().__init__()
        hidden = max(1, num_feat // 4)
        self.fc1 = nn.Linear(num_feat, hidden)
        self.fc2 = nn.Linear(hidden, 2)
        with torch.no_grad():
            self.fc2.bias.copy_(torch.tensor([0.1, 2.0]))

    def logits(self, x: Tensor) -> Tensor:
        """Maps (N, num_feat, h, w) to unnormalised log-probabilities (N, 2)."""
        return self.fc2(torch.relu(self.fc1(x.mean(dim=(2, 3)))))

    def forward(self, x: Tensor) -> Tensor:
        """Maps (N, num_feat, h, w) to one-hot rows (N, 2), in at least float32."""
        logits = self.logits(x)
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        if self.training:
            return F.gumbel_softmax(logits, tau=1.0, hard=True)
        return F.one_hot(logits.argmax(dim=1), 2).to(logits.dtype)


class MeanShift(nn.Module):
    """Adds ``sign`` times the mean colour; stored as a frozen 1×1 convolution in weight files.

    Args:
        sign: +1 or −1.
    """

    def __init__(self, sign: int) -> None:
        super().__init__()
        self.shifter = nn.Conv2d(3, 3, 1)
        with torch.no_grad():
            self.shifter.weight.copy_(torch.eye(3).view(3, 3, 1, 1))
            cast(Tensor, self.shifter.bias).copy_(sign * torch.tensor(RGB_MEAN))
        self.shifter.requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        """Maps (N, 3, h, w) to the same shape."""
        # A sum instead of a convolution with the identity, which is slower and, in half precision
        # or TF32, loses the last bits of the image.
        return x + cast(Tensor, self.shifter.bias).view(-1, 1, 1)


def _conv(num_in: int, num_out: int, kernel_size: int = 3) -> nn.Sequential:
    """Returns a convolution without bias, followed by ReLU."""
    conv = nn.Conv2d(num_in, num_out, kernel_size, padding=kernel_size // 2, bias=False)
    return nn.Sequential(conv, nn.ReLU())
