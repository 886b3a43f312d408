"""Trackers of a training: registration, options, failures, other libraries offline."""

from __future__ import annotations

import json
import logging
import os
import shutil
import signal
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from support.runs import CPU, run, stop_in
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from srtoolbox.config.files import dump, plain
from srtoolbox.config.schema import OptionErrors
from srtoolbox.engine.options import RunOptions
from srtoolbox.engine.training import train as training
from srtoolbox.engine.training.reporter import Reporter
from srtoolbox.engine.training.trackers import base
from srtoolbox.engine.training.trackers.base import TrackedRun, Tracker
from srtoolbox.engine.training.trackers.build import build_trackers
from srtoolbox.engine.training.train import train
from srtoolbox.engine.training.trainer import Trainer
from srtoolbox.errors import RunError, UserError
from srtoolbox.plugins import load_plugins
from srtoolbox.registry import LOGGER_REGISTRY
from srtoolbox.utils.files import read_lines

MLFLOW = "logger.trackers.mlflow={type: MLflow}"
WANDB = "logger.trackers.wandb={type: WandB, project: tests}"

PLUGIN = '''
from pathlib import Path

from srtoolbox import LOGGER_REGISTRY
from srtoolbox.engine.training.trackers import Tracker


@LOGGER_REGISTRY.register("{name}")
class TextFile(Tracker):
    """Writes all calls to a text file.

    Args:
        file: Name of the file.
        fail_at: Step at which it fails; -1: never.
    """

    def __init__(self, file: str = "calls.txt", fail_at: int = -1) -> None:
        self.file, self.fail_at = file, fail_at

    def start(self, run):
        self.path = run.folder / self.file
        self.write("start", run.name, run.start, run.total, run.group, run.options["name"])

    def scalars(self, step, values):
        if step == self.fail_at:
            raise ValueError("the pen\\nis empty")
        self.write("scalars", step, *values)

    def images(self, step, dataset, files):
        self.write("images", step, dataset, *(file.name for file in files))

    def finish(self, state):
        self.write("finish", state)

    def write(self, *words):
        with self.path.open("a") as file:
            print(*words, file=file)
'''


def plugin(folder: Path, name: str) -> str:
    file = folder / "text_file.py"
    file.write_text(PLUGIN.replace("{name}", name))
    load_plugins([str(file)])
    return f"logger.trackers.text={{type: {name}}}"


def stop_at(monkeypatch: pytest.MonkeyPatch, step: int, number: int = signal.SIGTERM) -> None:
    """Makes the next training get a signal in the middle of a step."""
    made = Trainer.run

    def stopped(trainer: Trainer, reporter: Reporter) -> None:
        monkeypatch.setattr(Trainer, "run", made)
        made(stop_in(step, trainer, number), reporter)

    monkeypatch.setattr(Trainer, "run", stopped)


class TestOptions:
    def test_the_names(self) -> None:
        assert {"JSONL", "MLflow", "TensorBoard", "WandB"} <= set(LOGGER_REGISTRY.names())

    def test_unknown_ones_are_named(self, options) -> None:
        with pytest.raises(OptionErrors, match=r"logger.trackers.w.*unknown logger 'Wandb'.*WandB"):
            options("logger.trackers.w={type: Wandb}")
        with pytest.raises(OptionErrors, match=r"logger.trackers.w.mode: expected 'offline' or"):
            options("logger.trackers.w={type: WandB, mode: dry}")
        with pytest.raises(OptionErrors, match=r"logger.trackers.w.num_image: must be >= 0"):
            options("logger.trackers.w={type: WandB, num_image: -1}")

    @pytest.mark.parametrize(("kind", "module"), [("WandB", "wandb"), ("MLflow", "mlflow")])
    def test_a_missing_extra_is_named_before_the_training(
        self, options, monkeypatch, kind: str, module: str
    ) -> None:
        monkeypatch.setattr(base, "find_spec", lambda name: None)
        opt = options(f"logger.trackers.mine={{type: {kind}}}")
        with pytest.raises(UserError) as caught:
            run(opt)
        expected = f'logger {kind}: needs {module}; pip install "srtoolbox[{module}]"'
        assert str(caught.value) == expected
        assert not (opt.folder / "run.json").exists()

    def test_a_folder_of_the_librarys_name_is_no_library(self, tmp_path, monkeypatch) -> None:
        (tmp_path / "no_such_library").mkdir()
        monkeypatch.syspath_prepend(tmp_path)
        with pytest.raises(UserError, match="needs no_such_library"):
            base.require("X", "no_such_library", "x")

    def test_a_class_that_is_no_tracker(self, options) -> None:
        LOGGER_REGISTRY.register("NoTracker")(type("NoTracker", (), {}))
        try:
            opt = options("logger.trackers.mine={type: NoTracker}")
            with pytest.raises(UserError, match=r"logger.trackers.mine: NoTracker is not a subcla"):
                build_trackers(opt.logger)
        finally:
            del LOGGER_REGISTRY._entries["NoTracker"]

    def test_the_two_of_every_run_can_be_named(self, options) -> None:
        opt = options("logger.trackers={a: {type: JSONL}, b: {type: TensorBoard}}")
        run(opt)
        assert [point["step"] for point in read_lines(opt.folder / "log.jsonl")] == [2, 4, 6]
        events = EventAccumulator(str(opt.folder / "tb")).Reload()
        assert [event.step for event in events.Scalars("train/l_pix")] == [2, 4, 6]

    @pytest.mark.slow
    def test_libraries_are_imported_only_when_asked_for(self) -> None:
        script = """
import sys
import srtoolbox.engine.training.train
from srtoolbox.registry import LOGGER_REGISTRY
LOGGER_REGISTRY.get("WandB")
heavy = {"wandb", "mlflow", "tensorboard"}
assert not heavy & {name.partition(".")[0] for name in sys.modules}
"""
        subprocess.run([sys.executable, "-c", script], check=True, timeout=120)


class TestPlugin:
    def test_every_call(self, options, tmp_path: Path) -> None:
        opt = options(plugin(tmp_path, "TextFileA"), "val.save_img=true")
        train(opt, CPU, resume=False, study=tmp_path / "my study")
        names = "train/l_pix train/grad_g train/lr speed/it/s speed/data wait speed/memory"
        assert (opt.folder / "calls.txt").read_text().splitlines() == [
            "start tiny 0 6 my study tiny",
            f"scalars 2 {names}",
            "scalars 3 sample/psnr",
            "images 3 sample astronaut_00.png chelsea_00.png",
            f"scalars 4 {names}",
            f"scalars 6 {names}",
            "scalars 6 sample/psnr",
            "images 6 sample astronaut_00.png chelsea_00.png",
            "finish finished",
        ]

    def test_it_changes_no_weight(self, options, tmp_path: Path) -> None:
        plain = run(options("name=plain"))
        tracked = run(options("name=tracked", plugin(tmp_path, "TextFileB")))
        assert tracked.weights == plain.weights

    def test_an_interrupted_run(self, options, tmp_path: Path, monkeypatch) -> None:
        opt = options(plugin(tmp_path, "TextFileC"))
        stop_at(monkeypatch, 3)
        with pytest.raises(KeyboardInterrupt):
            run(opt)
        calls = (opt.folder / "calls.txt").read_text().splitlines()
        assert calls[-1] == "finish interrupted"
        run(opt, resume=True)
        calls = (opt.folder / "calls.txt").read_text().splitlines()[len(calls) :]
        assert calls[0] == "start tiny 3 6 None tiny"
        assert calls[-1] == "finish finished"

    def test_the_example_of_the_guide(self, options, tmp_path: Path) -> None:
        page = Path(__file__).parents[4] / "docs" / "own_components.md"
        part = page.read_text(encoding="utf-8").partition("\n## Trackers\n")[2]
        file = tmp_path / "text_file.py"
        file.write_text(part.partition("```python\n")[2].partition("```")[0])
        load_plugins([str(file)])
        opt = options("logger.trackers.text={type: TextFile, file: points.txt}")
        run(opt)
        steps = [line.split()[0] for line in (opt.folder / "points.txt").read_text().splitlines()]
        assert steps == ["2", "3", "4", "6", "6"]

    def test_a_failed_run(self, options, tmp_path: Path) -> None:
        opt = options(plugin(tmp_path, "TextFileD"), "train.optim_g.lr=1e30")
        with pytest.raises(RunError):
            run(opt)
        assert (opt.folder / "calls.txt").read_text().splitlines()[-1] == "finish failed"

    def test_its_failure_stops_nothing(self, options, tmp_path: Path, caplog) -> None:
        name = plugin(tmp_path, "TextFileE")
        expected = run(options("name=plain")).weights
        opt = options(name, "logger.trackers.text.fail_at=4")
        with caplog.at_level(logging.WARNING, "srtoolbox"):
            assert run(opt).weights == expected
        warnings = [it for it in caplog.records if it.levelno == logging.WARNING]
        assert [record.getMessage() for record in warnings] == [
            "tiny: tracker 'text' failed (the pen); the training goes on without it",
            "tiny: tracker 'text' is incomplete: it failed at step 4 (the pen); log.jsonl and "
            "evaluation.jsonl are complete",
        ]
        assert [point["step"] for point in read_lines(opt.folder / "log.jsonl")] == [2, 4, 6]
        assert "scalars 6" not in (opt.folder / "calls.txt").read_text()

    def test_a_tracker_that_cannot_start(self, tmp_path: Path, caplog) -> None:
        class Locked(Tracker):
            def start(self, run: TrackedRun) -> None:
                raise PermissionError("no entry")

        with Reporter(tmp_path, "edsr", 10, tensorboard=False, trackers={"mine": Locked()}) as it:
            it.training(10, {"l_pix": 1.0}, {"it/s": 1.0, "data wait": 0.0, "memory": 0.0})
        assert caplog.text.count("tracker 'mine' failed (no entry)") == 1
        assert "failed at step 0 (no entry)" in caplog.text


def test_a_text_belongs_to_one_run_and_tracker(tmp_path: Path) -> None:
    first = TrackedRun(tmp_path, identities=("a",), tracker="one")
    assert first.recall() is None
    first.remember("1")
    TrackedRun(tmp_path, identities=("a",), tracker="two").remember("2")
    assert first.recall() == "1"
    assert TrackedRun(tmp_path, identities=("b", "a"), tracker="two").recall() == "2"
    assert TrackedRun(tmp_path, identities=("b",), tracker="two").recall() is None
    (tmp_path / "trackers.json").write_text("[1")
    assert first.recall() is None


class MLflowStore:
    """Reads the runs of a folder through MLflow's own client."""

    def __init__(self, folder: Path) -> None:
        from mlflow.tracking import MlflowClient

        self.client: Any = MlflowClient((folder / "mlruns").as_uri())

    def runs(self, experiment: str) -> list[Any]:
        found = self.client.get_experiment_by_name(experiment)
        return list(self.client.search_runs([found.experiment_id]))

    def steps(self, found: Any, name: str) -> list[int]:
        return [point.step for point in self.client.get_metric_history(found.info.run_id, name)]


@pytest.mark.slow
class TestMLflow:
    @pytest.fixture(autouse=True)
    def library(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
        monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
        pytest.importorskip("mlflow", reason="the extra mlflow is not installed")

    def test_a_run(self, options) -> None:
        opt = options("logger.trackers.mlflow={type: MLflow, num_image: 1}", "val.save_img=true")
        run(opt)
        store = MLflowStore(opt.folder)
        (found,) = store.runs("srtoolbox")
        assert (found.info.run_name, found.info.status) == ("tiny", "FINISHED")
        assert found.data.params["train.total_iter"] == "6"
        assert found.data.params["network_g.type"] == "EDSR"
        assert store.steps(found, "train/l_pix") == [2, 4, 6]
        logged = [point["psnr"] for point in read_lines(opt.folder / "evaluation.jsonl")]
        history = store.client.get_metric_history(found.info.run_id, "sample/psnr")
        assert [(point.step, point.value) for point in history] == [
            (3, logged[0]),
            (6, logged[1]),
        ]
        files = store.client.list_artifacts(found.info.run_id, "images/sample/00000006")
        assert [file.path for file in files] == ["images/sample/00000006/astronaut_00.png"]

    def test_an_interrupted_run_continues(self, options, monkeypatch) -> None:
        opt = options(MLFLOW)
        stop_at(monkeypatch, 5)
        with pytest.raises(KeyboardInterrupt):
            run(opt)
        store = MLflowStore(opt.folder)
        assert [found.info.status for found in store.runs("srtoolbox")] == ["KILLED"]
        run(options(MLFLOW, "logger.print_freq=1"), resume=True)  # MLflow refuses other values
        (found,) = store.runs("srtoolbox")
        assert found.info.status == "FINISHED"
        assert store.steps(found, "train/l_pix") == [2, 4, 6]
        assert store.steps(found, "sample/psnr") == [3, 6]

    def test_a_killed_run_continues(self, options) -> None:
        opt = options(MLFLOW, *OFTEN)
        kill_and_resume(opt)
        store = MLflowStore(opt.folder)
        (found,) = store.runs("srtoolbox")
        assert found.info.status == "FINISHED"
        assert store.steps(found, "train/l_pix") == [1, 2, 3, 4, 5, 6]
        assert store.steps(found, "sample/psnr") == [3, 6]

    def test_another_run_in_the_folder_is_another_run(self, options) -> None:
        opt = options(MLFLOW, "train.optim_g.lr=1e30")
        with pytest.raises(RunError):  # before its first checkpoint
            run(opt)
        run(options(MLFLOW))
        store = MLflowStore(opt.folder)
        states = {found.info.status for found in store.runs("srtoolbox")}
        assert states == {"FAILED", "FINISHED"}

    def test_points_without_an_id_that_still_exists(self, options, monkeypatch) -> None:
        """Somebody removed the run from the store: a new one has all points."""
        opt = options(MLFLOW)
        stop_at(monkeypatch, 5)
        with pytest.raises(KeyboardInterrupt):
            run(opt)
        store = MLflowStore(opt.folder)
        (found,) = store.runs("srtoolbox")
        shutil.rmtree(opt.folder / "mlruns" / found.info.experiment_id / found.info.run_id)
        run(opt, resume=True)
        (found,) = store.runs("srtoolbox")
        assert store.steps(found, "train/l_pix") == [2, 4, 6]

    def test_the_runs_of_a_study(self, options, tmp_path: Path) -> None:
        study = tmp_path / "study é (1)"
        for name in ("a-s0", "b-s0"):
            train(options(MLFLOW), CPU, resume=False, folder=study / "runs" / name, study=study)
        found = MLflowStore(study).runs(study.name)
        assert {run.info.run_name for run in found} == {"a-s0", "b-s0"}

    def test_odd_names_and_infinite_scores(self, options) -> None:
        opt = options(MLFLOW, "datasets.val.sample=!delete").logger
        (tracker,) = build_trackers(opt).values()
        folder = options(MLFLOW).folder
        folder.mkdir(parents=True)
        with Reporter(folder, "x", 9, tensorboard=False, trackers={"m": tracker}) as reporter:
            reporter.evaluation(3, "Set (5) ×4", {"psnr": float("inf")})
        (found,) = MLflowStore(folder).runs("srtoolbox")
        assert found.data.metrics == {"Set _5_ _4/psnr": float("inf")}

    def test_a_store_that_cannot_be_written(self, options, caplog) -> None:
        opt = options(MLFLOW)
        opt.folder.mkdir(parents=True)
        (opt.folder / "mlruns").write_text("a file in its place")
        expected = run(options("name=plain")).weights
        assert run(opt).weights == expected
        assert caplog.text.count("tracker 'mlflow' failed (") == 1


def wandb_runs(folder: Path) -> list[dict[str, Any]]:
    """Reads the offline runs of a folder, oldest first, with wandb's own messages.

    The files are logs of LevelDB: blocks of 32 KiB with pieces of records, each after its
    checksum, length and type.
    """
    from wandb.proto.wandb_internal_pb2 import Record

    runs = []
    for file in sorted(folder.glob("wandb/offline-run-*/*.wandb")):
        data, place, record = file.read_bytes(), 7, b""
        found: dict[str, Any] = {"history": []}
        while place + 7 <= len(data):
            if 32768 - place % 32768 < 7:
                place += 32768 - place % 32768
                continue
            _, length, kind = struct.unpack("<IHB", data[place : place + 7])
            record += data[place + 7 : place + 7 + length]
            place += 7 + length
            if kind in (1, 4):  # whole, or its last piece
                message, record = Record.FromString(record), b""
                if message.HasField("run"):
                    found["run"] = message.run
                if message.HasField("history"):
                    row = {(*i.nested_key, i.key)[0]: i.value_json for i in message.history.item}
                    found["history"].append(row)
                if message.HasField("exit"):
                    found["exit"] = message.exit.exit_code
        runs.append(found)
    return runs


def wandb_steps(found: dict[str, Any], name: str) -> list[int]:
    return [int(row["_step"]) for row in found["history"] if name in row]


@pytest.mark.slow
class TestWandB:
    @pytest.fixture(autouse=True)
    def library(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("WANDB_ERROR_REPORTING", "false")
        pytest.importorskip("wandb", reason="the extra wandb is not installed")

    def test_a_run(self, options, tmp_path: Path) -> None:
        text = "logger.trackers.w={type: WandB, project: tests, tags: [tiny], num_image: 1}"
        opt = options(text, "val.save_img=true")
        train(opt, CPU, resume=False, study=tmp_path / "my study")
        (found,) = wandb_runs(opt.folder)
        card = found["run"]
        assert (card.project, card.run_group, card.display_name) == ("tests", "my study", "tiny")
        assert list(card.tags) == ["tiny"]
        config = {item.key: json.loads(item.value_json) for item in card.config.update}
        assert config["train"]["total_iter"] == 6
        assert wandb_steps(found, "train/l_pix") == [2, 4, 6]
        assert wandb_steps(found, "sample/images") == [3, 6]
        logged = [point["psnr"] for point in read_lines(opt.folder / "evaluation.jsonl")]
        shown = [float(row["sample/psnr"]) for row in found["history"] if "sample/psnr" in row]
        assert shown == logged
        assert found["exit"] == 0

    def test_it_changes_no_weight(self, options) -> None:
        expected = run(options("name=plain", "train.num_worker=1")).weights
        assert run(options(WANDB, "train.num_worker=1")).weights == expected

    def test_an_interrupted_run_continues(self, options, monkeypatch) -> None:
        opt = options(WANDB)
        stop_at(monkeypatch, 5)
        with pytest.raises(KeyboardInterrupt):
            run(opt)
        run(opt, resume=True)
        first, second = wandb_runs(opt.folder)
        assert first["run"].run_id == second["run"].run_id
        assert (first["exit"], second["exit"]) == (130, 0)
        assert wandb_steps(first, "train/l_pix") == [2, 4]
        assert wandb_steps(second, "train/l_pix") == [2, 4, 6]
        assert wandb_steps(second, "sample/psnr") == [3, 6]

    def test_a_killed_run_continues(self, options) -> None:
        opt = options(WANDB, *OFTEN)
        kill_and_resume(opt)
        runs = wandb_runs(opt.folder)
        assert len({found["run"].run_id for found in runs if "run" in found}) == 1
        assert len(list(opt.folder.glob("wandb/offline-run-*"))) == 2
        assert wandb_steps(runs[-1], "train/l_pix") == [1, 2, 3, 4, 5, 6]
        assert runs[-1]["exit"] == 0

    def test_an_online_run_without_a_login_stops_nothing(
        self, options, tmp_path, monkeypatch, caplog
    ) -> None:
        monkeypatch.setenv("NETRC", str(tmp_path / "none"))
        monkeypatch.setenv("HOME", str(tmp_path))
        monkeypatch.delenv("WANDB_API_KEY", raising=False)
        opt = options(WANDB, "logger.trackers.wandb.mode=online")
        expected = run(options("name=plain")).weights
        assert run(opt).weights == expected
        assert caplog.text.count("tracker 'wandb' failed (") == 1
        assert "wandb login" in caplog.text


def kill_and_resume(opt: RunOptions) -> None:
    """Kills a training after a point that is later than its last checkpoint, and resumes it."""
    script = """
import os, signal
from pathlib import Path
from srtoolbox.config.load import load_options
from srtoolbox.engine.options import RunOptions
from srtoolbox.engine.training.trainer import Trainer
from support.runs import run
plain = Trainer._optimize
def optimize(trainer, batch):
    if trainer.step == 5:
        os.kill(os.getpid(), signal.SIGKILL)
    plain(trainer, batch)
Trainer._optimize = optimize
run(load_options(Path("options.yml"), [], RunOptions)[0])
"""
    opt.path.experiments_root.mkdir()
    (opt.path.experiments_root / "options.yml").write_text(dump({"name": opt.name, **plain(opt)}))
    paths = [str(Path(__file__).parents[3]), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}
    environment.pop("WANDB_SERVICE", None)  # the process of wandb that serves the tests
    killed = subprocess.run(
        [sys.executable, "-c", script],
        env=environment,
        cwd=opt.path.experiments_root,
        timeout=300,
    )
    assert killed.returncode == -signal.SIGKILL
    assert [point["step"] for point in read_lines(opt.folder / "log.jsonl")] == [1, 2, 3, 4, 5]
    run(opt, resume=True)


OFTEN = ("logger.print_freq=1", "logger.save_checkpoint_freq=3")


def test_only_the_main_process_has_trackers(options, tmp_path: Path, monkeypatch) -> None:
    """The trackers of the other processes are built, to check them, and not started."""
    opt = options(plugin(tmp_path, "TextFileF"))
    started: list[int] = []
    monkeypatch.setattr(training, "Reporter", lambda *args: started.append(1))

    class Other:
        rank, size, is_main = 1, 1, False

        def barrier(self) -> None: ...

        def any(self, flag: bool) -> bool:
            return flag

        def average(self, tensors: Any) -> None: ...

        def average_gradients(self, net: torch.nn.Module) -> None: ...

        def mean(self, figures: dict[str, float]) -> dict[str, float]:
            return figures

    opt = options(plugin(tmp_path, "TextFileF"), "datasets.val=!delete", "train.total_iter=1")
    train(opt, CPU, resume=False, ranks=Other())  # type: ignore[arg-type]
    assert not started
    assert not (opt.folder / "calls.txt").exists()
