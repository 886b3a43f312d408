"""Image and clip quality metrics, and the protocols under which they are computed."""

from srtoolbox.metrics.base import (
    AnyMetric,
    ClipMetric,
    Metric,
    MetricUnavailable,
    NoReferenceMetric,
    build_metric,
)
from srtoolbox.metrics.consistency import (
    Hallucination,
    Improvement,
    Omission,
    ReflectanceConsistency,
    SpectralConsistency,
)
from srtoolbox.metrics.iqa import PyIQA
from srtoolbox.metrics.lpips import LPIPS
from srtoolbox.metrics.niqe import NIQE
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
    "NIQE",
    "PROTOCOLS",
    "PSNR",
    "SAM",
    "SSIM",
    "TOF",
    "UIQI",
    "AnyMetric",
    "ClipMetric",
    "Hallucination",
    "Improvement",
    "Metric",
    "MetricUnavailable",
    "NoReferenceMetric",
    "Omission",
    "ProbaVScore",
    "Protocol",
    "PyIQA",
    "ReflectanceConsistency",
    "SpectralConsistency",
    "TemporalPSNR",
    "WarpingError",
    "build_metric",
    "get_protocol",
]
