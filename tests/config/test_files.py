"""Option files: places, inheritance, overrides."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from srtoolbox.config import files as options
from srtoolbox.errors import UserError


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Every test works in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(**files: str) -> None:
    """``write(a="x: 1")`` writes ``a.yml``; ``sub__a`` is ``sub/a.yml``."""
    for name, text in files.items():
        path = Path(name.replace("__", "/") + ".yml")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


def read(text: str, *overrides: str) -> options.Tree:
    write(x=text)
    return options.read("x.yml", overrides)


def error_of(text: str, *overrides: str) -> str:
    with pytest.raises(UserError) as caught:
        read(text, *overrides)
    message = str(caught.value)
    assert "\n" not in message
    return message


class TestPlaces:
    def test_every_key_and_entry_knows_its_line(self) -> None:
        tree = read("a: 1\nb:\n  c:\n  - x\n  - d: 2\n    e: 3\n")
        for path, line in [("a", 1), ("b", 2), ("b.c", 3), ("b.c.0", 4), ("b.c.1.e", 6)]:
            assert options.locate(tree, path) == f"x.yml:{line}"

    def test_missing_parts_give_the_nearest_place(self) -> None:
        tree = read("a: 1\nb:\n  c: [1]\n")
        for path, line in [("b.nothing", 2), ("b.c.7", 3), ("b.c.0.q", 3), ("a.b", 1), ("", 1)]:
            assert options.locate(tree, path) == f"x.yml:{line}"

    def test_inherited_keys_keep_their_file(self) -> None:
        write(sub__base="a: 1\nb:\n  c: 2\n  d: 3\n")
        tree = read("_base_: sub/base.yml\nb:\n  c: 5\n", "b.e=1", "z.y=2")
        assert options.locate(tree, "a") == "sub/base.yml:1"
        assert options.locate(tree, "b.d") == "sub/base.yml:4"
        assert options.locate(tree, "b.c") == "x.yml:3"
        assert options.locate(tree, "b") == "x.yml:2"  # not the override's, which sets b.e alone
        assert options.locate(tree, "b.e") == "--set b.e=1"
        assert options.locate(tree, "z") == "--set z.y=2"

    def test_far_files_show_their_absolute_path(self, folder: Path, monkeypatch) -> None:
        write(x="a: 1")
        far = folder / "q" / "w" / "e" / "r" / "t" / "y"
        for _ in range(30):
            far /= "d"
        far.mkdir(parents=True)
        monkeypatch.chdir(far)
        assert options.locate(options.read(folder / "x.yml"), "a") == f"{folder}/x.yml:1"


class TestInheritance:
    def test_deep_merge_later_wins_lists_are_replaced(self) -> None:
        write(
            b1="a: {x: 1, y: {p: 1, q: 2}, l: [1, 2, 3]}\nplugins: [one]\n",
            b2="a: {x: 2}\nplugins: [two]\n",
        )
        tree = read("_base_: [b1.yml, b2.yml]\na: {y: {q: 3}, l: [9]}\nnew: 1\n")
        assert tree == {
            "a": {"x": 2, "y": {"p": 1, "q": 3}, "l": [9]}, "plugins": ["two"], "new": 1,
        }  # fmt: skip
        assert list(tree) == ["a", "plugins", "new"]

    def test_base_within_mappings_and_lists(self) -> None:
        write(
            nets__small="type: EDSR\nnum_feat: 64\n", nets__tiny="_base_: small.yml\nnum_feat: 8\n"
        )
        tree = read(
            "methods:\n  EDSR: {_base_: nets/small.yml, num_feat: 32}\n"
            "list:\n- _base_: nets/tiny.yml\n- 1\n"
        )
        assert tree["methods"]["EDSR"] == {"type": "EDSR", "num_feat": 32}
        assert tree["list"] == [{"type": "EDSR", "num_feat": 8}, 1]

    def test_another_type_replaces_the_whole_mapping(self) -> None:
        write(base="net: {type: EDSR, num_feat: 64}\n")
        assert read("_base_: base.yml\nnet: {type: EDSR, res: 2}\n")["net"] == {
            "type": "EDSR", "num_feat": 64, "res": 2,
        }  # fmt: skip
        assert read("_base_: base.yml\nnet: {type: RCAN}\n")["net"] == {"type": "RCAN"}
        assert read("_base_: base.yml\n", "net.type=RCAN")["net"] == {"type": "RCAN"}

    def test_delete(self) -> None:
        write(base="a: {b: 1, c: 2}\nd: 3\n", less="_base_: base.yml\nd: !delete\n")
        assert read("_base_: less.yml\na: {b: !delete}\n") == {"a": {"c": 2}}

    def test_delete_of_a_type_keeps_the_other_options(self) -> None:
        write(base="net: {type: EDSR, num_feat: 64}\n")
        tree = read("_base_: base.yml\nnet: {type: !delete, res: 2}\n")
        assert tree["net"] == {"num_feat": 64, "res": 2}

    @pytest.mark.parametrize(
        "text", ["{b: !delete}", "{b: !delete, }", "{b: !delete }", "\n b: !delete"]
    )
    def test_delete_in_every_style(self, text: str) -> None:
        write(base="a: {b: 1, c: 2}\n")
        assert read(f"_base_: base.yml\na: {text}") == {"a": {"c": 2}}

    def test_delete_of_what_is_not_there(self) -> None:
        write(base="a: {b: 1}\n")
        message = error_of("_base_: base.yml\na:\n  bb: !delete\n")
        assert message == "x.yml:3: a.bb: nothing to delete, it is not inherited"

    def test_deleted_key_may_come_back(self) -> None:
        write(base="a: 1\n", less="a: !delete\n", more="a: 2\n")
        assert read("_base_: [base.yml, less.yml, more.yml]\n") == {"a": 2}

    def test_circle_is_named(self) -> None:
        write(b="a: {_base_: c.yml}\n", c="_base_: b.yml\n")
        message = error_of("_base_: b.yml\n")
        assert message == "c.yml:1: _base_: files inherit in a circle: b.yml -> c.yml -> b.yml"

    def test_one_base_twice_is_no_circle(self) -> None:
        write(base="k: 1\n")
        assert read("a: {_base_: base.yml}\nb: {_base_: base.yml}\n") == {
            "a": {"k": 1},
            "b": {"k": 1},
        }

    def test_missing_base_says_who_asks(self) -> None:
        write(sub__mid="a: 1\n_base_:\n- ../x2.yml\n- gone.yml\n", x2="")
        message = error_of("_base_: sub/mid.yml\n")
        assert message == "sub/mid.yml:4: _base_: no such file: sub/gone.yml"

    @pytest.mark.parametrize("value", ["3", "", "[1]", "{a: b}"])
    def test_base_must_be_a_path(self, value: str) -> None:
        assert "x.yml:2: _base_: expected a path" in error_of(f"a: 1\n_base_: {value}\n")

    def test_plugin_paths_count_from_their_file(self, folder: Path) -> None:
        write(sub__base="plugins: [./net.py, my.module, other.py, ../up]\n")
        expected = [str(folder / "sub/net.py"), "my.module", str(folder / "sub/other.py")]
        assert read("_base_: sub/base.yml\n")["plugins"] == [*expected, str(folder / "up")]
        assert read("", "plugins=[a/b.py]")["plugins"] == [str(folder / "a/b.py")]


class TestOverrides:
    @pytest.mark.parametrize(
        ("override", "expected"),
        [
            ("a.b=1e-4", {"a": {"b": 1e-4, "l": [{"x": 1}, 2]}}),
            ("a.new.deep=yes", {"a": {"b": 1, "l": [{"x": 1}, 2], "new": {"deep": "yes"}}}),
            ("a={c: 2}", {"a": {"b": 1, "l": [{"x": 1}, 2], "c": 2}}),
            ("a.l.0.x=5", {"a": {"b": 1, "l": [{"x": 5}, 2]}}),
            ("a.l.0.y.z=5", {"a": {"b": 1, "l": [{"x": 1, "y": {"z": 5}}, 2]}}),
            ("a.l.1=three = 3", {"a": {"b": 1, "l": [{"x": 1}, "three = 3"]}}),
            ("a.l.0=!delete", {"a": {"b": 1, "l": [2]}}),
            ("a.l=[]", {"a": {"b": 1, "l": []}}),
            ("a.b=!delete", {"a": {"l": [{"x": 1}, 2]}}),
            ("a.b=", {"a": {"b": None, "l": [{"x": 1}, 2]}}),
        ],
    )
    def test_values(self, override: str, expected: dict) -> None:
        assert read("a: {b: 1, l: [{x: 1}, 2]}\n", override) == expected

    def test_in_order_and_visible_to_the_next(self) -> None:
        assert read("n:\n", "n.a.b=1", "n.a.c=2", "n.a.b=3") == {"n": {"a": {"b": 3, "c": 2}}}

    def test_base_of_the_whole_file(self) -> None:
        write(other="a: 5\n")
        assert read("a: 1\nb: 2\n", "_base_=other.yml") == {"a": 5, "b": 2}
        message = error_of("a: 1\n", "_base_=gone.yml")
        assert message == "--set _base_=gone.yml: _base_: no such file: gone.yml"

    @pytest.mark.parametrize("override", ["n._base_=other.yml", "n={_base_: other.yml}"])
    def test_base_in_an_override_goes_on_top(self, override: str) -> None:
        write(other="a: 5\nb: 6\n")
        assert read("n: {a: 1, c: 3}\n", override) == {"n": {"a": 5, "c": 3, "b": 6}}

    @pytest.mark.parametrize(
        ("override", "part"),
        [
            ("a.b", "expected key.key=value"),
            ("=1", "expected key.key=value"),
            ("a..b=1", "expected key.key=value"),
            ("a.b=[1", "not valid YAML"),
            ("a.b.c=1", "not a mapping"),
            ("l.2=1", "a list of 2"),
            ("l.x=1", "'x' is no entry"),
            ("a.c=!delete", "nothing to delete"),
            ("a.c={x: 1, x: 2}", "duplicate key"),
        ],
    )
    def test_mistakes_name_the_override(self, override: str, part: str) -> None:
        message = error_of("a: {b: 1}\nl: [1, 2]\n", override)
        assert message.startswith(f"--set {override}: ")
        assert part in message


class TestWithoutFile:
    def test_overrides_are_all_there_is(self) -> None:
        tree = options.read(None, ["a.b=1", "a.c=[2]"])
        assert tree == {"a": {"b": 1, "c": [2]}}
        assert options.locate(tree, "a.b") == "--set a.b=1"

    def test_mappings_get_a_place(self) -> None:
        tree = options.as_tree({"a": {"b": 1}, "c": [2]}, "net.pth")
        assert tree == {"a": {"b": 1}, "c": [2]}
        assert options.locate(tree, "a.b") == options.locate(tree, "c") == "net.pth"
        assert options.merge(tree, options.read(None, ["a.d=3"]))["a"] == {"b": 1, "d": 3}


def test_option_modules_do_not_import_torch() -> None:
    code = (
        "import sys, srtoolbox.config.files, srtoolbox.config.json_schema, srtoolbox.plugins;"
        "sys.exit('torch' in sys.modules)"
    )
    root = Path(options.__file__).parents[2]
    assert subprocess.run([sys.executable, "-c", code], cwd=root, check=False).returncode == 0
