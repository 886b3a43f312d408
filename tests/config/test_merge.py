"""Properties of the inheritance of options, for any trees."""

from __future__ import annotations

import copy
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from srtoolbox.config.files import Items, Tree, as_tree, dump, locate, merge, plain, read
from srtoolbox.config.yaml import DELETE

SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False),
    st.text(st.characters(exclude_categories=("Cs", "Cc")), max_size=8),
)
LEAVES = st.one_of(SCALARS, st.lists(SCALARS, max_size=3))
KEYS = st.sampled_from("abcd")


def mappings(depth: int = 3, **extra: st.SearchStrategy) -> st.SearchStrategy[dict[str, Any]]:
    """Mappings in which a key (``m…`` or a letter) always has the same shape."""
    entries: dict[str, st.SearchStrategy] = {key: LEAVES for key in "abcd"} | extra
    if depth:
        entries |= {"m1": mappings(depth - 1, **extra), "m2": mappings(depth - 1, **extra)}
    return st.fixed_dictionaries({}, optional=entries)


@st.composite
def any_mappings(draw: st.DrawFn, depth: int = 3) -> dict[str, Any]:
    """Mappings in which a key may be anything, also a list of mappings."""
    value = LEAVES
    if depth:
        nested = any_mappings(depth - 1)
        value = st.one_of(LEAVES, nested, st.lists(nested, max_size=2))
    return draw(st.dictionaries(st.one_of(KEYS, st.just("type")), value, max_size=4))


def tree(content: dict[str, Any], mark: str = "x.yml:1") -> Tree:
    """A tree as if read from a file; lists have places, too."""

    def convert(value: Any) -> Any:
        if isinstance(value, dict):
            return tree(value, mark)
        if isinstance(value, list):
            return Items([convert(entry) for entry in value], mark, [mark] * len(value))
        return value

    result = Tree(mark)
    for key, value in content.items():
        result.put(key, convert(value), mark)
    return result


def keys_of(content: Any, path: str = "") -> list[str]:
    """The dotted paths of all keys of mappings."""
    if not isinstance(content, dict):
        return []
    paths = []
    for key, value in content.items():
        paths += [path + key, *keys_of(value, f"{path}{key}.")]
    return paths


@pytest.mark.slow
@given(any_mappings(), any_mappings())
def test_inputs_are_not_changed(base: dict, over: dict) -> None:
    first, second = tree(base), tree(over)
    before = copy.deepcopy((plain(first), first.marks, plain(second), second.marks))
    merge(first, second)
    assert before == (plain(first), first.marks, plain(second), second.marks)


@pytest.mark.slow
@given(any_mappings())
def test_nothing_changes_nothing(content: dict) -> None:
    assert merge(tree(content), Tree()) == content
    assert merge(Tree(), tree(content)) == content
    assert merge(tree(content), tree(content)) == content


@pytest.mark.slow
@given(mappings(), mappings(), mappings())
def test_it_is_associative_where_shapes_agree(first: dict, second: dict, third: dict) -> None:
    a, b, c = tree(first), tree(second), tree(third)
    assert merge(merge(a, b), c) == merge(a, merge(b, c))


@pytest.mark.slow
@given(any_mappings(), any_mappings())
def test_the_later_one_wins(base: dict, over: dict) -> None:
    def check(base: Any, over: Any, merged: Any) -> None:
        mappings_ = isinstance(base, dict) and isinstance(over, dict)
        types = {"type"} <= base.keys() & over.keys() if mappings_ else False
        if not mappings_ or (types and base["type"] != over["type"]):
            assert merged == over  # scalars, lists and other components replace the whole
            return
        assert list(merged) == [*base, *(key for key in over if key not in base)]
        for key in merged:
            if key not in over:
                assert merged[key] == base[key]
            elif key not in base:
                assert merged[key] == over[key]
            else:
                check(base[key], over[key], merged[key])

    check(base, over, merge(tree(base), tree(over)))


@pytest.mark.slow
@given(mappings(), mappings())
def test_every_key_keeps_the_place_of_its_last_value(base: dict, over: dict) -> None:
    merged = merge(tree(base, "base.yml:1"), tree(over, "over.yml:2"))
    for path in keys_of(merged):
        expected = "over.yml:2" if path in keys_of(over) else "base.yml:1"
        assert locate(merged, path) == expected


@pytest.mark.slow
@given(any_mappings(), st.data())
def test_deleted_keys_are_gone_and_may_come_back(content: dict, data: st.DataObject) -> None:
    if not content:
        return
    key = data.draw(st.sampled_from(sorted(content)))
    deletion = Tree()
    deletion.put(key, DELETE, "x.yml:1")
    merged = merge(tree(content), deletion)
    assert merged == {name: value for name, value in content.items() if name != key}
    assert key not in merged.marks
    again = Tree()
    again.put(key, 5, "x.yml:2")
    assert merge(merged, again)[key] == 5
    # A key that does not exist keeps the mark, so that ``read`` can report it.
    assert merge(merged, deletion)[key] is DELETE


@pytest.mark.slow
@given(any_mappings())
def test_what_is_written_is_read_again(content: dict) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x.yml"
        path.write_text(dump(tree(content)), encoding="utf-8")
        again = read(path)
    assert plain(again) == content
    assert repr(plain(again)) == repr(content)  # also order and types: 1.0 is not 1
    assert plain(as_tree(content, "x")) == content


@pytest.mark.slow
@given(any_mappings(2), any_mappings(2))
def test_a_file_that_inherits_is_the_merge_of_both(base: dict, over: dict) -> None:
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "base.yml").write_text(dump(base), encoding="utf-8")
        path = Path(folder) / "x.yml"
        path.write_text(dump({"_base_": "base.yml", **over}), encoding="utf-8")
        # A mapping within a new list or key is merged with nothing.
        assert read(path) == merge(tree(base), tree(over))
