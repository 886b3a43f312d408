"""Options against dataclasses."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest

from srtoolbox.config import files as options
from srtoolbox.config.components import describe
from srtoolbox.config.frozen import freeze
from srtoolbox.config.schema import OptionErrors, check, option


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@dataclass(frozen=True, kw_only=True)
class Train:
    """How to train.

    More about it.
    """

    total_iter: int = option(doc="optimizer steps", min=1)
    lr: float = option(1e-4, exclusive_min=0, doc="learning rate")
    ema: float | None = option(None, min=0, max=1)
    milestones: list[int] = option([100, 200], min=1)
    precision: Literal["fp32", "bf16", 8] = "fp32"
    shuffle: bool = True

    def validate(self) -> Iterator[tuple[str, str]]:
        if self.milestones and self.milestones[-1] > self.total_iter:
            yield "milestones", f"ends after total_iter ({self.total_iter})"


@dataclass(frozen=True, kw_only=True)
class Top:
    train: Train
    name: str = "x"
    root: Path | None = None
    more: dict[str, Annotated[int, "a note"]] = option({})
    pair: tuple[int, float] = (1, 2.0)
    several: tuple[float, ...] = ()
    either: int | str | list[str] = 0
    anything: Any = None
    crops: dict[str, Train] = option(factory=dict)


def read(text: str) -> options.Tree:
    Path("x.yml").write_text(text, encoding="utf-8")
    return options.read("x.yml")


GOOD = "train: {total_iter: 1000}\n"


def errors_of(text: str, section: type = Top) -> list[str]:
    with pytest.raises(OptionErrors) as caught:
        check(read(text), section)
    assert str(caught.value).splitlines() == list(caught.value.errors)
    return list(caught.value.errors)


class TestValues:
    def test_defaults_are_filled_in(self) -> None:
        top = check(read(GOOD), Top)
        assert top == Top(train=Train(total_iter=1000))
        assert top.train.milestones == [100, 200]
        assert top.train.milestones is not Train(total_iter=1).milestones

    @pytest.mark.parametrize(
        ("line", "value"),
        [
            ("pair: [1, 2]", (1, 2.0)),
            ("several: [1, 2, 3]", (1.0, 2.0, 3.0)),
            ("either: a", "a"),
            ("either: [a]", ["a"]),
            ("root: a/b", Path("a/b")),
            ("root:", None),
            ("name: 'yes'", "yes"),
            ("anything: {a: [1, {b: x}]}", {"a": [1, {"b": "x"}]}),
            ("crops: {a: {total_iter: 500, lr: 1}}", {"a": Train(total_iter=500, lr=1.0)}),
        ],
    )
    def test_conversion(self, line: str, value: object) -> None:
        got = getattr(check(read(GOOD + line), Top), line.partition(":")[0])
        assert got == value
        assert repr(got) == repr(value)  # 2.0 rather than 2, plain containers

    def test_whole_floats_are_integers_and_home_is_expanded(self) -> None:
        top = check(read("train: {total_iter: 1e5}\nroot: ~/data\n"), Top)
        assert repr(top.train.total_iter) == "100000"
        assert top.root == Path.home() / "data"

    def test_plain_mappings_can_be_checked_too(self) -> None:
        assert check({"train": {"total_iter": 300}}, Top).train.total_iter == 300
        with pytest.raises(OptionErrors, match=r"^train.total_iter: expected an integer"):
            check({"train": {"total_iter": "x"}}, Top)

    def test_frozen_options_can_be_checked_too(self) -> None:
        frozen = freeze({"train": {"total_iter": 300, "milestones": [1]}})
        assert check(frozen, Top).train.milestones == [1]


class TestErrors:
    @pytest.mark.parametrize(
        ("lines", "expected"),
        [
            ("nam: y", "x.yml:2: nam: unknown; did you mean 'name'?"),
            ("name: 3", "x.yml:2: name: expected text, got 3 (a number); put it in quotes: '3'"),
            ("pair: 3", "x.yml:2: pair: expected a list of 2, got 3 (a number)"),
            ("pair: [1]", "x.yml:2: pair: expected 2 values, got 1"),
            ("pair:\n- 1\n- a", "x.yml:4: pair.1: expected a number, got 'a' (a string)"),
            ("several: [true]", "x.yml:2: several.0: expected a number, got true (a boolean)"),
            ("root: 3", "x.yml:2: root: expected a path, got 3 (a number)"),
            ("root: [a]", "x.yml:2: root: expected a path or null, got a list"),
            ("name:", "x.yml:2: name: expected text, got nothing"),
            (
                "either: 1.5",
                "x.yml:2: either: expected an integer or text or a list (each: text), "
                "got 1.5 (a number); put it in quotes: '1.5'",
            ),
            ("more: 3", "x.yml:2: more: expected a mapping, got 3 (a number)"),
            ("crops:\n  a:\n    lr: 1", "x.yml:3: crops.a.total_iter: missing (optimizer steps)"),
            ("crops: {a: 3}", "x.yml:2: crops.a: expected a mapping, got 3 (a number)"),
        ],
    )
    def test_top(self, lines: str, expected: str) -> None:
        assert errors_of(GOOD + lines + "\n") == [expected]

    @pytest.mark.parametrize(
        ("line", "expected"),
        [
            ("learning_rate: 1", "x.yml:3: train.learning_rate: unknown; did you mean 'lr'?"),
            (
                "zzz: 1",
                "x.yml:3: train.zzz: unknown; known: total_iter, lr, ema, milestones, precision, "
                "shuffle",
            ),
            (
                "shuffle: no",
                "x.yml:3: train.shuffle: expected true or false, got 'no' (a string); "
                "write true or false",
            ),
            ("shuffle: 1", "x.yml:3: train.shuffle: expected true or false, got 1 (a number)"),
            ("lr: 0", "x.yml:3: train.lr: must be > 0, got 0.0"),
            ("lr: .nan", "x.yml:3: train.lr: must be finite, got nan"),
            ("lr: '1e-4'", "x.yml:3: train.lr: expected a number, got '1e-4' (a string)"),
            ("ema: 1.5", "x.yml:3: train.ema: must be <= 1, got 1.5"),
            ("ema: -1", "x.yml:3: train.ema: must be >= 0, got -1.0"),
            ("milestones: [5, 0]", "x.yml:3: train.milestones.1: must be >= 1, got 0"),
            (
                "precision: fp64",
                "x.yml:3: train.precision: expected 'fp32' or 'bf16' or 8, got 'fp64' (a string)",
            ),
            ("milestones: [2000]", "x.yml:3: train.milestones: ends after total_iter (1000)"),
            (
                "milestones: [1.5]",
                "x.yml:3: train.milestones.0: expected an integer, got 1.5 (a number)",
            ),
        ],
    )
    def test_section(self, line: str, expected: str) -> None:
        assert errors_of(f"train:\n  total_iter: 1000\n  {line}\n") == [expected]

    def test_missing_key_names_its_mapping(self) -> None:
        assert errors_of("name: a\ntrain:\n  lr: 1\n") == [
            "x.yml:2: train.total_iter: missing (optimizer steps)"
        ]
        assert errors_of("name: a\n") == ["x.yml:1: train: missing"]

    def test_all_errors_at_once_each_with_its_own_file(self) -> None:
        Path("base.yml").write_text("train:\n  lr: x\n", encoding="utf-8")
        Path("x.yml").write_text("_base_: base.yml\ntrain:\n  total_iter: abc\nnamee: 1\n")
        with pytest.raises(OptionErrors) as caught:
            check(options.read("x.yml", ["train.ema=5"]), Top)
        assert sorted(caught.value.errors) == [
            "--set train.ema=5: train.ema: must be <= 1, got 5.0",
            "base.yml:2: train.lr: expected a number, got 'x' (a string)",
            "x.yml:3: train.total_iter: expected an integer, got 'abc' (a string)",
            "x.yml:4: namee: unknown; did you mean 'name'?",
        ]

    def test_validate_runs_only_on_a_sound_section(self) -> None:
        assert len(errors_of("train: {total_iter: x, milestones: [5000]}\n")) == 1


def test_describe() -> None:
    assert describe(int | None) == "an integer or null"
    assert describe(list[Path]) == "a list (each: a path)"
    assert describe(dict[str, int]) == "a mapping"
