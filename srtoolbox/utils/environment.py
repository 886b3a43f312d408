"""Describes the environment of a run: versions, device, threads, commit."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

_PACKAGES = ("torch", "torchvision", "numpy", "opencv-python", "scikit-image", "lpips")


def describe_environment(device: torch.device) -> dict[str, Any]:
    """Returns everything about this machine that can change a number or a time."""
    return {
        "srtoolbox": metadata.version("srtoolbox") if _installed("srtoolbox") else "not installed",
        "commit": source_commit(),
        "python": platform.python_version(),
        "packages": {name: metadata.version(name) for name in _PACKAGES if _installed(name)},
        "platform": f"{platform.system()} {platform.machine()}",
        "device": device_name(device),
        "threads": torch.get_num_threads(),
    }


def digest(value: Any) -> str:
    """Returns 12 hex digits of the SHA-256 of a JSON value; the order of its keys has no effect."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def device_name(device: torch.device) -> str:
    """Returns the name of a device for tables: ``"NVIDIA H200"`` or ``"AMD EPYC (2 cores)"``."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{_cpu_model()} ({os.cpu_count()} cores)"


def source_commit() -> str | None:
    """Returns the commit of this checkout, with ``+`` if files were changed; None if installed."""
    package = Path(__file__).resolve().parents[1]
    if not (package.parent / ".git").exists():
        return None
    commit = _git(package, "rev-parse", "--short=12", "HEAD")
    if commit is None:
        return None
    return commit.strip() + ("+" if _git(package, "status", "--porcelain", "--", ".") else "")


def uncommitted_diff() -> str:
    """Returns a patch from the commit to the files of this package, including new files.

    It is empty if nothing was changed or there is no git.
    """
    package = Path(__file__).resolve().parents[1]
    if not (source_commit() or "").endswith("+"):
        return ""
    root, inside = package.parent, ("--", package.name)
    new = _git(root, "ls-files", "--others", "--exclude-standard", "-z", *inside) or ""
    parts = [_git(root, "diff", "--binary", "HEAD", *inside)]
    against_none = ("diff", "--binary", "--no-index", "--", os.devnull)
    parts += [_git(root, *against_none, name, codes=(0, 1)) for name in new.split("\0") if name]
    return "".join(part for part in parts if part)


def _git(folder: Path, *arguments: str, codes: tuple[int, ...] = (0,)) -> str | None:
    try:
        done = subprocess.run(
            ["git", *arguments], cwd=folder, capture_output=True, timeout=10, check=False
        )
    except (OSError, subprocess.TimeoutExpired):  # no git: the commit is unknown
        return None
    return done.stdout.decode(errors="replace") if done.returncode in codes else None


def _cpu_model() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _installed(name: str) -> bool:
    try:
        metadata.version(name)
    except metadata.PackageNotFoundError:
        return False
    return True
