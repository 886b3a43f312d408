"""A network of one's own, outside the package: a plain file that an option file names."""

from torch import Tensor, nn

from srtoolbox import ARCH_REGISTRY


@ARCH_REGISTRY.register()
class TinyNet(nn.Module):
    """Three convolutions and a pixel shuffle (after ESPCN, Shi et al., CVPR 2016).

    Args:
        scale: Super-resolution factor.
        num_feat: Channels of the hidden layers.
    """

    paper = "an example"
    scales = (2, 3, 4)  # what it can be built for
    num_frame = 1  # 1: single images (N, C, h, w); 5: five frames; None: any number (N, T, C, h, w)
    size_multiple = 1  # the toolbox pads inputs to this and crops the result
    min_size = 1

    def __init__(self, scale: int = 4, num_feat: int = 32) -> None:
        super().__init__()
        self.scale = scale
        self.body = nn.Sequential(
            nn.Conv2d(3, num_feat, 5, padding=2),
            nn.ReLU(),
            nn.Conv2d(num_feat, num_feat, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(num_feat, 3 * scale**2, 3, padding=1),
            nn.PixelShuffle(scale),
        )

    def forward(self, lq: Tensor) -> Tensor:
        """RGB in [0, 1]: (N, 3, h, w) to (N, 3, h·scale, w·scale)."""
        return self.body(lq)
