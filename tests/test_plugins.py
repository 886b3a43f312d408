"""Loading a user's own components."""

from __future__ import annotations

import importlib
import os
import pickle
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from srtoolbox import plugins
from srtoolbox.errors import UserError
from srtoolbox.registry import LOSS_REGISTRY

COMPONENT = """
from srtoolbox.registry import LOSS_REGISTRY
import sys
sys.loads_of_{name} = getattr(sys, "loads_of_{name}", 0) + 1

@LOSS_REGISTRY.register()
class {name}:
    def __init__(self, weight: float = 1.0) -> None:
        self.weight = weight
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder of its own; registry, modules and path are as before afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(LOSS_REGISTRY, "_entries", dict(LOSS_REGISTRY._entries))
    monkeypatch.setattr(LOSS_REGISTRY, "_home", None)
    yield tmp_path
    for name, module in list(sys.modules.items()):
        if str(getattr(module, "__file__", None)).startswith(str(tmp_path)):
            del sys.modules[name]


def error_of(*entries: str) -> str:
    with pytest.raises(UserError) as caught:
        plugins.load_plugins(entries)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_file_is_loaded_once_under_whatever_path(folder: Path) -> None:
    (folder / "one.py").write_text(COMPONENT.format(name="PluginOne"))
    (folder / "link.py").symlink_to("one.py")
    plugins.load_plugins(["one.py", "./one.py", str(folder / "one.py"), "link.py"])
    plugins.load_plugins(["one.py"])
    assert sys.loads_of_PluginOne == 1
    cls = LOSS_REGISTRY.get("PluginOne")
    assert sys.modules[cls.__module__].PluginOne is cls
    assert pickle.loads(pickle.dumps(cls(2.0))).weight == 2.0


def test_files_of_one_name_are_two_modules(folder: Path) -> None:
    for name in ("A", "B"):
        (folder / name).mkdir()
        (folder / name / "net.py").write_text(COMPONENT.format(name=f"Plugin{name}"))
    plugins.load_plugins(["A/net.py", "B/net.py"])
    assert {"PluginA", "PluginB"} <= set(LOSS_REGISTRY.names())


def test_dotted_module(folder: Path) -> None:
    (folder / "my_package").mkdir()
    (folder / "my_package" / "__init__.py").touch()
    (folder / "my_package" / "nets.py").write_text(COMPONENT.format(name="PluginDotted"))
    plugins.load_plugins(["my_package.nets"])
    assert "PluginDotted" in LOSS_REGISTRY


def test_nothing_to_load() -> None:
    plugins.load_plugins([])
    plugins.load_plugins(None)


@pytest.mark.parametrize("entries", ["one.py", [1], [["a.py"]]])
def test_not_a_list_of_names(entries: object) -> None:
    with pytest.raises(UserError, match="expected a list of"):
        plugins.load_plugins(entries)


@pytest.mark.parametrize(
    ("entry", "part"),
    [
        ("gone.py", "plugin 'gone.py': no such file"),
        ("some/folder", "is not a .py file"),
        ("no_such_module_at_all", "No module named 'no_such_module_at_all'"),
    ],
)
def test_plugin_that_is_not_there(entry: str, part: str) -> None:
    assert part in error_of(entry)


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("x = 1\nimport no_such_thing\n", ":2: ModuleNotFoundError: No module named"),
        ("x = 1\n\nif x\n    pass\n", ":3: SyntaxError: expected ':'"),
        ("def f():\n    return 1 / 0\n\nf()\n", ":4: ZeroDivisionError: division by zero"),
        ("raise SystemExit(3)\n", ":1: SystemExit: 3"),
        ("import json\njson.loads('{')\n", ":2: JSONDecodeError"),
        (
            "from srtoolbox.registry import LOSS_REGISTRY as R\n\n"
            "@R.register('x')\nclass X:\n    def __init__(self, **k): ...\n",
            "loss 'x'",
        ),
    ],
)
@pytest.mark.parametrize("entry", ["broken.py", "broken"])
def test_plugin_that_fails(folder: Path, entry: str, text: str, part: str) -> None:
    (folder / "broken.py").write_text(text)
    before = set(sys.modules)
    message = error_of(entry)
    assert message.startswith(f"plugin '{entry}': {folder}{os.sep}broken.py:")
    assert part in message
    assert not [name for name in set(sys.modules) - before if "broken" in name]


def test_failing_import_within_a_plugin_names_the_inner_file(folder: Path) -> None:
    (folder / "inner.py").write_text("\n\nimport gone_for_good\n")
    (folder / "outer.py").write_text("import inner\n")
    assert f"{folder}{os.sep}inner.py:3: " in error_of("outer.py")


def test_plugin_may_be_mended_and_loaded_again(folder: Path) -> None:
    (folder / "mend.py").write_text("oops\n")
    error_of("mend.py")
    (folder / "mend.py").write_text(COMPONENT.format(name="PluginMended"))
    plugins.load_plugins(["mend.py"])
    assert "PluginMended" in LOSS_REGISTRY


class TestEntryPoints:
    @pytest.fixture(autouse=True)
    def fresh(self):
        plugins.load_entry_points.cache_clear()
        yield
        plugins.load_entry_points.cache_clear()

    def install(self, folder: Path, module: str, text: str) -> None:
        info = folder / f"{module}_dist-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: {module}-dist\nVersion: 1.0\n"
        )
        (info / "entry_points.txt").write_text(f"[srtoolbox.plugins]\nnets = {module}\n")
        (folder / f"{module}.py").write_text(text)
        importlib.invalidate_caches()

    def test_are_loaded_once(self, folder: Path) -> None:
        self.install(folder, "point_ok", COMPONENT.format(name="PluginPoint"))
        plugins.load_entry_points()
        assert "PluginPoint" in LOSS_REGISTRY
        del sys.modules["point_ok"]
        plugins.load_entry_points()
        assert sys.loads_of_PluginPoint == 1

    def test_broken_one_names_its_distribution(self, folder: Path) -> None:
        self.install(folder, "point_bad", "\nimport not_there_either\n")
        for _ in range(2):  # the failure is not forgotten
            with pytest.raises(UserError) as caught:
                plugins.load_entry_points()
            message = str(caught.value)
            assert "plugin 'point_bad' of the installed package 'point_bad-dist'" in message
            assert "point_bad.py:2: ModuleNotFoundError" in message


def test_a_plugin_imports_its_neighbours(folder: Path) -> None:
    for part in ("A", "B"):
        (folder / part).mkdir()
        (folder / part / f"layers_{part}.py").write_text(f"NAME = 'Neighbour{part}'\n")
        code = COMPONENT.format(name=f"Neighbour{part}")
        later = f"def late():\n    import layers_{part}\n    return layers_{part}.NAME\n"
        text = f"from layers_{part} import NAME\n{code}\n{later}"
        (folder / part / "net.py").write_text(text)
    before = list(sys.path)
    try:
        plugins.load_plugins(["A/net.py", "B/net.py"])
        for part in ("A", "B"):
            cls = LOSS_REGISTRY.get(f"Neighbour{part}")
            assert sys.modules[cls.__module__].late() == f"Neighbour{part}"
    finally:
        sys.path[:] = before


def test_neighbours_of_one_name_are_refused(folder: Path) -> None:
    before = list(sys.path)
    for part in ("A", "B"):
        (folder / part).mkdir()
        (folder / part / "samename.py").write_text(f"NAME = '{part}'\n")
        (folder / part / "net.py").write_text("import samename\n")
    try:
        plugins.load_plugins(["A/net.py"])
        message = error_of("B/net.py")
        assert "B/samename.py" in message and "A/samename.py" in message
        assert "another name" in message
    finally:
        sys.path[:] = before


def test_two_classes_of_one_name_in_a_file(folder: Path) -> None:
    (folder / "twice.py").write_text(COMPONENT.format(name="Twice") * 2)
    message = error_of("twice.py")
    assert "loss 'Twice' is registered twice" in message


def test_what_is_no_file(folder: Path) -> None:
    os.mkfifo("pipe.py")
    (folder / "zero.py").symlink_to("/dev/zero")
    (folder / "loop.py").symlink_to("loop.py")
    (folder / "dir.py").mkdir()
    assert "is a pipe, not a regular file" in error_of("pipe.py")
    assert "is a device, not a regular file" in error_of("zero.py")
    assert "cannot be read" in error_of("loop.py")
    assert "cannot be read: Is a directory" in error_of("dir.py")
    assert "NUL" in error_of("a\0.py")
    (folder / "big.py").write_bytes(b"#" * 17 * 1024**2)
    assert "the maximum is" in error_of("big.py")
