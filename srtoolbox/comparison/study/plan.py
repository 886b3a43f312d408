"""What a study file asks for: every method with every seed as a run of its own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from srtoolbox.comparison.options import StudyOptions
from srtoolbox.config.files import Tree, merge, plain
from srtoolbox.config.schema import OptionErrors, check
from srtoolbox.engine.options import RunOptions

_SHARED = (
    *("scale", "model_type", "network_d", "gan", "plugins"),
    *("datasets", "path", "train", "val", "logger"),
)


@dataclass(frozen=True)
class Job:
    """One method with one seed.

    Attributes:
        method: Its name in the study.
        seed: Its seed.
        opt: Its options as a run of its own.
        deviations: What it does otherwise than the rest, in words.
    """

    method: str
    seed: int
    opt: RunOptions
    deviations: list[str]


def plan(opt: StudyOptions, tree: Tree) -> list[Job]:
    """All jobs of a study, seed by seed, so that a table of all methods is there early.

    Args:
        opt: The checked study.
        tree: What it was read from, so that messages name the right line.

    Raises:
        OptionErrors: if a method's own options do not fit.
    """
    jobs, errors = [], {}
    for seed in opt.seeds:
        for method in opt.methods:
            try:
                run = check(_run_tree(tree, method, seed), RunOptions)
            except OptionErrors as error:
                errors.update(dict.fromkeys(error.errors))
                continue
            jobs.append(Job(method, seed, run, _differences(opt, method)))
    if errors:
        raise OptionErrors(list(errors))
    return jobs


def _run_tree(tree: Tree, method: str, seed: int) -> Tree:
    """The options of one job: what all share, and on top what the method says."""
    entry = tree["methods"][method]
    mark = tree["methods"].marks[method]
    run = Tree(mark)
    run.put("name", method.replace("/", "_"), mark)
    run.put("manual_seed", seed, tree.marks.get("seeds", mark))
    for key in _SHARED:
        if key in tree:
            run.put(key, tree[key], tree.marks[key])
    return merge(run, entry)


def _differences(opt: StudyOptions, method: str) -> list[str]:
    section = opt.methods[method]
    enhanced = _changes(section.val.enhance, plain(opt.val.enhance))
    if section.train is None:
        return ["not trained here", *enhanced]
    own = dict(section.train)
    if opt.budget.of is not None:
        own.pop("total_iter", None)  # it is what the budget is made of
    words = _changes(own, plain(opt.train)) + enhanced
    words += [f"path.{key} {value}" for key, value in section.path.items()]
    if section.model_type not in (None, opt.model_type):
        words.append(f"model_type {section.model_type}")
    return words


def _changes(own: dict[str, Any], shared: dict[str, Any]) -> list[str]:
    return [
        f"{key} {_short(value)} instead of {_short(shared.get(key))}"
        for key, value in own.items()
        if value != shared.get(key)
    ]


def _short(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {_short(entry)}" for key, entry in value.items()) + "}"
    return str(value)
