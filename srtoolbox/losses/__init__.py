"""Training objectives, registered by name."""

from srtoolbox.losses.pixel import CharbonnierLoss, L1Loss, MSELoss

__all__ = ["CharbonnierLoss", "L1Loss", "MSELoss"]
