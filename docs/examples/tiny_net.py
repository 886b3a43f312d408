"""A network outside of the package: an option file names this file under ``plugins``."""

from torch import Tensor, nn

from srtoolbox import ARCH_REGISTRY


@ARCH_REGISTRY.register()
class TinyNet(nn.Module):
    """Three convolutions and a pixel shuffle (after ESPCN, Shi et al., CVPR 2016).

    Args:
        scale: Super-resolution factor.
        num_feat: Channels of the hidden layers.
    """

    scales = (2, 3, 4)  # factors that it can be built for; all other attributes have defaults

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
