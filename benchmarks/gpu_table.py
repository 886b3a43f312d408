"""Assembles the table of ``benchmarks/gpu.sh`` from the results of its sections.

It is called after every section, so it does not import torch, except to describe the machine.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from srtoolbox.utils.files import write_atomic

_TITLES = {
    "tests": "Tests that need CUDA",
    "deform": "Deformable convolution against torchvision's operator",
    "trainer": "Trainer against a bare loop",
    "images": "Networks for single images, published sizes",
    "bursts": "Networks for bursts, published sizes",
    "clips": "Networks for clips, published sizes",
    "variants": "Number formats, memory formats and CUDA graphs",
    "compile": "torch.compile",
}
_TIMEOUT = 124  # exit code of the command timeout; 137 if the process had to be killed
_LONGEST = 300  # characters of an error line


@dataclass(frozen=True)
class Section:
    """A section of the script.

    Attributes:
        name: Its name.
        limit: Its time limit in seconds.
        command: Its command line.
        code: Exit code; None if it has not ended.
        seconds: Its time; None if it has not ended.
    """

    name: str
    limit: int
    command: str
    code: int | None = None
    seconds: int | None = None


def describe(device_name: str) -> dict[str, Any]:
    """Returns what the head of the table tells about the machine.

    Raises:
        UserError: if the device is not available.
    """
    import torch

    from srtoolbox.engine.device.precision import pick_device
    from srtoolbox.utils.environment import describe_environment

    device = pick_device(device_name)
    facts = describe_environment(device)
    on_cuda = device.type == "cuda"
    return {
        "device": facts["device"],
        "memory": f"{torch.cuda.get_device_properties(device).total_memory / 2**30:.0f} GiB"
        if on_cuda
        else "needs CUDA",
        "driver": _driver() if on_cuda else "needs CUDA",
        "CUDA of torch": torch.version.cuda or "none",
        "cuDNN": str(torch.backends.cudnn.version()) if on_cuda else "needs CUDA",
        **{name: version for name, version in facts["packages"].items() if "torch" in name},
        "python": facts["python"],
        "platform": facts["platform"],
        "srtoolbox": f"{facts['srtoolbox']}, commit {facts['commit']}",
    }


def _driver() -> str:
    query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        done = subprocess.run(query, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError) as error:
        return f"unknown ({type(error).__name__} of nvidia-smi)"
    return done.stdout.splitlines()[0].strip()


def read_sections(folder: Path) -> list[Section]:
    """Returns the planned sections, with their outcome if they have ended."""
    ended = {name: (int(code), int(took)) for name, code, took in _rows(folder / "finished.tsv")}
    return [
        Section(name, int(limit), command, *ended.get(name, ()))
        for name, limit, command in _rows(folder / "plan.tsv")
    ]


def _rows(path: Path) -> list[list[str]]:
    return [line.split("\t") for line in path.read_text(encoding="utf-8").splitlines()]


def state(section: Section, folder: Path) -> str:
    """Returns the outcome of a section in one line: ``"ok"`` if all of it was measured."""
    if section.code is None:
        return "not run"
    if section.code == 0:
        return "ok"
    if section.code in (_TIMEOUT, 128 + 9):
        return f"stopped at its limit of {section.limit} s"
    return f"failed (exit code {section.code}): {_error_line(section, folder)}"


def _error_line(section: Section, folder: Path) -> str:
    """Returns the last line of the output that tells of an error, else the last one."""
    log = folder / f"{section.name}.log"
    text = log.read_text(encoding="utf-8", errors="replace") if log.exists() else ""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    telling = [
        line for line in lines if re.match(r"(srtoolbox|benchmarks|[\w.]*Error|FAILED)\b", line)
    ]
    return ([*lines[-1:], *telling[-1:]] or ["no output"])[-1][:_LONGEST]


def content(section: Section, folder: Path) -> str:
    """Returns the results of a section in Markdown; empty if there are none."""
    if section.name == "tests":
        return _tests(folder / "tests.xml")
    for path in (folder / "bench").glob(f"*_{section.name}.md"):
        _, _, tables = path.read_text(encoding="utf-8").partition("\n\n")  # without its title
        return tables.strip()
    return ""


def _tests(path: Path) -> str:
    if not path.exists():
        return ""
    cases = list(ElementTree.parse(path).getroot().iter("testcase"))
    counts = dict.fromkeys(("passed", "failed", "skipped"), 0)
    lines, reasons = [], set()
    for case in cases:
        faults = [*case.iter("failure"), *case.iter("error")]
        skips = list(case.iter("skipped"))
        counts["failed" if faults else "skipped" if skips else "passed"] += 1
        reasons.update(skip.get("message", "") for skip in skips)
        lines += [
            f"- {case.get('classname')}.{case.get('name')}: {_one_line(fault.get('message', ''))}"
            for fault in faults[:1]
        ]
    rows = [f"| {name} | {count} |" for name, count in counts.items()]
    lines += [f"- Skipped: {_one_line(reason)}" for reason in sorted(reasons)]
    return "\n".join(["| tests | number |", "| --- | ---: |", *rows, "", *lines]).strip()


def _one_line(text: str) -> str:
    return " ".join(text.split())[:_LONGEST]


def assemble(folder: Path, command: str, dry: bool) -> tuple[str, list[str]]:
    """Returns the table in Markdown and the lines of sections that were not measured completely."""
    sections = read_sections(folder)
    states = {section.name: state(section, folder) for section in sections}
    facts: dict[str, Any] = {"date": f"{datetime.now(timezone.utc):%Y-%m-%d %H:%M} UTC"}
    machine = folder / "machine.json"
    if machine.exists():
        facts |= json.loads(machine.read_text(encoding="utf-8"))
    facts["command"] = f"`{command}`"
    parts = ["# Dry run on the CPU" if dry else "# Measurements on a GPU"]
    if dry:
        parts.append(
            "**Tiny networks on the CPU: this run tests the script. Its times and ratios mean "
            "nothing.** What needs CUDA is not measured, and its cells say so."
        )
    parts.append(_table(["machine", ""], [[key, str(value)] for key, value in facts.items()]))
    rows = [
        [
            section.name,
            states[section.name].replace("|", "\\|"),
            "–" if section.seconds is None else str(section.seconds),
            str(section.limit),
        ]
        for section in sections
    ]
    parts.append(_table(["section", "state", "seconds", "limit"], rows, numbers=2))
    for section in sections:
        if section.name in _TITLES:
            body = content(section, folder) or f"No result: {states[section.name]}."
            if states[section.name] not in ("ok", "not run") and "No result" not in body:
                body = f"Incomplete: {states[section.name]}.\n\n{body}"
            parts += [f"## {_TITLES[section.name]}", body]
    bad = [f"{name}: {outcome}" for name, outcome in states.items() if outcome != "ok"]
    return "\n\n".join(parts) + "\n", bad


def _table(head: list[str], rows: list[list[str]], numbers: int = 0) -> str:
    rule = ["---"] * (len(head) - numbers) + ["---:"] * numbers
    return "\n".join(f"| {' | '.join(row)} |" for row in [head, rule, *rows])


def main() -> int:
    """Writes the table, or with ``--describe`` the facts about the machine.

    Returns:
        The exit code: 1 if a section was not measured completely, 2 if the device is missing.
    """
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu_table", description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder of the results")
    parser.add_argument("--command", default="benchmarks/gpu.sh", help="command line to report")
    parser.add_argument("--dry-run", action="store_true", help="say that nothing was measured")
    parser.add_argument("--describe", metavar="DEVICE", help="write machine.json instead")
    arguments = parser.parse_args()
    if arguments.describe:
        from srtoolbox.errors import UserError

        try:
            facts = describe(arguments.describe)
        except UserError as error:
            print(f"benchmarks: {error}", file=sys.stderr)
            return 2
        write_atomic(arguments.out / "machine.json", json.dumps(facts, indent=1) + "\n")
        return 0
    text, bad = assemble(arguments.out, arguments.command, arguments.dry_run)
    write_atomic(arguments.out / "gpu.md", text)
    for line in bad:
        print(line)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
