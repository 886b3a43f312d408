"""Runs trainings and evaluations of a study as jobs of a cluster, through submitit.

Every task is a job of its own. A job whose time limit is near saves its training and is queued
again by submitit. A job that was killed is submitted again from here. The ids of submitted jobs are
stored, so that a command that is repeated waits for them instead of submitting them twice.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from srtoolbox.comparison.options import LauncherOptions, StudyOptions
from srtoolbox.comparison.study.parallel import count_workers
from srtoolbox.comparison.study.slurm_queue import GONE, SlurmQueue, silence
from srtoolbox.comparison.study.work import Work
from srtoolbox.engine.device.precision import pick_device
from srtoolbox.errors import ComponentError, RunError, UserError
from srtoolbox.plugins import load_entry_points, load_plugins
from srtoolbox.utils.console import set_up_logging, warn_once
from srtoolbox.utils.files import delay_signals, handle_signals, interrupt_on, write_atomic

_log = logging.getLogger("srtoolbox")

LAUNCHERS = ("slurm", "local")
_FOLDER, _LOGS = "launcher", "logs"
_MIN_POLL, _MAX_POLL = 0.1, 5.0  # seconds between two looks at the jobs
MAX_DELAY = 20.0  # seconds that a file of another node may take to be seen here
_OUT_OF_MEMORY = "OUT_OF_MEMORY"
# SLURM's states of a job that has ended. A preempted job may also be queued again: then it has
# another state within `MAX_DELAY`.
_ENDED = (
    *("BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "NODE_FAIL", _OUT_OF_MEMORY),
    *("PREEMPTED", "REVOKED", "TIMEOUT", GONE),
)
_UNKNOWN = "UNKNOWN"  # neither sacct nor squeue answers
_MAX_SILENCE = 1800.0  # seconds without an answer of either
_LAST_LINES = 3  # of the log of a job that died, for the message


@dataclass(frozen=True)
class Launch:
    """The place of a study's trainings and evaluations.

    Attributes:
        launcher: ``"slurm"``, or ``"local"`` for processes on this machine.
        device: Name of the device there; ``"auto"``: each job takes the best one that it finds.
    """

    launcher: str
    device: str = "auto"

    def workers(self, opt: StudyOptions, folder: Path, tasks: int) -> LaunchedJobs:
        """Returns the workers for a number of tasks of a study in this folder."""
        asked, here = opt.launcher, self.launcher == "local"
        limit = count_workers(tasks, tasks, self.device_here(), None) if here else tasks
        count = max(1, min(asked.workers or limit, tasks))
        threads = opt.threads or asked.cpus
        if threads is None and here:
            threads = max(1, torch.get_num_threads() // count)
        return LaunchedJobs(self, asked, folder, count, threads)

    def device_here(self) -> torch.device:
        """Returns the device for what this machine does itself: it builds and checks all parts."""
        return pick_device(self.device if self.launcher == "local" else "auto")

    def check(self, opt: StudyOptions) -> None:
        """Checks that the jobs of a study can be submitted from here.

        Raises:
            UserError: if submitit or the commands of SLURM are missing, or if the study needs a
                measurement on the machine of the trainings.
        """
        if self.launcher not in LAUNCHERS:
            raise UserError(f"--launcher {self.launcher}: there are: {', '.join(LAUNCHERS)}")
        if find_spec("submitit") is None:
            raise UserError(
                f'--launcher {self.launcher}: needs submitit; pip install "srtoolbox[slurm]"'
            )
        if os.name != "posix":
            raise UserError(f"--launcher {self.launcher}: needs Linux or macOS; use 'jobs' instead")
        if self.launcher == "slurm":
            if opt.budget.kind == "time" and opt.budget.of is not None:
                raise UserError(
                    "budget.kind: time is measured on this machine, but --launcher slurm trains on "
                    "others; use kind flops or iterations"
                )
            import submitit

            if submitit.SlurmExecutor.affinity() < 0:
                raise UserError(
                    "--launcher slurm: there is no command srun here; run this on a login node of "
                    "the cluster"
                )
            if (reason := silence()) is not None:
                raise UserError(
                    f"--launcher slurm: the states of jobs are not known here ({reason}); run this "
                    "where squeue or sacct answers"
                )


class LaunchedJobs:
    """Jobs of a cluster that do the work of a study; see ``parallel.Workers``.

    Args:
        launch: Where they run.
        opt: What each job asks for.
        folder: Folder of the study; the jobs' logs are in ``launcher/`` there.
        count: Number of jobs at a time.
        threads: CPU threads of each; None: those that the machine gives.
    """

    def __init__(
        self,
        launch: Launch,
        opt: LauncherOptions,
        folder: Path,
        count: int,
        threads: int | None,
    ) -> None:
        self.count = count
        self._launch, self._opt, self._threads = launch, opt, threads
        self._folder = folder / _FOLDER
        self._jobs: dict[str, _SubmittedJob] = {}
        self._work: dict[str, Work] = {}
        self._queue = SlurmQueue()
        self._number = 0

    def __enter__(self) -> LaunchedJobs:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None or not self._jobs:
            return
        if self._launch.launcher == "local":
            for job in self._jobs.values():
                job.end()
            return
        ids = " ".join(job.id for job in self._jobs.values())
        _log.warning(
            "%d jobs are still in the queue; the same command collects their results, and "
            "`scancel %s` ends them",
            *(len(self._jobs), ids),
        )

    def start(self, name: str, work: Work) -> None:
        """Submits a job, unless it was submitted before and has not ended.

        Raises:
            RunError: if it is not known whether it has ended, or if it cannot be submitted.
        """
        self._work[name] = work
        job = _SubmittedJob(name, self._folder, self._launch.launcher, self._queue)
        if job.resume():
            _log.info("%s: waiting for job %s", name, job.id)
            self._jobs[name] = job
        else:
            self._submit(job)

    def wait(self) -> tuple[str, str | None]:
        """Waits until a task ends; a job that died is submitted again.

        Raises:
            RunError: if the states of jobs have not been known for ``_MAX_SILENCE``.
        """
        pause = _MIN_POLL
        while True:
            for name, job in self._jobs.items():
                if not job.has_ended():
                    continue
                result = job.result()
                if result is None and (failure := self._submit_again(job)) is None:
                    pause = _MIN_POLL
                    continue
                failure = failure if result is None else result["failure"]
                del self._jobs[name]
                job.forget()
                return name, failure
            time.sleep(pause)
            pause = min(1.5 * pause, _MAX_POLL)

    def _submit(self, job: _SubmittedJob) -> None:
        executor = self._executor(job.name)
        task = LaunchedTask(self._work[job.name], self._launch.device, self._threads)
        # A signal between the submission and the stored id would lose the job, and SLURM queues a
        # job even if sbatch is killed meanwhile. A process on this machine needs its signals.
        is_sbatch = self._launch.launcher == "slurm"
        with delay_signals(signal.SIGINT, signal.SIGTERM, also_in_children=is_sbatch):
            try:
                job.submitted(executor.submit(task))
            except Exception as error:  # submitit passes on whatever sbatch says
                lines = str(error).strip().splitlines() or [type(error).__name__]
                raise RunError(f"{job.name} cannot be submitted: {lines[-1]}") from error
            self._jobs[job.name] = job
        _log.info("%s: job %s, log in %s", job.name, job.id, job.log)

    def _submit_again(self, job: _SubmittedJob) -> str | None:
        """Submits a job that died; returns the reason if that is not wanted."""
        state = job.state()
        reason = f"job {job.id} ended without a result ({state}); see {job.log}{job.last_lines()}"
        if state.startswith("CANCELLED"):
            return reason
        if state.startswith(_OUT_OF_MEMORY):  # it would run out of memory again
            asked = "the cluster's default" if self._opt.mem is None else f"{self._opt.mem:g} GiB"
            return (
                f"job {job.id} needed more memory than it asked for ({asked}): raise launcher.mem, "
                f"or lower train.batch_size or train.num_worker; see {job.log}{job.last_lines()}"
            )
        if job.submissions > self._opt.requeues:
            return f"{reason}; it was submitted {job.submissions} times"
        _log.warning("%s: %s; it is submitted again", job.name, reason)
        self._submit(job)
        return None

    def _executor(self, name: str) -> Any:
        """Returns submitit's executor for a job of this name."""
        import submitit

        opt, folder = self._opt, self._folder / _LOGS
        # Some clusters refuse a request for no GPU.
        asked: dict[str, Any] = {
            "gpus_per_node": opt.gpus or None,
            "signal_delay_s": opt.signal_delay,
        }
        if self._launch.launcher == "local":
            executor: Any = submitit.LocalExecutor(folder, max_num_timeout=opt.requeues)
            if torch.cuda.is_available() and self._launch.device in ("auto", "cuda"):
                gpu = self._number % torch.cuda.device_count()
                asked |= {"gpus_per_node": 1, "visible_gpus": (gpu,)}
            self._number += 1
            asked["timeout_min"] = opt.time
            executor.update_parameters(**{k: v for k, v in asked.items() if v is not None})
            return executor
        executor = submitit.SlurmExecutor(folder, max_num_timeout=opt.requeues)
        asked |= {
            "job_name": name,
            "time": opt.time,
            "cpus_per_task": opt.cpus,
            "mem": None if opt.mem is None else f"{round(opt.mem * 1024)}M",
            "partition": opt.partition,
            "account": opt.account,
            "qos": opt.qos,
            "setup": list(opt.setup) or None,
            "additional_parameters": dict(opt.sbatch) or None,
        }
        executor.update_parameters(
            **{key: value for key, value in asked.items() if value is not None}
        )
        return executor


def submitted_jobs(folder: Path) -> dict[str, str]:
    """Returns the ids of a study's jobs whose results no command has collected, by task.

    Args:
        folder: Folder of the study.
    """
    return {
        name: facts["id"]
        for name, facts in _all_facts(folder).items()
        if not _was_killed(folder, facts)
    }


def forget_old_jobs(folder: Path, is_current: Callable[[str], bool]) -> dict[str, str]:
    """Removes the ids and results of ended jobs whose tasks the options of a study have no more.

    Args:
        folder: Folder of the study.
        is_current: Returns whether the options have a task.

    Returns:
        The ids of such jobs that may still be running, by task.
    """
    running, queue = {}, SlurmQueue()
    for name, facts in _all_facts(folder).items():
        if is_current(name):
            continue
        job = _SubmittedJob(name, folder / _FOLDER, facts["launcher"], queue)
        try:
            goes_on = job.resume()
        except RunError:  # SLURM does not answer
            goes_on = True
        if goes_on:
            running[name] = facts["id"]
        else:
            job.forget()
    return running


def _all_facts(folder: Path) -> dict[str, dict[str, Any]]:
    """Returns the facts of a study's jobs by task, without missing or damaged ones."""
    found = {file.stem: _read_facts(file) for file in sorted((folder / _FOLDER).glob("*.json"))}
    return {name: facts for name, facts in found.items() if facts is not None}


def _was_killed(folder: Path, facts: Mapping[str, Any]) -> bool:
    """Returns whether a job of this machine has ended without a result."""
    if facts["launcher"] != "local" or _is_alive(int(facts["id"])):
        return False
    return not any((folder / _FOLDER / _LOGS).glob(f"{facts['id']}_*_result.pkl"))


def _read_facts(file: Path) -> dict[str, Any] | None:
    """Returns ``launcher``, ``id`` and ``submissions`` of a job; None: missing or damaged."""
    try:
        facts = json.loads(file.read_bytes())
        launcher, identity = str(facts["launcher"]), str(facts["id"])
        submissions = int(facts["submissions"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    if not identity.isdigit() or launcher not in LAUNCHERS:
        return None
    return {"launcher": launcher, "id": identity, "submissions": submissions}


class LaunchedTask:
    """The function that a job of the cluster calls.

    Args:
        work: The training or evaluation.
        device: Name of the device there.
        threads: CPU threads; None: those that the machine gives.
    """

    def __init__(self, work: Work, device: str, threads: int | None) -> None:
        self._work, self._device, self._threads = work, device, threads

    def __call__(self) -> dict[str, str | None]:
        """Does the work; ``failure`` of the result is the reason if it failed.

        At submitit's signal, shortly before the time limit, a training saves its state; then
        submitit queues the job again.
        """
        set_up_logging(progress=False)
        load_entry_points()
        load_plugins(self._work.plugins)
        if self._threads is not None:
            torch.set_num_threads(self._threads)
        number = _requeue_signal()
        asked: list[Any] = []

        def stop(_: int, frame: Any) -> None:
            asked.append(frame)
            signal.raise_signal(signal.SIGTERM)  # a training saves its state at this signal

        with handle_signals(stop, number) as previous:
            try:
                with interrupt_on(signal.SIGINT, signal.SIGTERM):
                    self._work.run(pick_device(self._device))
            except (RunError, ComponentError, UserError) as error:
                return {"failure": str(error)}
            except KeyboardInterrupt:
                if asked:
                    previous[number](number, asked[-1])  # queues the job again, and exits
                sys.exit(130)
        return {"failure": None}

    def checkpoint(self) -> Any:
        """Returns what submitit queues again: the same work, which finds what is finished."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)


def _requeue_signal() -> signal.Signals:
    """Returns the signal that submitit sends before the time limit."""
    from submitit import JobEnvironment

    return signal.Signals[f"SIG{JobEnvironment.USR_SIG}"]


class _SubmittedJob:
    """A job, and the file with its id.

    Args:
        name: Name of the task.
        folder: Folder of the file and of submitit's files.
        launcher: One of ``LAUNCHERS``.
        queue: Knows the state of a job of SLURM that ``sacct`` does not know.

    Attributes:
        submissions: How often it was submitted.
    """

    def __init__(self, name: str, folder: Path, launcher: str, queue: SlurmQueue) -> None:
        self.name, self.submissions = name, 0
        self._queue = queue
        self._since = float("-inf")  # of its submission by this command
        self._silent: float | None = None  # since when its state is not known
        self._folder, self._launcher = folder, launcher
        self._file = folder / f"{name}.json"
        self._job: Any = None
        self._is_child = False
        self._ended: float | None = None

    @property
    def id(self) -> str:
        return self._job.job_id

    @property
    def log(self) -> Path:
        return self._job.paths.stderr

    def submitted(self, job: Any) -> None:
        """Stores the id of a new submission."""
        self._job, self._is_child, self._ended = job, True, None
        self._since = time.monotonic()
        self.submissions += 1
        facts = {"launcher": self._launcher, "id": job.job_id, "submissions": self.submissions}
        write_atomic(self._file, json.dumps(facts))

    def resume(self) -> bool:
        """Finds the submission of an earlier command; returns whether it has not ended.

        Raises:
            RunError: if SLURM does not answer: the job may be running.
        """
        import submitit

        facts = _read_facts(self._file)
        if facts is None or facts["launcher"] != self._launcher:
            return False
        kinds = {"slurm": submitit.SlurmJob, "local": submitit.LocalJob}
        self._job = kinds[self._launcher](self._folder / _LOGS, facts["id"])
        if not self._job.paths.result_pickle.exists() and self.state() == _UNKNOWN:
            raise RunError(
                f"{self.name}: job {self.id} may still be running: neither sacct nor squeue "
                f"answers ({self._queue.fault}); run the same command again when one does, or end "
                f"the job and remove {self._file}"
            )
        if self.has_ended() or self._is_over():
            return False  # the new job finds what it has finished; SLURM forgets old jobs
        self.submissions = facts["submissions"]
        return True

    def has_ended(self) -> bool:
        """Returns whether the job has ended, with or without a result."""
        if self._job.paths.result_pickle.exists():
            return True
        if self._launcher == "local" and not self._is_child:
            return not _is_alive(int(self.id))
        if self._launcher == "local":
            return self._job.done()
        self._job.done()  # finds a result that another node has just written
        self._check_answers()
        if not self._is_over():
            self._ended = None
            return False
        self._ended = self._ended or time.monotonic()  # its result may not be seen here yet
        return time.monotonic() - self._ended > MAX_DELAY

    def _check_answers(self) -> None:
        """Warns if SLURM does not answer.

        Raises:
            RunError: if it has not answered for a long time.
        """
        if self.state() != _UNKNOWN:
            self._silent = None
            return
        reason = f"neither sacct nor squeue answers ({self._queue.fault})"
        if self._silent is None:
            self._silent = time.monotonic()
            warn_once(f"{reason}; jobs are waited for until one does, or results appear")
        elif time.monotonic() - self._silent > _MAX_SILENCE:
            raise RunError(
                f"{self.name}: {reason}, so it is not known whether job {self.id} has ended; run "
                "the same command again when one does"
            )

    def result(self) -> dict[str, str | None] | None:
        """Returns the result of a job that has ended; None if it died."""
        if not self._job.paths.result_pickle.exists():
            return None
        error = self._job.exception()
        if error is None:
            return self._job.result()
        return {"failure": f"job {self.id} failed; see {self.log}{self.last_lines()}"}

    def state(self) -> str:
        """Returns how a job without a result ended, in SLURM's words."""
        if self._launcher != "slurm":
            return "KILLED"
        state = str(self._job.state)
        if state == _UNKNOWN:  # no accounting, or it does not know the job yet, or no more
            state = self._queue.state(self.id, self._since) or _UNKNOWN
        return state

    def _is_over(self) -> bool:
        """Returns whether SLURM will not continue the job; a suspended one may go on."""
        return self._launcher == "slurm" and self.state().startswith(_ENDED)

    def last_lines(self) -> str:
        """Returns the last lines of the job's log for a message; empty if there are none."""
        with suppress(OSError):
            lines = self.log.read_text(errors="replace").strip().splitlines()
            if kept := [line.strip() for line in lines[-_LAST_LINES:] if line.strip()]:
                return f": {kept[-1]}"
        return ""

    def end(self) -> None:
        """Asks a process on this machine to save its state and to end."""
        with suppress(ProcessLookupError):
            os.kill(int(self.id), signal.SIGTERM)  # submitit's controller passes it on

    def forget(self) -> None:
        """Removes the files of a job that has ended, except its logs."""
        paths = self._job.paths
        for path in (self._file, paths.submitted_pickle, paths.result_pickle):
            path.unlink(missing_ok=True)


def _is_alive(process: int) -> bool:
    """Returns whether a process of submitit with this number is running."""
    try:
        os.kill(process, 0)
    except (ProcessLookupError, PermissionError):  # ended; or another user got its number
        return False
    command = Path(f"/proc/{process}/cmdline")  # Linux
    return not command.exists() or b"submitit" in command.read_bytes()
