"""YAML 1.2 as option files speak it, read and written."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from srtoolbox.config import files as options
from srtoolbox.config.frozen import freeze
from srtoolbox.errors import UserError


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Every test works in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def read(text: str, *overrides: str) -> options.Tree:
    Path("x.yml").write_text(text, encoding="utf-8")
    return options.read("x.yml", overrides)


def error_of(text: str) -> str:
    with pytest.raises(UserError) as caught:
        read(text)
    message = str(caught.value)
    assert "\n" not in message
    return message


class TestYaml:
    @pytest.mark.parametrize(
        ("text", "value"),
        [
            *[("1e-4", 1e-4), ("1E5", 1e5), ("-.5", -0.5), ("3.", 3.0), ("+1.5e+3", 1500.0)],
            *[("8", 8), ("-3", -3), ("010", 10), ("0o17", 15), ("0xFF", 255)],
            *[("true", True), ("TRUE", True), ("False", False), ("~", None), ("", None)],
            *[("null", None), ("yes", "yes"), ("no", "no"), ("on", "on"), ("Off", "Off")],
            *[("1:30", "1:30"), ("2024-01-02", "2024-01-02"), ("1_000", "1_000"), ("tRue", "tRue")],
            *[
                ("'1e-4'", "1e-4"),
                ("!!str 5", "5"),
                ("!!float 5", 5.0),
                ("=", "="),
                ("1.2.3", "1.2.3"),
            ],
            *[(".inf", math.inf), ("-.INF", -math.inf), ("e5", "e5"), ("[1, 2e0]", [1, 2.0])],
        ],
    )
    def test_scalars_follow_yaml_1_2(self, text: str, value: object) -> None:
        got = read(f"key: {text}")["key"]
        assert got == value
        assert type(got) is type(value) or isinstance(value, list)

    def test_not_a_number(self) -> None:
        assert math.isnan(read("x: .nan")["x"])

    def test_keys_are_text_as_written(self) -> None:
        assert list(read("4: a\non: b\n1e-3: c\n")) == ["4", "on", "1e-3"]

    def test_duplicate_key_names_both_lines(self) -> None:
        message = error_of("a: 1\nb:\n  c: 1\n  d: 2\n  c: 3\n")
        assert message == "x.yml:5: duplicate key 'c', first at x.yml:3"

    @pytest.mark.parametrize(
        ("text", "start", "part"),
        [
            ("a: [1, 2\nb: 3\n", "x.yml:2:2: ", "not closed or lacks a comma"),
            ("a: 1\n\tb: 2\n", "x.yml:2:1: ", "spaces, not tabs"),
            ("a: 1\n---\nb: 2\n", "x.yml:2:1: ", "single document"),
            ("a: *nowhere\n", "x.yml:1:4: ", "nowhere"),
            ("a: 1\nb: \x07\n", "x.yml:2:4: ", "not allowed"),
            ("a: 1\nb: !!python/name:os.system x\n", "x.yml:2: ", "tag"),
            ("a: !custom {b: 1}\n", "x.yml:1: ", "!custom"),
            ("a: !!int abc\n", "x.yml:1: ", "'abc' is no int"),
            ("a: &a [*a]\n", "x.yml:1: ", "alias"),
            ("? [1]\n: 2\n", "x.yml:1: ", "key must be text"),
            ("a: {}\nb:\n  <<: 3\n", "x.yml:3: ", "alias of a mapping"),
            ("- 1\n", "x.yml:1: ", "mapping"),
            ("a:\n- !delete\n", "x.yml:2: ", "replaced as a whole"),
        ],
    )
    def test_what_is_wrong_says_where(self, text: str, start: str, part: str) -> None:
        message = error_of(text)
        assert message.startswith(start)
        assert part in message

    def test_unreadable_files(self, folder: Path) -> None:
        (folder / "latin.yml").write_bytes(b"a: \xe9\n")
        for name, part in (
            ("none.yml", "no such file"),
            (".", "cannot read"),
            ("latin.yml", "UTF-8"),
        ):
            with pytest.raises(UserError, match=part):
                options.read(folder / name)

    def test_empty_file_and_byte_order_mark(self) -> None:
        assert read("") == {}
        assert read("\ufeffa: 1") == {"a": 1}

    def test_aliases_give_copies(self) -> None:
        tree = read("a: &x {b: 1}\nc: *x\n", "a.b=2")
        assert tree == {"a": {"b": 2}, "c": {"b": 1}}


class TestDump:
    def test_round_trip(self) -> None:
        tree = read(
            "z: {f: 1e-05, g: 1e20, h: 0.1, i: .inf, n: null, b: true}\n"
            "s: ['1e5', 'yes', '1', '0o7', '1:30', '', 'é – ×', ' a ', '#', '.5', \"x\\ny\"]\n"
            "t: ['!delete', '*a', '<<', 'a: b', '- a', null, 'null', '2020-01-01', '1_0']\n"
            "'4': &x {k: [1, [2, {y: 3}]]}\na: *x\ne: {}\nl: []\n"
        )
        text = options.dump(tree)
        again = read(text)
        assert again == tree
        assert list(again) == list(tree)
        assert repr(again) == repr(tree)  # 1.0 and 1 are equal but not the same
        assert "&" not in text
        assert "1.0e-05" in text  # a float to readers of YAML 1.1 too

    def test_paths_tuples_and_frozen_options(self) -> None:
        frozen = freeze({"p": Path("a/b"), "t": (1, {"x": 2})})
        assert read(options.dump(frozen)) == {"p": "a/b", "t": [1, {"x": 2}]}
