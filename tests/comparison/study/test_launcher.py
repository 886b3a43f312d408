"""Trainings and evaluations as jobs of submitit, which are killed and queued again."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from support.studies import compare, stored

from srtoolbox.cli import main
from srtoolbox.comparison.options import LauncherOptions, StudyOptions
from srtoolbox.comparison.study import launcher, run
from srtoolbox.comparison.study.launcher import Launch, submitted_jobs
from srtoolbox.comparison.study.slurm_queue import SlurmQueue
from srtoolbox.config.load import load_options
from srtoolbox.config.schema import OptionErrors, check
from srtoolbox.errors import RunError, UserError
from srtoolbox.utils.files import write_atomic

# A network that ends its process: once in a training by SIGKILL, once in a training by the signal
# before the time limit, and once in an evaluation. Where no job of submitit runs it does nothing.
FRAGILE = """
import os
import signal
from pathlib import Path

from torch import nn

from srtoolbox import ARCH_REGISTRY


@ARCH_REGISTRY.register()
class FragileInAJob(nn.Module):
    scales = (4,)

    def __init__(self, marks: str, scale: int = 4) -> None:
        super().__init__()
        self.scale, self.marks, self.steps = scale, Path(marks), 0
        self.conv = nn.Conv2d(3, 48, 3, padding=1)

    def forward(self, lq):
        self.steps += self.training
        if self.steps == 4:
            self.end("training", signal.SIGKILL) or self.end("limit", signal.SIGUSR2)
        elif list(self.marks.parent.glob("experiments/compare/jobs/runs/Fragile*/finished.json")):
            self.end("evaluation", signal.SIGKILL)
        return nn.functional.pixel_shuffle(self.conv(lq), 4)

    def end(self, name, number):
        if "SUBMITIT_EXECUTOR" not in os.environ or (self.marks / name).exists():
            return False
        (self.marks / name).write_text("")
        os.kill(os.getpid(), number)
        return True
"""
STUDY = """
plugins: [./fragile.py]
threads: 1
datasets:
  val: !delete
  test: {{sample: {{type: SampleBursts, split: val, num_frame: 3, gt_size: 32, num_burst: 2}}}}
report: {{num_image: 1}}
launcher: {{workers: 4, requeues: 3}}
methods:
  EDVR: !delete
  Fragile: {{network_g: {{type: FragileInAJob, marks: '{marks}'}}}}
"""


@pytest.fixture
def fragile_study(study_file: Callable[..., Path], tmp_path: Path) -> Path:
    pytest.importorskip("submitit", reason="the extra [slurm] is not installed")
    (tmp_path / "fragile.py").write_text(FRAGILE)
    (tmp_path / "marks").mkdir()
    return study_file(STUDY.format(marks=tmp_path / "marks"))


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="submitit needs POSIX")
def test_killed_jobs_are_run_again_and_end_with_the_same_table(
    fragile_study: Path,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
) -> None:
    one = compare(fragile_study, "name=one")
    store = compare(fragile_study, "name=jobs", launch=Launch("local", "cpu"))
    assert stored(store) == stored(one)
    marks = {path.name for path in (tmp_path / "marks").iterdir()}
    assert marks == {"training", "limit", "evaluation"}
    assert caplog.text.count("it is submitted again") == 2
    logs = [path.read_text() for path in store.folder.glob("launcher/logs/*_log.*")]
    for text, count in (("saving after this step", 1), ("Requeued job", 1), ("resumes at step", 2)):
        assert sum(log.count(text) for log in logs) == count
    assert not list(store.folder.glob("parts/*")) and not list(store.folder.glob("launcher/*.json"))

    # Nothing that is finished is done again.
    before = sorted(store.folder.glob("launcher/**/*"))
    again = compare(fragile_study, "name=jobs", launch=Launch("local", "cpu"))
    assert sorted(store.folder.glob("launcher/**/*")) == before
    assert again.load_card() == store.load_card()
    assert "0 jobs to submit, 3 of 3 results finished" in dry_run(fragile_study, capsys)


def dry_run(study: Path, capsys: pytest.CaptureFixture[str]) -> str:
    arguments = [str(study), "--set", "name=jobs", "--device", "cpu", "--launcher", "slurm"]
    assert main(["compare", *arguments, "--dry-run"]) == 0
    return " ".join(capsys.readouterr().out.split())


def test_a_dry_run_lists_the_jobs_and_writes_nothing(
    study_file: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = dry_run(study_file("launcher: {partition: gpu, mem: 8}"), capsys)
    assert "jobs: 5 jobs to submit, 0 of 3 results finished" in text
    for row in (
        "training EDSR 0 –", "training EDVR 0 –", "evaluation Bicubic 0 –",
        "evaluation EDSR 0 its training", "evaluation EDVR 0 its training",
    ):  # fmt: skip
        assert row in text
    assert "launcher: partition gpu, time 720, signal_delay 120, mem 8.0, requeues 10" in text
    assert not (tmp_path / "experiments").exists()


def test_finished_results_get_the_deviations_of_the_options_at_hand(
    study_file: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Launch, "check", lambda *_: None)
    path = study_file("methods: {EDSR: {train: null}, EDVR: !delete, Bicubic: !delete}")
    (entry,) = compare(path).load_card().entries
    assert entry.deviations == ["not trained here"]
    (again,) = compare(path, "train=!delete", launch=Launch("local", "cpu")).load_card().entries
    assert again == replace(entry, deviations=[])


def stand_in(folder: Path, monkeypatch: pytest.MonkeyPatch, **programs: str) -> None:
    """Puts shell scripts in the place of commands of SLURM."""
    for name, text in programs.items():
        (folder / name).write_text(f"#!/bin/sh\n{text}\n")
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")


def test_what_a_slurm_job_asks_for(
    study_file: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The batch file has all options; sbatch and srun are stand-ins that only keep the file."""
    pytest.importorskip("submitit", reason="the extra [slurm] is not installed")
    programs = tmp_path / "bin"
    programs.mkdir()
    stand_in(programs, monkeypatch, srun="exit 1", sbatch="echo Submitted batch job 7", squeue="")
    asked = (
        "{partition: gpu, account: lab, qos: long, time: 90, signal_delay: 30, cpus: 6, gpus: 1,"
        " mem: 12.5, setup: [module load cuda], sbatch: {constraint: a100}}"
    )
    opt, _ = load_options(study_file(), [f"launcher={asked}"], StudyOptions)
    launch = Launch("slurm", "auto")
    launch.check(opt)
    jobs = launch.workers(opt, tmp_path / "study", tasks=5)
    assert jobs.count == 5
    work: Any = "work"
    jobs.start("train-EDSR", work)
    (script,) = (tmp_path / "study" / "launcher" / "logs").glob("7_submission.sh")
    lines = script.read_text().splitlines()
    for line in (
        "--partition=gpu", "--account=lab", "--qos=long", "--time=90", "--signal=USR2@30",
        "--cpus-per-task=6", "--gpus-per-node=1", "--mem=12800M", "--constraint=a100",
        "--job-name=train-EDSR",
    ):  # fmt: skip
        assert f"#SBATCH {line}" in lines
    assert "module load cuda" in lines
    (programs / "sbatch").write_text("#!/bin/sh\necho invalid partition >&2\nexit 1\n")
    with pytest.raises(RunError, match="train-EDVR cannot be submitted: invalid partition"):
        jobs.start("train-EDVR", work)


INTERRUPTED_SBATCH = """#!{python}
import os
import signal

with open("{calls}", "a") as file:
    file.write("call\\n")
for number in (signal.SIGINT, signal.SIGTERM):  # as a terminal or a killed process group
    os.kill(os.getppid(), number)
    os.kill(os.getpid(), number)
print("Submitted batch job 501")
"""


@pytest.mark.skipif(os.name != "posix", reason="submitit needs POSIX")
def test_a_signal_in_a_submission_does_not_lose_the_job(
    study_file: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    submitit = pytest.importorskip("submitit", reason="the extra [slurm] is not installed")
    submitit.SlurmJob.watcher.clear()
    sacct = "echo 'JobID|State|NodeList'; echo '501|RUNNING|'"
    stand_in(tmp_path, monkeypatch, srun="", sbatch="", sacct=sacct)
    calls = tmp_path / "calls"
    work: Any = "work"
    (tmp_path / "sbatch").write_text(INTERRUPTED_SBATCH.format(python=sys.executable, calls=calls))
    opt, _ = load_options(study_file(), ["launcher={gpus: 0}"], StudyOptions)

    def start() -> None:
        with Launch("slurm", "auto").workers(opt, tmp_path / "study", tasks=1) as jobs:
            jobs.start("train-EDSR", work)

    with pytest.raises(KeyboardInterrupt):
        start()
    assert submitted_jobs(tmp_path / "study") == {"train-EDSR": "501"}
    assert "`scancel 501` ends them" in caplog.text
    start()  # waits for it
    assert calls.read_text() == "call\n"


@pytest.mark.skipif(os.name != "posix", reason="submitit needs POSIX")
def test_a_signal_in_a_submission_ends_the_process_of_this_machine(
    study_file: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("submitit", reason="the extra [slurm] is not installed")
    started: list[subprocess.Popen[bytes]] = []

    def submit(_: object) -> object:
        started.append(subprocess.Popen(["sleep", "60"]))
        signal.raise_signal(signal.SIGINT)
        return SimpleNamespace(job_id=str(started[0].pid), paths=SimpleNamespace(stderr="log"))

    opt, _ = load_options(study_file(), [], StudyOptions)
    jobs = Launch("local", "cpu").workers(opt, tmp_path / "study", tasks=1)
    monkeypatch.setattr(jobs, "_executor", lambda _: SimpleNamespace(submit=submit))
    work: Any = "work"
    with pytest.raises(KeyboardInterrupt), jobs:
        jobs.start("train-EDSR", work)
    with started[0] as process:
        try:
            assert process.wait(30) == -signal.SIGTERM
        finally:
            process.kill()


class _JobsWithoutResults:
    """Workers whose tasks succeed at once and leave no results."""

    count = 1

    def __enter__(self) -> None: ...

    def __exit__(self, *_: object) -> None: ...

    def start(self, name: str, work: Any) -> None:
        self._name = name

    def wait(self) -> tuple[str, None]:
        return self._name, None


def test_work_of_jobs_without_results_is_not_done_here(
    study_file: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "MAX_DELAY", 0.1, raising=False)
    monkeypatch.setattr(Launch, "check", lambda *_: None)
    monkeypatch.setattr(Launch, "workers", lambda *_: _JobsWithoutResults())
    path = study_file("methods: {EDSR: !delete, EDVR: !delete}")
    store = compare(path, launch=Launch("local", "cpu"))
    (entry,) = store.load_card().entries
    assert entry.failure is not None and "left no results that fit" in entry.failure
    assert not entry.evaluations and not store.evaluations() and not store.costs()


@pytest.mark.parametrize(
    ("number", "state", "waits", "ends"),
    [
        (101, "CANCELLED by 1000", False, True),  # while no command waited for it
        (102, "OUT_OF_MEMORY", False, True),
        (103, "PREEMPTED", False, True),
        (104, "SUSPENDED", True, False),
        (105, "RUNNING", True, False),
    ],
)
def test_only_jobs_that_go_on_are_waited_for(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    number: int,
    state: str,
    waits: bool,
    ends: bool,
) -> None:
    sacct = f"echo 'JobID|State|NodeList'; echo '{number}|{state}|'"
    stand_in(tmp_path, monkeypatch, sacct=sacct)
    job, again = submitted_job(tmp_path, number)
    assert again.resume() == waits
    assert not job.has_ended()  # its result may come
    monkeypatch.setattr(launcher, "MAX_DELAY", -1)
    assert job.has_ended() == ends


@pytest.mark.parametrize(("mem", "asked"), [("8", "8 GiB"), ("null", "the cluster's default")])
def test_a_job_that_ran_out_of_memory_is_not_submitted_again(
    study_file: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    mem: str,
    asked: str,
) -> None:
    submitit = pytest.importorskip("submitit", reason="the extra [slurm] is not installed")
    submitit.SlurmJob.watcher.clear()
    stand_in(
        tmp_path,
        monkeypatch,
        srun="",
        sbatch="echo Submitted batch job 401",
        sacct="echo 'JobID|State|NodeList'; echo '401|OUT_OF_MEMORY|'",
    )
    monkeypatch.setattr(launcher, "MAX_DELAY", -1)
    opt, _ = load_options(study_file(), [f"launcher={{mem: {mem}, gpus: 0}}"], StudyOptions)
    jobs = Launch("slurm", "auto").workers(opt, tmp_path / "study", tasks=1)
    work: Any = "work"
    jobs.start("train-EDSR", work)
    name, failure = jobs.wait()
    assert name == "train-EDSR" and failure is not None
    assert f"job 401 needed more memory than it asked for ({asked}): raise launcher.mem" in failure
    assert "submitted again" not in caplog.text


@pytest.mark.parametrize(
    ("number", "state", "waits", "ends"),
    [
        (201, "OUT_OF_MEMORY", False, True),  # squeue lists jobs that ended minutes ago
        (202, "PENDING", True, False),
        (203, "RUNNING", True, False),
        (204, None, False, True),
    ],
)
def test_squeue_is_asked_where_there_is_no_accounting(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    number: int,
    state: str | None,
    waits: bool,
    ends: bool,
) -> None:
    sacct = "echo Slurm accounting storage is disabled >&2; exit 1"
    listed = f"echo '7 RUNNING'; echo '{number if state else 8} {state or 'PENDING'}'"
    stand_in(tmp_path, monkeypatch, sacct=sacct, squeue=listed)
    job, again = submitted_job(tmp_path, number)
    assert again.resume() == waits
    assert not job.has_ended()  # its result may come
    monkeypatch.setattr(launcher, "MAX_DELAY", -1)
    assert job.has_ended() == ends


def submitted_job(folder: Path, number: int) -> tuple[Any, Any]:
    """Returns a job of SLURM, as the command that submitted it sees it, and as the next one."""
    submitit = pytest.importorskip("submitit", reason="the extra [slurm] is not installed")
    job, again = (
        launcher._SubmittedJob("train-EDVR", folder, "slurm", SlurmQueue()) for _ in range(2)
    )
    job.submitted(submitit.SlurmJob(folder / "logs", str(number)))
    return job, again


def test_jobs_are_asked_for_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    squeue = f"echo call >> {tmp_path}/calls; echo '1 RUNNING'; echo '2 COMPLETING'"
    stand_in(tmp_path, monkeypatch, squeue=squeue)
    queue = SlurmQueue()
    states = [queue.state(job, float("-inf")) for job in ("1", "2", "3")]
    assert states == ["RUNNING", "COMPLETING", "NOT_IN_QUEUE"]
    assert (tmp_path / "calls").read_text() == "call\n"
    queue.state("4", time.monotonic())  # has just been submitted: an older list lacks it
    assert (tmp_path / "calls").read_text() == "call\ncall\n"


def test_without_an_answer_no_job_is_submitted_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    fault = "slurm_load_jobs error: Unable to contact slurm controller"
    stand_in(tmp_path, monkeypatch, sacct="exit 1", squeue=f"echo {fault} >&2; exit 1")
    job, again = submitted_job(tmp_path, 301)
    said = r"neither sacct nor squeue answers \(squeue: slurm_load_jobs error: Unable to contact"
    with pytest.raises(RunError, match=f"train-EDVR: job 301 may still be running: {said}"):
        again.resume()
    assert not job.has_ended() and not job.has_ended()
    assert caplog.text.count("jobs are waited for until one does") == 1
    monkeypatch.setattr(launcher, "_MAX_SILENCE", -1)
    with pytest.raises(RunError, match=f"{said}.*whether job 301 has ended; run the same command"):
        job.has_ended()


def test_a_cluster_that_does_not_answer_is_refused(
    study_file: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("submitit", reason="the extra [slurm] is not installed")
    stand_in(tmp_path, monkeypatch, srun="", sacct="exit 1", squeue="echo no answer >&2; exit 1")
    opt, _ = load_options(study_file(), [], StudyOptions)
    with pytest.raises(UserError, match=r"states of jobs are not known here \(squeue: no answer; "):
        Launch("slurm", "auto").check(opt)
    stand_in(tmp_path, monkeypatch, sacct="")
    Launch("slurm", "auto").check(opt)


@pytest.mark.parametrize(
    ("found", "extra", "kind", "message"),
    [
        (None, "", "local", r'--launcher local: needs submitit; pip install "srtoolbox\[slurm\]"'),
        (1, "", "slurm", "--launcher slurm: there is no command srun here"),
        (1, "budget: {kind: time, of: EDSR}", "slurm", "use kind flops or iterations"),
    ],
)
def test_what_is_missing_is_named_before_anything_runs(
    study_file: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    found: Any,
    extra: str,
    kind: str,
    message: str,
) -> None:
    if found:
        pytest.importorskip("submitit", reason="the extra [slurm] is not installed")
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(launcher, "find_spec", lambda name: found)
    with pytest.raises(UserError, match=message):
        compare(study_file(extra), launch=Launch(kind, "auto"))
    assert main(["compare", str(study_file(extra)), "--launcher", kind]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
    assert not (tmp_path / "experiments").exists()


def test_options_of_the_launcher_are_checked() -> None:
    with pytest.raises(OptionErrors, match=r"partitio: unknown; did you mean 'partition'\?"):
        check({"partitio": "gpu"}, LauncherOptions)
    with pytest.raises(OptionErrors, match="signal_delay: must be less than the time limit of 60"):
        check({"time": 1, "signal_delay": 60}, LauncherOptions)


@pytest.mark.skipif(os.name != "posix", reason="submitit's local jobs need POSIX")
def test_killed_jobs_of_this_machine_are_not_among_those_to_collect(tmp_path: Path) -> None:
    """Another process may have the number of one by now."""
    facts = {"launcher": "local", "id": str(2**22 + 1), "submissions": 1}  # above Linux's maximum
    write_atomic(tmp_path / "launcher" / "train-a.json", json.dumps(facts))
    assert submitted_jobs(tmp_path) == {}
    write_atomic(tmp_path / "launcher" / "logs" / f"{facts['id']}_0_result.pkl", b"")
    assert submitted_jobs(tmp_path) == {"train-a": facts["id"]}
