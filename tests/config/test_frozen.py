"""Frozen options: read by attribute or item, changed by nothing."""

from __future__ import annotations

import copy
import pickle

import pytest

from srtoolbox.config import files as options
from srtoolbox.config.frozen import FrozenDict, freeze, thaw


class TestFreeze:
    @pytest.fixture
    def opt(self) -> FrozenDict:
        return freeze({"a": {"b": {"c": 1}, "l": [{"x": 1}, [{"y": 2}]]}, "items": 3})

    def test_reading(self, opt: FrozenDict) -> None:
        assert opt.a.b.c == opt["a"]["b"]["c"] == 1
        assert opt.a.l[0].x == 1
        assert opt.a.l[1][0].y == 2
        assert opt == {"a": {"b": {"c": 1}, "l": [{"x": 1}, [{"y": 2}]]}, "items": 3}
        assert {**opt.a.b} == {"c": 1}

    def test_missing_keys_raise(self, opt: FrozenDict) -> None:
        with pytest.raises(KeyError, match="no option 'q' here; there are: b, l"):
            opt["a"]["q"]
        with pytest.raises(AttributeError, match="no option 'q'"):
            _ = opt.a.q
        assert not hasattr(opt, "q")
        assert opt.get("q", 5) == 5

    @pytest.mark.parametrize(
        "change",
        [
            "o.a = 1", "o.new = 1", "o['a'] = 1", "o['new'] = 1", "del o['a']", "del o.a",
            "o.pop('a')", "o.popitem()", "o.clear()", "o.update(a=1)", "o.setdefault('a', 1)",
            "o.setdefault('n', 1)", "o |= {'a': 1}", "o.unfreeze()", "o.a.b.c = 2",
            "o.a.l.append(1)", "o.a.l[0] = 1", "o.a.l[0].x = 1", "o.a.l[1][0].y = 1",
            "del o.a.l[0]", "o.a.l += [1]", "o.a.l.sort()", "o.a.l.extend([1])", "o.a.l *= 2",
        ],
    )  # fmt: skip
    def test_nothing_changes(self, opt: FrozenDict, change: str) -> None:
        before = repr(opt)
        with pytest.raises(TypeError, match="frozen"):
            exec(change, {"o": opt})
        assert repr(opt) == before

    def test_copies(self, opt: FrozenDict) -> None:
        for twin in (pickle.loads(pickle.dumps(opt)), copy.copy(opt), copy.deepcopy(opt)):
            assert twin == opt
            with pytest.raises(TypeError):
                twin.a.l[0].x = 2
        mutable = options.plain(opt)
        mutable["a"]["l"][0]["x"] = 2
        assert type(mutable["a"]) is dict
        assert type(mutable["a"]["l"]) is list
        assert opt.a.l[0].x == 1
        assert thaw(opt) == options.plain(opt)

    def test_is_independent_of_its_source(self) -> None:
        source = {"a": {"b": [1]}}
        opt = freeze(source)
        source["a"]["b"].append(2)
        assert opt.a.b == [1]
