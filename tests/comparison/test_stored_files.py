"""The quick check of usual records accepts what the thorough one accepts, and gives the same."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from srtoolbox.comparison.store import _RecordCheck
from srtoolbox.comparison.stored_files import RecordFile
from srtoolbox.errors import UserError

USUAL = {
    "key": "clip/0001",
    "seconds": 0.5,
    "metrics": {"psnr": 31.5, "lpips": None},
    "evaluation": "x",
    "index": 0,
    "of": 2,
    "method": "EDSR",
    "seed": 0,
    "dataset": "Set",
}

ODD_VALUES: list[Any] = [
    *(None, True, 1, 2**63, -(2**63), 2**63 - 1, 0.5, 1e400, -1e400, float("nan")),
    *("NaN", "Infinity", "text", "Größe", "\ud800", "", [], {}, [1], {"a": 1}, {"psnr": "NaN"}),
    *({"psnr": 1}, {"psnr": True}, {"psnr": "x"}, {"psnr": 2**63}, {"lpips": 1.0, "psnr": 2.0}),
    {"psnr": float("-inf"), "lpips": None},
]


def outcome(path: Path, quickly: bool) -> tuple[str, list[str]]:
    """The records, as text with types, or the message of the error; and the unfinished lines."""
    check = _RecordCheck()
    file = RecordFile(path, check, check.quick) if quickly else RecordFile(path, check)
    try:
        return repr(list(file)), file.unfinished
    except UserError as error:
        return str(error), file.unfinished


def assert_same(path: Path, lines: list[str]) -> None:
    path.write_bytes("\n".join(lines).encode())
    assert outcome(path, quickly=True) == outcome(path, quickly=False)


@pytest.mark.parametrize("name", [*USUAL, "kind", "other"])
def test_odd_values(tmp_path: Path, name: str) -> None:
    for value in ODD_VALUES:
        changed = json.dumps({**USUAL, name: value})
        assert_same(tmp_path / "results.jsonl", [changed, json.dumps(USUAL)])
        assert_same(tmp_path / "results.jsonl", [json.dumps(USUAL), changed, changed])
    shorter = {key: value for key, value in USUAL.items() if key != name}
    assert_same(tmp_path / "results.jsonl", [json.dumps(shorter), json.dumps(USUAL)])


@pytest.mark.parametrize(
    "line", ["", "  ", "\r", "null", "[]", "3", '"a"', "{", '{"a"', "{}", "{} {}", "\u00a0", "nul"]
)
def test_odd_lines(tmp_path: Path, line: str) -> None:
    usual = json.dumps(USUAL)
    for lines in ([usual, line, usual], [usual, f"{line}\r", ""], [usual[:-7], usual]):
        assert_same(tmp_path / "results.jsonl", lines)
    assert_same(tmp_path / "results.jsonl", [usual, usual + line])


_scores = st.dictionaries(
    st.sampled_from(["psnr", "ssim"]),
    st.none() | st.floats() | st.integers() | st.sampled_from(["NaN", "-Infinity", "no"]),
)
_records = st.fixed_dictionaries(
    {"evaluation": st.sampled_from(["x", "y"]), "key": st.text(max_size=3)}
    | {"index": st.integers(0, 3), "of": st.integers(0, 3), "metrics": _scores},
    optional={"seed": st.integers() | st.none(), "kind": st.text(max_size=3) | st.none()}
    | {"seconds": st.floats() | st.text(max_size=3), "dataset": st.none() | st.just("Set")},
)


@given(records=st.lists(_records, max_size=4))
def test_any_records(tmp_path_factory: pytest.TempPathFactory, records: list[dict]) -> None:
    path = tmp_path_factory.mktemp("study") / "results.jsonl"
    assert_same(path, [json.dumps(record) for record in records])


def test_usual_records_are_not_checked_twice_and_share_their_texts(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    lines = [json.dumps({**USUAL, "index": index, "key": "ä"}) for index in (700, 701, 700)]
    path.write_text("\n".join(lines))
    check = _RecordCheck()
    wanted = [json.loads(line) for line in lines]
    first, second, third = RecordFile(path, pytest.fail, check.quick)
    assert [first, second, third] == wanted
    assert first["method"] is second["method"] and first["index"] is third["index"]
    assert [*map(id, first)] == [*map(id, second)]  # the keys


def test_text_that_is_not_utf8_is_named_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    path.write_bytes(json.dumps(USUAL).encode() + b'\n\n{"key": "\xe4"}\n')
    with pytest.raises(UserError, match=r"results\.jsonl:3 is damaged: it is no UTF-8 text"):
        list(RecordFile(path, _RecordCheck()))
