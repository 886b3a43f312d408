"""The folder of a run: whose it is, and whether its training is finished or may go on."""

from __future__ import annotations

import json
import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from srtoolbox.config.files import plain, read
from srtoolbox.engine.build import fingerprint
from srtoolbox.engine.options import RunOptions
from srtoolbox.engine.weights.whole import read_finished
from srtoolbox.errors import RunError, UserError
from srtoolbox.utils.console import names_text
from srtoolbox.utils.files import read_lines

_log = logging.getLogger("srtoolbox")
_OUTPUTS = ("checkpoints", "weights", "log.jsonl", "evaluation.jsonl", "finished.json")

# Options that do not decide the weights; see `fingerprint`.
_FREE = ("name", "path", "logger", "val", "datasets.val", "datasets.test", "train.num_worker")
_FREE += ("datasets.train.cache", "datasets.train.cache_limit", "datasets.train.on_device")
_FREE += ("plugins", "experiments_root")

# Schedules whose rate in a step does not depend on the number of steps.
_OPEN_SCHEDULES = ("ConstantLR", "StepLR", "MultiStepLR", "ExponentialLR", "MultiplicativeLR")


def check_run_folder(folder: Path, opt: RunOptions, identity: str, resume: bool) -> Sequence[str]:
    """Refuses a folder that has another run, or one that is not to be continued.

    A run that ended before its first checkpoint does not count: there is nothing to lose.

    Args:
        folder: The folder of the run.
        opt: Its options.
        identity: Its fingerprint.
        resume: Whether the user wants to continue it.

    Returns:
        Fingerprints that this run had before ``train.total_iter`` was raised, or before the user
        changed the code of own components other than the network.

    Raises:
        UserError: if the folder is refused.
        RunError: if its ``run.json`` is damaged.
    """
    card = folder / "run.json"
    if not card.exists():
        outputs = [name for name in _OUTPUTS if (folder / name).exists()]
        if outputs:
            raise UserError(
                f"{folder} contains {', '.join(outputs)} but no run.json, so it is not a run "
                "folder; left untouched; choose another name"
            )
        return ()
    started = any(folder.glob("checkpoints/*.ckpt")) or (folder / "finished.json").exists()
    started = started or any(folder.glob("weights/*"))
    if not resume and started:
        raise UserError(
            f"{folder} holds a run already; continue it with --resume, or choose another name"
        )
    found = read_card(card)
    earlier = found.get("earlier", [])
    if found["fingerprint"] == identity:
        return earlier
    if not started:
        _log.info("%s: an earlier run ended here before its first checkpoint; starts again", folder)
        return ()
    if found.get("without_own_code") == fingerprint(opt, parts=False):
        _log.warning(
            "%s: the code of your own components has changed since this run began; it goes on with "
            "the new code",
            folder,
        )
        return [*earlier, found["fingerprint"]]
    before = _total_iter_before(folder)
    if before is not None and _only_total_iter_differs(opt, found["fingerprint"], before):
        _check_more_steps(folder, opt, before)
        return [*earlier, found["fingerprint"]]
    raise UserError(
        f"{folder} holds a run with other options ({folder / 'options.yml'}): "
        f"{_differences(folder, opt)}; choose another name; to start from its weights, set "
        "path.pretrain_network_g"
    )


def read_card(card: Path) -> dict[str, Any]:
    """Reads the ``run.json`` of a run.

    Raises:
        RunError: if it is damaged.
    """
    try:
        found = json.loads(card.read_bytes())
        earlier = found.get("earlier", [])
        texts = [found["fingerprint"], *earlier]
        if not isinstance(earlier, list) or not all(isinstance(text, str) for text in texts):
            raise TypeError
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        folder = card.parent
        raise RunError(f"{card} is damaged; restore a copy of it, or remove {folder}") from None
    return found


def find_finished(folder: Path, opt: RunOptions) -> dict[str, Any] | None:
    """Returns the summary of a finished run; None if it has to go on.

    A damaged ``finished.json`` is made again from the last checkpoint: the run goes on from there.

    Raises:
        RunError: if it is damaged and there is no checkpoint.
    """
    assert opt.train is not None
    card = folder / "finished.json"
    if not card.exists():
        return None
    try:
        summary = read_finished(card)
    except ValueError as error:
        if not any(folder.glob("checkpoints/*.ckpt")):
            raise RunError(
                f"{error}, and there is no checkpoint to make it again; restore a copy of it, or "
                f"remove {folder} to train again"
            ) from None
        _log.warning("%s; it is made again from the last checkpoint", error)
        return None
    summary.pop("best", None)  # the file of the best weights is checked where it is read
    return summary if summary["step"] >= opt.train.total_iter else None


def warn_about_finished_run(folder: Path, opt: RunOptions) -> None:
    """Names the validation sets that a finished run did not have, and points that it has lost."""
    path = folder / "evaluation.jsonl"
    steps = (record.get("step") for record in read_lines(folder / "log.jsonl"))
    logged = {step for step in steps if isinstance(step, int)}
    seen: dict[str, set[int]] = {}
    for record in read_lines(path):
        name, step = record.get("dataset"), record.get("step")
        if isinstance(name, str) and isinstance(step, int):
            seen.setdefault(name, set()).add(step)
    print_freq = val_freq = None
    had: set[str] = set()
    try:
        before = read(folder / "options.yml")
        print_freq = before.get("logger", {}).get("print_freq")
        val_freq = before.get("val", {}).get("val_freq")
        had = set(before["datasets"]["val"])
    except (UserError, OSError, KeyError, TypeError, AttributeError):
        pass  # then only the last step is known
    new = [name for name in opt.datasets.val if name not in had | seen.keys()]
    if new:
        _log.warning(
            "%s is finished, so datasets.val.%s is ignored; `srtoolbox test` with it as "
            "datasets.test evaluates the final weights",
            *(opt.name, ", ".join(new)),
        )
    assert opt.train is not None
    total = opt.train.total_iter
    log_steps, val_steps = {total}, {total}
    # A run may go on with other intervals or more steps; then only the last step is known.
    if not read_card(folder / "run.json").get("earlier"):
        if print_freq == opt.logger.print_freq:
            log_steps.update(range(opt.logger.print_freq, total, opt.logger.print_freq))
        if val_freq == opt.val.val_freq:
            val_steps.update(range(opt.val.val_freq, total, opt.val.val_freq))
    _warn_of_lost_points(folder / "log.jsonl", "", log_steps - logged)
    for name in (name for name in opt.datasets.val if name in had):
        _warn_of_lost_points(path, f"of {name} ", val_steps - seen.get(name, set()))


def _warn_of_lost_points(path: Path, owner: str, lost: Collection[int]) -> None:
    if lost:
        _log.warning(
            "%s: the points %sat steps %s are missing; they cannot be made again",
            *(path, owner, names_text([str(step) for step in sorted(lost)])),
        )


def _total_iter_before(folder: Path) -> int | None:
    """Returns ``train.total_iter`` of the run in a folder; None: unknown."""
    try:
        tree = read(folder / "options.yml")
        before = tree["train"]["total_iter"]
    except (UserError, OSError, KeyError, TypeError):
        return None
    return before if isinstance(before, int) else None


def _only_total_iter_differs(opt: RunOptions, found: str, before: int) -> bool:
    assert opt.train is not None
    if before == opt.train.total_iter:
        return False
    return fingerprint(replace(opt, train=replace(opt.train, total_iter=before))) == found


def _check_more_steps(folder: Path, opt: RunOptions, before: int) -> None:
    """Checks that a run can go on to another ``train.total_iter``.

    Raises:
        UserError: if the steps that are done would have had other learning rates, or if there are
            fewer steps than before.
    """
    assert opt.train is not None
    total, scheduler = opt.train.total_iter, opt.train.scheduler
    kind = scheduler["type"] if scheduler else None
    change = f"{folder}: train.total_iter changes from {before} to {total}"
    if total < before:
        raise UserError(f"{change}; it can only be raised; choose another name")
    if kind is not None and kind not in _OPEN_SCHEDULES:
        raise UserError(
            f"{change}, but {kind} depends on it, so the steps that are done would have had other "
            "learning rates; choose another name and start from the weights with "
            "path.pretrain_network_g (optimizer and counters start again)"
        )
    _log.info("%s; optimizer, schedule and counters go on", change)


def _differences(folder: Path, opt: RunOptions) -> str:
    """Describes the options that differ from those of the run in a folder."""
    try:
        before = _flat(read(folder / "options.yml"))
    except (UserError, OSError):
        return "its options.yml cannot be read"
    now = _flat(plain(opt))
    keys = [key for key in dict.fromkeys([*now, *before]) if now.get(key) != before.get(key)]
    keys = [key for key in keys if not any(f"{key}.".startswith(f"{free}.") for free in _FREE)]
    if not keys:
        return (
            "no option differs, but the version of srtoolbox, the source of the network or "
            "of own components, the pretrained weights or the data of train.monitor do"
        )
    absent = "absent"
    return names_text(
        [f"{key} {now.get(key, absent)} instead of {before.get(key, absent)}" for key in keys]
    )


def _flat(tree: Any, prefix: str = "") -> dict[str, str]:
    """Returns the values of a tree as text by their dotted keys."""
    if isinstance(tree, Mapping) and tree:
        parts = (_flat(value, f"{prefix}{key}.") for key, value in tree.items())
        return {key: value for part in parts for key, value in part.items()}
    value = [plain(item) for item in tree] if isinstance(tree, list | tuple) else tree
    return {prefix[:-1]: str(value)}
