"""Damages files in the ways that disks, kills and editors do."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

_VALUES = st.sampled_from([
    None, True, 0, -1, 17, 1e308, 10**30, "", "x", "NaN", "../../x", "/x", "\0", "\ud800", "[b]\n|",
    [], [1], {}, {"a": 1}, {"a": None}, [[]], {"frames": 1.0},
])  # fmt: skip
_BYTES = (b"17", b"{}", b"[]", b"null", b"", b"\xff\xfe", b"[" * 5000, b'{"a": ' + b"9" * 5000)


def _places(tree: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    items = tree.items() if isinstance(tree, dict) else enumerate(tree)
    found = []
    for key, value in items:
        found.append((*path, key))
        if isinstance(value, dict | list):
            found += _places(value, (*path, key))
    return found


def damaged(data: st.DataObject, path: Path) -> bytes:
    """Draws one damage and returns the content that a file then has.

    JSON and JSONL files also get other values, lost values and foreign lines.
    """
    content = path.read_bytes()
    is_lines = path.suffix == ".jsonl"
    if path.suffix not in (".json", ".jsonl"):
        kinds = ["bit", "cut", "all"]
    else:
        kinds = ["bit", "cut", "line", "value", "value", "value", "drop"]
    kind = data.draw(st.sampled_from(kinds))
    if kind == "all":
        return data.draw(st.sampled_from(_BYTES))
    if kind == "bit":
        at = data.draw(st.integers(0, 8 * len(content) - 1))
        return bytes(b ^ (1 << at % 8) if i == at // 8 else b for i, b in enumerate(content))
    if kind == "cut":
        return content[: data.draw(st.integers(0, len(content)))]
    lines = content.split(b"\n")[:-1] if is_lines else [content]
    number = data.draw(st.integers(0, len(lines) - 1))
    if kind == "line":
        lines[number] = data.draw(st.sampled_from(_BYTES))
    else:
        tree = json.loads(lines[number])
        *parents, last = data.draw(st.sampled_from(_places(tree)))
        place = tree
        for key in parents:
            place = place[key]
        if kind == "drop":
            del place[last]
        else:
            place[last] = data.draw(_VALUES)
        lines[number] = json.dumps(tree).encode()
    return b"\n".join(lines) + b"\n"
