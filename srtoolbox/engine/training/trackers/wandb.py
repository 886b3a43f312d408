"""Runs in Weights & Biases."""

from __future__ import annotations

import logging
import os
import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from srtoolbox.config.ranges import Range
from srtoolbox.engine.training.trackers.base import EndState, TrackedRun, Tracker, require
from srtoolbox.registry import LOGGER_REGISTRY

_log = logging.getLogger("srtoolbox")

_EXIT_CODES: dict[EndState, int] = {"finished": 0, "failed": 1, "interrupted": 130}
_LOGIN_WAIT = 60.0  # seconds to enter a key on a terminal


@LOGGER_REGISTRY.register()
class WandB(Tracker):
    """Writes a run of Weights & Biases (extra ``wandb``), by default without the network.

    In the mode ``offline`` the files are below ``wandb/`` in the folder of the run; ``wandb sync
    FOLDER`` uploads them. A resumed run continues under the same id. Its new offline folder has
    all points again, so that the newest folder alone is complete.

    Args:
        project: Name of the project.
        mode: ``offline`` writes files only; ``online`` sends all points to the server.
        entity: User or team on the server; null: the default one of the login.
        tags: Tags of the run.
        num_image: Maximum number of SR images per dataset and evaluation; needs ``val.save_img``.
    """

    def __init__(
        self,
        project: str = "srtoolbox",
        mode: Literal["offline", "online"] = "offline",
        entity: str | None = None,
        tags: Sequence[str] = (),
        num_image: Annotated[int, Range(min=0)] = 0,
    ) -> None:
        require("WandB", "wandb", "wandb")
        self.project, self.entity = project, entity
        self.mode: Literal["offline", "online"] = mode
        self.tags, self.num_image = list(tags), num_image
        self._run: Any = None

    def start(self, run: TrackedRun) -> None:
        # Without this, wandb reports its own errors to its maker.
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
        import wandb

        identity = run.recall()
        if identity is None:
            identity = secrets.token_hex(8)
            run.remember(identity)  # first, so that a killed run is found again
        self._run = wandb.init(
            project=self.project,
            entity=self.entity,
            name=run.name,
            group=run.group,
            id=identity,
            resume="allow",
            reinit="create_new",  # a run that a user's code has open stays open
            mode=self.mode,
            dir=str(run.folder),
            tags=self.tags,
            config=dict(run.options),
            allow_val_change=True,
            settings=wandb.Settings(
                console="off",
                silent=True,
                save_code=False,
                disable_git=True,
                force=True,  # without a login this fails instead of another mode
                login_timeout=_LOGIN_WAIT,
            ),
        )
        first = self._run.starting_step  # the server has the points before it
        for step, values in run.points():
            if step >= first:
                self.scalars(step, values)

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        self._run.log(dict(values), step=step)

    def images(self, step: int, dataset: str, files: Sequence[Path]) -> None:
        import wandb

        shown = [wandb.Image(str(file), caption=file.stem) for file in files[: self.num_image]]
        if shown:
            self._run.log({f"{dataset}/images": shown}, step=step)

    def finish(self, state: EndState) -> None:
        if self._run is None:
            return
        folder = Path(self._run.dir).parent
        self._run.summary["state"] = state
        self._run.finish(exit_code=_EXIT_CODES[state])
        if self.mode == "offline":
            _log.info("`wandb sync %s` uploads this run to Weights & Biases", folder)
