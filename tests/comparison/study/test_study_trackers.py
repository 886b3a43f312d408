"""The trackers of a study: one run for each training, grouped by the study."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from support.studies import compare

from srtoolbox.engine.training.trackers import base
from srtoolbox.errors import UserError

PLUGIN = """
from pathlib import Path

from srtoolbox import LOGGER_REGISTRY
from srtoolbox.engine.training.trackers import Tracker


@LOGGER_REGISTRY.register("NAME")
class GroupFile(Tracker):
    def start(self, run):
        self.path = run.group_folder / f"{run.name}.txt"
        self.path.write_text(str(run.group))

    def finish(self, state):
        self.path.write_text(f"{self.path.read_text()} {state}")
"""


@pytest.mark.slow
@pytest.mark.parametrize("jobs", [1, 2])
def test_each_training_is_a_run(study_file: Callable[..., Path], tmp_path: Path, jobs: int) -> None:
    (tmp_path / "group_file.py").write_text(PLUGIN.replace("NAME", f"GroupFile{jobs}"))
    logger = f"logger: {{trackers: {{group: {{type: GroupFile{jobs}}}}}}}"
    text = f"plugins: [./group_file.py]\n{logger}\nmethods: {{Bicubic: !delete}}\n"
    store = compare(study_file(f"{text}jobs: {jobs}\nval: {{val_freq: 6}}\n"))
    runs = [Path(str(entry.run)).name for entry in store.load_card().entries if entry.run]
    assert len(runs) == 2
    for name in runs:
        assert (store.folder / f"{name}.txt").read_text() == "tiny finished"


def test_a_missing_extra_is_named_before_the_first_training(
    study_file: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(base, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"logger WandB: needs wandb; pip install"):
        compare(study_file("logger: {trackers: {w: {type: WandB}}}\n"))
    assert not (tmp_path / "experiments").exists()
