"""Models: run networks on batches and compute their losses."""

from srtoolbox.models.gan_model import GANModel, GANOptions
from srtoolbox.models.loss_schedule import LossSchedule, schedule_faults
from srtoolbox.models.sr_model import SRModel

__all__ = ["GANModel", "GANOptions", "LossSchedule", "SRModel", "schedule_faults"]
