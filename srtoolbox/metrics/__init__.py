"""Image and clip quality metrics, and the protocols under which they are computed."""

from srtoolbox.metrics.base import ClipMetric, Metric, MetricUnavailable, build_metric
from srtoolbox.metrics.consistency import (
    Hallucination,
    Improvement,
    Omission,
    ReflectanceConsistency,
    SpectralConsistency,
)
from srtoolbox.metrics.lpips import LPIPS
from srtoolbox.metrics.proba_v import CPSNR, ProbaVScore
from srtoolbox.metrics.protocol import PROTOCOLS, Protocol, get_protocol
from srtoolbox.metrics.psnr import PSNR
from srtoolbox.metrics.remote_sensing import ERGAS, SAM, UIQI
from srtoolbox.metrics.ssim import SSIM
from srtoolbox.metrics.temporal import TOF, TemporalPSNR, WarpingError

__all__ = [
    "CPSNR",
    "ERGAS",
    "LPIPS",
    "PROTOCOLS",
    "PSNR",
    "SAM",
    "SSIM",
    "TOF",
    "UIQI",
    "ClipMetric",
    "Hallucination",
    "Improvement",
    "Metric",
    "MetricUnavailable",
    "Omission",
    "ProbaVScore",
    "Protocol",
    "ReflectanceConsistency",
    "SpectralConsistency",
    "TemporalPSNR",
    "WarpingError",
    "build_metric",
    "get_protocol",
]
