"""Image quality metrics, and the protocols under which they are computed."""

from srtoolbox.metrics.base import Metric, MetricUnavailable
from srtoolbox.metrics.lpips import LPIPS
from srtoolbox.metrics.protocol import PROTOCOLS, Protocol, get_protocol
from srtoolbox.metrics.psnr import PSNR
from srtoolbox.metrics.ssim import SSIM

__all__ = [
    "LPIPS",
    "PROTOCOLS",
    "PSNR",
    "SSIM",
    "Metric",
    "MetricUnavailable",
    "Protocol",
    "get_protocol",
]
