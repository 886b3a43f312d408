"""Checks that a wheel holds every module, option file and template of the checkout, and no more."""

from __future__ import annotations

import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[1]


def expected() -> list[str]:
    """Returns the paths that the wheel must have."""
    package = ROOT / "srtoolbox"
    suffixes = {".py", ".typed", ".j2", ".css", ".js", ".npz", ".safetensors"}
    files = [path for path in package.rglob("*") if path.suffix in suffixes]
    paths = [path.relative_to(ROOT).as_posix() for path in files]
    options = ROOT / "options"
    paths += [
        f"srtoolbox/options/{path.relative_to(options).as_posix()}"
        for path in options.rglob("*.yml")
    ]
    return paths


def main() -> int:
    """Prints missing and superfluous files; returns the exit code."""
    wheel = Path(sys.argv[1])
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    wanted = expected()
    missing = [path for path in wanted if path not in names]
    missing += [
        file
        for file in ("LICENSE", "NOTICE")
        if not any(name.endswith(f".dist-info/licenses/{file}") for name in names)
    ]
    folders = {path.parent for path in (ROOT / "srtoolbox").rglob("*.py")}
    missing += [
        f"{(folder / '__init__.py').relative_to(ROOT)} (not in the checkout either)"
        for folder in sorted(folders)
        if not (folder / "__init__.py").exists()
    ]
    stale = sorted(name for name in names - set(wanted) if name.startswith("srtoolbox/"))
    for path in missing:
        print(f"{wheel.name}: {path} is missing", file=sys.stderr)
    for path in stale:
        print(f"{wheel.name}: {path} is not in the checkout", file=sys.stderr)
    if missing or stale:
        return 1
    print(f"{wheel.name}: all {len(wanted)} files are there")
    return 0


if __name__ == "__main__":
    sys.exit(main())
