"""Studies of somebody else: mutated files give one line, never a traceback."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.damage import damaged

from srtoolbox.comparison.report.write import write_report
from srtoolbox.comparison.study.merge import merge_studies
from srtoolbox.errors import RunError, UserError

_FILES = ("study.json", "results.jsonl", "costs.jsonl", "frame_use.jsonl")


@pytest.fixture
def part(rich_study: Path) -> Path:
    """A study with all four files and the options that a merge needs."""
    use = {"1 frame": 30.0, "3 frames": 31.0, "reference only": 29.0, "shuffled": 28.0}
    use = {"evaluation": "00clipsduf-y", "psnr": use}
    (rich_study / "frame_use.jsonl").write_text(json.dumps(use) + "\n")
    names = ["Bicubic", "A_B & <i>C</i>", "Net|D$", "Late", "Broken"]
    options = {"name": "rich", "methods": {name: {} for name in names}, "seeds": [0, 1]}
    (rich_study / "study.yml").write_text(json.dumps(options))
    shutil.rmtree(rich_study / "images")
    return rich_study


@pytest.mark.slow
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_mutated_files_give_one_line_or_a_report(part: Path, data: st.DataObject) -> None:
    copy, into = part.with_name("copy"), part.with_name("merged")
    for folder in (copy, into):
        shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(part, copy)
    name = data.draw(st.sampled_from(_FILES))
    path = copy / name
    path.write_bytes(damaged(data, path))
    formats = data.draw(st.sampled_from([["md"]] * 9 + [["html"]]))
    for act in (lambda: write_report(copy, formats), lambda: merge_studies([copy], into)):
        try:
            act()
        except (UserError, RunError) as error:
            assert "\n" not in str(error)
            assert str(copy) in str(error)


@pytest.mark.parametrize("name", _FILES[1:])
@pytest.mark.parametrize("line", ["17", "{}", '{"evaluation": 3}', "{,}", "\x00", "null"])
def test_a_damaged_line_is_named(part: Path, name: str, line: str) -> None:
    path = part / name
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines[:1], line, *lines[1:]]) + "\n")
    with pytest.raises(UserError, match=rf"{name}:2 is damaged: "):
        write_report(part, ["md"])
    with pytest.raises(UserError, match=rf"{name}:2 is damaged: "):
        merge_studies([part], part.with_name("merged"))


def test_an_unfinished_line_matters_only_if_its_result_is_missing(part: Path) -> None:
    path = part / "results.jsonl"
    lines = path.read_text().splitlines()
    path.write_text("\n".join([lines[0], lines[1][:40], *lines[1:]]) + "\n")
    write_report(part, ["md"])  # a killed comparison went on and wrote the line again
    path.write_text("\n".join([*lines[:-1], lines[-1][:40]]))
    with pytest.raises(UserError, match=rf"results.jsonl:{len(lines)} is damaged: the scores of"):
        write_report(part, ["md"])


@pytest.mark.parametrize("value", ["../x", "/x", "a/../../x", "a\0"])
def test_names_do_not_lead_out_of_the_folder(part: Path, value: str) -> None:
    card = json.loads((part / "study.json").read_text())
    card["entries"][0]["evaluations"] = {value: "x"}
    (part / "study.json").write_text(json.dumps(card))
    with pytest.raises(UserError, match=r"study.json is damaged: .* leads out of"):
        write_report(part, ["md"])


def test_merge_skips_links(part: Path, caplog: pytest.LogCaptureFixture) -> None:
    secret = part.with_name("secret")
    secret.mkdir()
    (secret / "a.png").write_text("secret")
    (part / "images").mkdir()
    (part / "images" / "folder").symlink_to(secret)
    (part / "images" / "own.png").write_text("own")
    (part / "images" / "link.png").symlink_to(secret / "a.png")
    run = part / "runs" / "0-0"
    (run / "finished.json").write_text("{}")
    (run / "link.pth").symlink_to(secret / "a.png")
    (part / "runs" / "other").symlink_to(run)
    into = part.with_name("merged")
    merge_studies([part], into)
    assert [p.name for p in (into / "images").iterdir()] == ["own.png"]
    assert not (into / "runs" / "other").exists()
    assert (into / "runs" / "0-0" / "finished.json").exists()
    assert not any(p.name == "link.pth" or p.is_symlink() for p in into.rglob("*"))
    assert "4 symbolic links were not copied" in caplog.text
