"""Training objectives, registered by name."""

from srtoolbox.losses.adversarial import AdversarialLoss, GANType, gradient_penalty
from srtoolbox.losses.base import (
    Loss,
    Reduction,
    as_images,
    check_shapes,
    masked_mean,
    run_loss,
)
from srtoolbox.losses.perceptual import LPIPSLoss, PerceptualLoss
from srtoolbox.losses.pixel import CharbonnierLoss, L1Loss, MSELoss, PSNRLoss
from srtoolbox.losses.sequence import AlignmentLoss, TemporalConsistencyLoss
from srtoolbox.losses.structure import EdgeLoss, FFTLoss, GradientWeightedLoss, SSIMLoss

__all__ = [
    "AdversarialLoss",
    "AlignmentLoss",
    "CharbonnierLoss",
    "EdgeLoss",
    "FFTLoss",
    "GANType",
    "GradientWeightedLoss",
    "L1Loss",
    "LPIPSLoss",
    "Loss",
    "MSELoss",
    "PSNRLoss",
    "PerceptualLoss",
    "Reduction",
    "SSIMLoss",
    "TemporalConsistencyLoss",
    "as_images",
    "check_shapes",
    "gradient_penalty",
    "masked_mean",
    "run_loss",
]
