"""Runs in MLflow."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Annotated, Any

from srtoolbox.config.ranges import Range
from srtoolbox.engine.training.trackers.base import EndState, TrackedRun, Tracker, require
from srtoolbox.registry import LOGGER_REGISTRY
from srtoolbox.utils.files import acquire_lock

_STATUS: dict[EndState, str] = {"finished": "FINISHED", "failed": "FAILED", "interrupted": "KILLED"}
_MAX_TEXT, _MAX_BATCH = 500, 100  # characters of a parameter, parameters per call
_MAX_WAIT = 60.0  # seconds for another training that makes the same experiment


@LOGGER_REGISTRY.register()
class MLflow(Tracker):
    """Writes a run of MLflow (extra ``mlflow``), by default to files without the network.

    A resumed run continues under the same id. A point that the run already has is not written a
    second time.

    Args:
        experiment: Name of the experiment; null: the name of the study, or ``srtoolbox``.
        tracking_uri: Where the runs are stored, as MLflow takes it (``http://…``,
            ``sqlite:///…``); null: the folder ``mlruns`` in the folder of the run or, in a study,
            of the study.
        num_image: Maximum number of SR images per dataset and evaluation; needs ``val.save_img``.
    """

    def __init__(
        self,
        experiment: str | None = None,
        tracking_uri: str | None = None,
        num_image: Annotated[int, Range(min=0)] = 0,
    ) -> None:
        require("MLflow", "mlflow", "mlflow")
        self.experiment, self.tracking_uri, self.num_image = experiment, tracking_uri, num_image
        self._client: Any = None
        self._id: str | None = None
        self._seen: set[tuple[str, int]] = set()  # names and steps of stored points

    def start(self, run: TrackedRun) -> None:
        # MLflow reports its use to its makers by default, and it needs a consent to write files.
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")
        from mlflow.entities import Param
        from mlflow.tracking import MlflowClient

        folder = run.group_folder if run.group else run.folder
        self._client = MlflowClient(self.tracking_uri or (folder / "mlruns").absolute().as_uri())
        self._id = run.recall()
        if self._id is not None and self._exists(self._id):
            self._client.update_run(self._id, status="RUNNING")
        else:
            experiment = self._make_experiment(self.experiment or run.group or "srtoolbox", folder)
            tags = {"folder": str(run.folder), **({"study": run.group} if run.group else {})}
            made = self._client.create_run(experiment, run_name=run.name, tags=tags)
            self._id = made.info.run_id
            run.remember(made.info.run_id)
        data = self._client.get_run(self._id).data
        for name in data.metrics:
            history = self._client.get_metric_history(self._id, name)
            self._seen |= {(name, point.step) for point in history}
        # MLflow refuses other values of a parameter that it has.
        params = [
            Param(name, str(value)[:_MAX_TEXT])
            for key, value in run.flat_options().items()
            if (name := _valid(key)) not in data.params
        ]
        for first in range(0, len(params), _MAX_BATCH):
            self._client.log_batch(self._id, params=params[first : first + _MAX_BATCH])
        for step, values in run.points():
            self.scalars(step, values)

    def _exists(self, identity: str) -> bool:
        from mlflow.exceptions import MlflowException

        try:
            found = self._client.get_run(identity)
        except MlflowException as error:  # somebody removed the store, or set another one
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            return False
        return found.info.lifecycle_stage == "active"

    def _make_experiment(self, name: str, folder: Path) -> str:
        """Returns the id of the experiment; the trainings of a study may ask at the same time."""
        with _alone(folder):
            found = self._client.get_experiment_by_name(name)
            return found.experiment_id if found else self._client.create_experiment(name)

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        new = {(_valid(name), step): value for name, value in values.items()}
        new = {key: value for key, value in new.items() if key not in self._seen}
        metrics = [Metric(name, value, now, step) for (name, _), value in new.items()]
        if metrics:
            self._client.log_batch(self._id, metrics=metrics)
            self._seen.update(new)

    def images(self, step: int, dataset: str, files: Sequence[Path]) -> None:
        for file in files[: self.num_image]:
            folder = f"images/{_valid(dataset)}/{step:08d}"
            self._client.log_artifact(self._id, str(file), folder)

    def finish(self, state: EndState) -> None:
        if self._id is not None:
            self._client.set_terminated(self._id, _STATUS[state])


def _valid(name: str) -> str:
    """Returns a name that MLflow accepts."""
    return re.sub(r"[^\w.\- /]", "_", name)


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Waits until no other process is in this context for the same folder."""
    handle = None
    with suppress(OSError):  # no locks here: two experiments of one name are the worst case
        folder.mkdir(parents=True, exist_ok=True)
        handle = acquire_lock(folder / ".mlflow.lock", _MAX_WAIT)
    try:
        yield
    finally:
        if handle is not None:
            os.close(handle)
