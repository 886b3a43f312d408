"""Trackers write the points of a training: to JSONL files, TensorBoard, W&B or MLflow."""

from srtoolbox.engine.training.trackers.base import TrackedRun, Tracker
from srtoolbox.engine.training.trackers.jsonl import JSONL
from srtoolbox.engine.training.trackers.mlflow import MLflow
from srtoolbox.engine.training.trackers.tensorboard import TensorBoard
from srtoolbox.engine.training.trackers.wandb import WandB

__all__ = ["JSONL", "MLflow", "TensorBoard", "TrackedRun", "Tracker", "WandB"]
