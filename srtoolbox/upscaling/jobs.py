"""Runs the jobs of ``srtoolbox upscale``; a broken file does not stop the rest."""

from __future__ import annotations

import dataclasses
import json
import logging
import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from srtoolbox.errors import RunError, UserError
from srtoolbox.media.output import announcing, name_beginning, unfinished_files
from srtoolbox.media.video_transform import remove_segments
from srtoolbox.upscaling.animations import upscale_animation
from srtoolbox.upscaling.inputs import Job
from srtoolbox.upscaling.manifest import Manifest, key_of
from srtoolbox.upscaling.maps import upscale_map
from srtoolbox.upscaling.options import UpscaleOptions
from srtoolbox.upscaling.pictures import upscale_burst, upscale_picture
from srtoolbox.upscaling.result import Result
from srtoolbox.upscaling.sequences import names_between, upscale_sequence
from srtoolbox.upscaling.upscaler import Upscaler
from srtoolbox.upscaling.videos import check_encoder, upscale_video, video_path
from srtoolbox.utils.console import Progress
from srtoolbox.utils.files import write_atomic
from srtoolbox.utils.own_code import DEBUG

FAILED = "failed.json"
"""Name of the list of failed inputs, in the folder of the results."""

_log = logging.getLogger("srtoolbox")

# Options that change how a result is computed, but not the result.
_NOT_IDENTIFYING = frozenset(
    {"device", "tile", "halo", "batch", "recursive", "keep_tree", "suffix", "existing"}
    | {"fail_fast", "segment", "window"}
)


@dataclass
class Report:
    """Results of all jobs, and inputs without one.

    Attributes:
        done: Results that were written now.
        found: Results that an earlier command had finished.
        skipped: Existing files that this command did not write, with the reason.
        failed: Inputs without a result, and why.
    """

    done: list[Result] = field(default_factory=list)
    found: list[Path] = field(default_factory=list)
    skipped: list[tuple[Path, str]] = field(default_factory=list)
    failed: list[tuple[Path, str]] = field(default_factory=list)

    @property
    def exit_code(self) -> int:
        """0: nothing failed; 3: some inputs failed; 1: all inputs failed."""
        if not self.failed:
            return 0
        return 3 if self.done or self.found or self.skipped else 1

    def to_json(self) -> str:
        """Returns everything as a JSON object in ASCII, for outputs of any encoding."""
        content = {
            "done": [{**dataclasses.asdict(r), "path": str(r.path)} for r in self.done],
            "found": [str(path) for path in self.found],
            "skipped": [{"path": str(p), "reason": reason} for p, reason in self.skipped],
            "failed": self.failures(),
        }
        return json.dumps(content, indent=1)

    def failures(self) -> list[dict[str, str]]:
        """Returns the failed inputs and their errors, as ``failed.json`` lists them."""
        return [{"input": str(path), "error": error} for path, error in self.failed]


class Jobs:
    """Runs jobs, and keeps the manifests of their folders.

    Args:
        upscaler: The networks.
        options: All options.
        on_result: Called with each result as soon as it is written.
    """

    def __init__(
        self,
        upscaler: Upscaler,
        options: UpscaleOptions,
        on_result: Callable[[Result], None] = lambda result: None,
    ) -> None:
        self.upscaler, self.options, self._on_result = upscaler, options, on_result
        self.report = Report()
        self._manifests: dict[Path, Manifest] = {}
        self._unfinished: dict[Path, dict[str, list[Path]]] = {}  # by folder, of killed commands
        self._taken: set[str] = set()  # inputs and results, which a moved result must not replace
        kept = dataclasses.asdict(options).items()
        self._settings: dict[str, Any] = {
            **{name: value for name, value in kept if name not in _NOT_IDENTIFYING},
            **upscaler.key,
        }

    def run(self, jobs: Sequence[Job], progress: Callable[[Job], Progress] | None = None) -> Report:
        """Runs all jobs and returns the report; it lists failed inputs in ``failed.json``.

        Args:
            jobs: The jobs.
            progress: Returns the function that shows the progress of a job.

        Raises:
            UserError: if a result exists and ``existing`` is ``error``, or the encoder of videos
                refuses its options.
            RunError: at the first failure with ``fail_fast``.
        """
        if self.options.existing == "error":
            self._refuse_existing(jobs)
        if any(job.kind == "video" for job in jobs):
            check_encoder(self.options)
        for job in jobs:
            self._taken.update(map(os.path.realpath, (*job.sources, *job.results)))
        try:
            for job in jobs:
                self._run_job(job, None if progress is None else progress(job))
        finally:
            self._list_failures(jobs)
        return self.report

    def _run_job(self, job: Job, progress: Progress | None) -> None:
        try:
            key = key_of(job.sources, {**self._settings, "kind": job.kind})
            if job.kind == "sequence":
                self._run_sequence(job, key, progress)
                return
            if not self._is_wanted(job.target, key):
                if job.kind == "video" and self._manifest(job.target).holds(job.target, key):
                    remove_segments(job.target)
                return
            if not self._has_place(job):
                return
            with announcing(lambda file, path: self._announced(job.target, key, path, file)):
                result = self._upscaled(job, progress)
            self._finished(result, key, job.target, log=job.kind != "video")
        except (UserError, RunError, OSError) as error:
            self._failed(job, _sentence(job, error), error)
        except Exception as error:  # of the network or a library; the other inputs may be fine
            if os.environ.get(DEBUG, "0") not in ("", "0"):
                _log.exception("%s", job.source)
            self._failed(job, f"{job.source}: {type(error).__name__}: {error}", error)

    def _upscaled(self, job: Job, progress: Progress | None) -> Result:
        given = self.upscaler, job.source, job.target, self.options, progress
        if job.kind == "burst":
            return upscale_burst(self.upscaler, job.files, job.target, self.options, progress)
        if job.kind == "animation":
            return upscale_animation(*given)
        if job.kind == "video":
            return upscale_video(*given)
        if job.kind == "map":
            return upscale_map(*given)
        return upscale_picture(*given)

    def _run_sequence(self, job: Job, key: str, progress: Progress | None) -> None:
        wanted = [self._is_wanted(target, key) for target in job.targets]

        def on_done(index: int, result: Result) -> None:
            target = job.targets[index]
            for path in names_between(target, self.upscaler.time_scale):
                self._manifest(target).add(path, key, path)
            self._finished(result, key, target)

        if any(wanted):
            with announcing(lambda file, path: self._announced(path, key, path, file)):
                upscale_sequence(
                    self.upscaler,
                    list(job.files),
                    list(job.targets),
                    self.options,
                    progress,
                    is_done=lambda index: not wanted[index],
                    on_done=on_done,
                )

    def _announced(self, target: Path, key: str, path: Path, file: Path) -> None:
        """Enters a result that is about to get its name, and removes what killed commands left."""
        self._manifest(target).add(target, key, path, file)
        for torn in self._unfinished[target.parent].pop(name_beginning(path), []):
            torn.unlink(missing_ok=True)

    def _is_wanted(self, target: Path, key: str) -> bool:
        """Returns whether a result must be computed; it reports the others."""
        manifest = self._manifest(target)
        if manifest.holds(target, key):
            found = manifest.file(target)
            self._taken.add(os.path.realpath(found))
            self.report.found.append(found)
            return False
        return self._may_replace(target, target)

    def _has_place(self, job: Job) -> bool:
        """Returns whether a video that needs another suffix than planned replaces no other file.

        Raises:
            UserError: if it would replace an input or another result.
        """
        path = _written_file(job, self.options)
        if path == job.target:
            return True
        if (real := os.path.realpath(path)) in self._taken:
            raise UserError(
                f"{job.source}: its result {path} would replace an input or another result; "
                "give another folder, or --suffix"
            )
        self._taken.add(real)
        return self._may_replace(job.target, path)

    def _may_replace(self, target: Path, path: Path) -> bool:
        """Returns whether the file of a result may be written; it reports the others."""
        if not path.exists() or self.options.existing == "overwrite":
            return True
        if self._manifest(target).wrote(target):
            reason = "was made of another input or with other settings"
        else:
            reason = "was not written by this command"
        self.report.skipped.append((path, reason))
        _log.warning("%s: exists and %s; --existing overwrite replaces it", path, reason)
        return False

    def _finished(self, result: Result, key: str, target: Path, log: bool = True) -> None:
        """Keeps a result; ``log``: its notes have not been logged yet."""
        self._manifest(target).add(target, key, result.path)
        self.report.done.append(result)
        for note in result.notes if log else ():
            _log.info("%s: %s", result.path, note)
        self._on_result(result)

    def _failed(self, job: Job, text: str, error: Exception) -> None:
        self.report.failed.append((job.source, text))
        if self.options.fail_fast:
            raise RunError(text) from error
        _log.error("%s", text)

    def _manifest(self, target: Path) -> Manifest:
        folder = target.parent
        if folder not in self._manifests:
            self._manifests[folder] = Manifest(folder)
            self._unfinished[folder] = unfinished_files(folder)
        return self._manifests[folder]

    def _refuse_existing(self, jobs: Sequence[Job]) -> None:
        for job in jobs:
            for target in job.results:
                path = target
                if job.kind == "video":
                    with suppress(UserError):  # the job will tell
                        path = _written_file(job, self.options)
                if path.exists() and not self._manifest(target).wrote(target):
                    raise UserError(f"{path}: exists; --existing overwrite replaces it")

    def _list_failures(self, jobs: Sequence[Job]) -> None:
        """Writes ``failed.json``, or removes that of an earlier command."""
        path = jobs[0].results[0].parent / FAILED
        if self.report.failed:
            text = json.dumps(self.report.failures(), indent=1, ensure_ascii=False) + "\n"
            try:  # bytes of file names that are not UTF-8 become escapes of JSON
                write_atomic(path, text.encode(errors="backslashreplace"))
            except OSError as error:  # the results that were written count, and are reported
                _log.error("%s: cannot be written (%s)", path, error.strerror)
        elif self.report.done:
            with suppress(OSError):
                if _is_list_of_failures(path):
                    path.unlink()


def _written_file(job: Job, options: UpscaleOptions) -> Path:
    """Returns the file that a job writes: of a video maybe with another suffix than planned."""
    return video_path(job.source, job.target, options) if job.kind == "video" else job.target


def _is_list_of_failures(path: Path) -> bool:
    """Returns whether a file is a list that this command wrote."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(content, list) and all(
        isinstance(entry, dict) and entry.keys() == {"input", "error"} for entry in content
    )


def _sentence(job: Job, error: Exception) -> str:
    """Returns an error's text with the name of the input."""
    text = str(error)
    if isinstance(error, OSError) and error.strerror:
        text = f"{error.filename or job.source}: {error.strerror}"
    names = {str(path) for path in (job.source, *job.sources)}
    return text if any(name in text for name in names) else f"{job.source}: {text}"
