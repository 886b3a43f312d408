"""Option files of any content: clear lines, without a traceback, a wait or much memory."""

from __future__ import annotations

import contextlib
import io
import os
import resource
import tempfile
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from srtoolbox import cli
from srtoolbox.comparison.options import StudyOptions
from srtoolbox.config import files
from srtoolbox.config.files import dump
from srtoolbox.config.load import load_options
from srtoolbox.engine.options import RunOptions
from srtoolbox.errors import UserError

RUN: dict[str, Any] = {
    "name": "run",
    "network_g": {"type": "EDSR", "num_feat": 4, "num_block": 1},
    "datasets": {
        "train": {"type": "SampleBursts", "gt_size": 32},
        "val": {"A": {"type": "SampleBursts"}},
    },
    "train": {
        "total_iter": 5,
        "optim_g": {"type": "Adam", "lr": 1e-4, "betas": [0.9, 0.99]},
        "scheduler": {"type": "MultiStepLR", "milestones": [2, 3], "gamma": 0.5},
        "losses": {"l_pix": {"type": "L1Loss", "loss_weight": 1.0}},
        "param_groups": [{"pattern": "body", "lr_mult": 0.5}],
    },
    "val": {"metrics": {"psnr": {"type": "PSNR"}}, "val_freq": 2},
}
STUDY = {key: value for key, value in RUN.items() if key not in ("network_g",)} | {
    "methods": {"EDSR": {"network_g": RUN["network_g"]}},
    "seeds": [0, 1],
}

TEXTS = st.text(max_size=12) | st.sampled_from(
    ["", ".", "..", "../..", "/etc", "~nosuchuser", "a\0b", "[/red]", "\x1b[31m", "EDSR", "Adam",
     "<<", "_base_", "type", "scale", "x.yml", "/dev/zero", "NaN", "1e-4", "!delete", "&a", "*a",
     "LBFGS", "SparseAdam", "LambdaLR", "OneCycleLR", "CosineAnnealingLR", "GANModel", "Bicubic"]
)  # fmt: skip
NUMBERS = (
    st.integers(-3, 3)
    | st.integers()
    | st.floats()
    | st.sampled_from([2**63, -(2**64), 10**30, 10**200, 1e300, 0.0, 1e-320])
)
SCALARS = st.none() | st.booleans() | NUMBERS | TEXTS
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=6,
)


def _paths(node: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    keys = node if isinstance(node, dict) else range(len(node)) if isinstance(node, list) else ()
    return [path, *(p for key in keys for p in _paths(node[key], (*path, key)))]


@st.composite
def changed_options(draw: st.DrawFn) -> tuple[type, str]:
    """Returns a class of options, and a file of it with a few values or keys changed."""
    section, start = draw(st.sampled_from([(RunOptions, RUN), (StudyOptions, STUDY)]))
    content = files.plain(start)
    for _ in range(draw(st.integers(1, 3))):
        *parents, last = draw(st.sampled_from([p for p in _paths(content) if p]))
        node = content
        for key in parents:
            node = node[key]
        if isinstance(node, dict) and draw(st.integers(0, 3)) == 0:
            last = draw(TEXTS)
        node[last] = draw(VALUES)
    return section, dump(content)


@st.composite
def changed_text(draw: st.DrawFn) -> tuple[type, str]:
    """Returns a class of options, and its file with pieces of text put in or cut out."""
    section, start = draw(st.sampled_from([(RunOptions, RUN), (StudyOptions, STUDY)]))
    text = dump(start)
    for _ in range(draw(st.integers(1, 3))):
        place = draw(st.integers(0, len(text)))
        end = place + draw(st.integers(0, 8))
        piece = draw(
            st.text(max_size=5)
            | st.sampled_from(["[", "{", "&a ", "*a", "<<: ", "? ", "- ", ": ", "!!int ", '"\\0"'])
            | st.sampled_from(["!delete", "\n", "\t", "'", '"', "|", "%", "---\n", "_base_: ."])
        )
        text = text[:place] + piece + text[end:]
    return section, text


def _check(section: type, text: str) -> None:
    """Loads a file; it is either valid or has a fault in printable lines."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x.yml"
        path.write_bytes(text.encode("utf-8", "surrogatepass"))
        begin = time.process_time()
        try:
            opt, _ = load_options(path, [], section)
            files.dump(opt).encode("utf-8")
        except UserError as error:
            message = str(error)
            assert message and message.encode("utf-8")
            assert len(message) < 20_000
        assert time.process_time() - begin < 2  # of this process, whatever else the machine does


FUZZ = settings(max_examples=150, suppress_health_check=list(HealthCheck))


@pytest.mark.slow
@FUZZ
@given(changed_options())
def test_changed_options(example: tuple[type, str]) -> None:
    _check(*example)


@pytest.mark.slow
@FUZZ
@given(changed_text())
def test_changed_text(example: tuple[type, str]) -> None:
    _check(*example)


HOSTILE: dict[str, str | bytes] = {
    "device": "_base_: /dev/zero\n",
    "pipe": "_base_: pipe\n",
    "socket-like folder": "_base_: .\n",
    "aliases": "a: &a [1,1,1,1,1,1,1,1,1]\n"
    + "".join(f"{b}: &{b} [{','.join(['*' + a] * 9)}]\n" for a, b in zip("abcdefgh", "bcdefghi")),  # noqa: B905
    "aliases that go on": "".join(f"k{i}: &k{i} [{f'*k{i - 1}' if i else 1}]\n" for i in range(99)),
    "unknown keys": "".join(f"k{i}: 1\n" for i in range(4_500)),
    "more unknown keys": "".join(f"k{i}: 1\n" for i in range(200_000)),
    "unknown keys in a component": "network_g:\n  type: EDSR\n"
    + "".join(f"  num_fea{i}: 1\n" for i in range(4_500)),
    "merge keys": "a0: &a0 {x: 1}\n"
    + "".join(f"a{i}: &a{i} {{<<: [*a{i - 1}, *a{i - 1}], y{i}: 1}}\n" for i in range(1, 60)),
    "NUL": 'name: "a\\0b"\n_base_: "a\\0b"\n',
    "NUL byte": b"name: a\0b\n",
    "surrogate": 'name: "\\uD800"\n',
    "surrogate in a key": '"\\uDFFF": 1\n',
    "surrogate byte": b"name: \xed\xa0\x80\n",
    "user": "_base_: ~nosuchuser/x.yml\n",
    "user in a path": "path: {experiments_root: ~nosuchuser/x}\n",
    "user in a plugin": "plugins: [~nosuchuser/x.py]\n",
    "digits": f"manual_seed: {'9' * 5000}\n",
    "hexadecimal": f"manual_seed: 0x{'f' * 5000}\n",
    "negative": f"manual_seed: -{'9' * 250}\n",
    "long exponent": f"scale: 1e{'9' * 5000}\n",
    "nested lists": "a: " + "[" * 400 + "]" * 400 + "\n",
    "nested and not closed": "a: " + "[" * 100_000 + "\n",
    "nested mappings": "".join(" " * i + f"k{i}:\n" for i in range(400)),
    "doubled bases": "_base_: [d0.yml, d0.yml]\n",
    "bases in places": "a: {_base_: e0.yml}\nb: {_base_: e0.yml}\n",
    "deep bases": "a: {_base_: g0.yml}\n",
    "chain": "_base_: c0.yml\n",
    "circle of links": "_base_: loop.yml\n",
    "base of long name": f"_base_: {'a' * 5000}\n",
    "markup": "name: '[/red]'\n'[bold]x[/]': 1\nnetwork_g: {type: '[/]'}\n",
    "escape codes": 'name: "\\e[31m"\n',
    "large": "# " + "x" * 3_000_000,
    "long text": "name: " + "x" * 200_000,
    "plugin device": "plugins: [/dev/zero.py, zero.py]\n",
    "plugin pipe": "plugins: [pipe.py]\n",
    "plugin NUL": 'plugins: ["a\\0b.py"]\n',
    "seeds": "manual_seed: 99999999999999999999\n",
    "float seed": "manual_seed: 1e300\n",
    "duplicate anchors": "a: &a 1\nb: &a 2\nc: *a\n",
    "self alias": "a: &a {b: *a}\n",
    "merge itself": "a: &a {<<: *a}\n",
    "tags": "a: !!python/object/apply:os.system [ls]\n",
    "binary": bytes(range(256)),
    "UTF-16": "name: x\n".encode("utf-16"),
}


@pytest.fixture
def hostile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with pipes, links to devices, and chains of files."""
    monkeypatch.chdir(tmp_path)
    os.mkfifo("pipe")
    os.mkfifo("pipe.py")
    Path("zero.py").symlink_to("/dev/zero")
    Path("loop.yml").symlink_to("loop.yml")
    for i in range(40):
        Path(f"d{i}.yml").write_text(f"_base_: [d{i + 1}.yml, d{i + 1}.yml]\n")
        Path(f"e{i}.yml").write_text(
            f"a: {{_base_: e{i + 1}.yml}}\nb: {{_base_: e{i + 1}.yml}}\n" if i < 18 else "x: 1\n"
        )
        body = f"a: {{b: {{c: {{d: {{_base_: g{i + 1}.yml}}}}}}}}\n" if i < 15 else "x: 1\n"
        Path(f"g{i}.yml").write_text(body)
    for i in range(600):
        Path(f"c{i}.yml").write_text(f"_base_: c{i + 1}.yml\n")
    return tmp_path


@pytest.mark.slow
@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_files(hostile: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    content = HOSTILE[name]
    data = content.encode() if isinstance(content, str) else content
    Path("x.yml").write_bytes(data)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    begin = time.process_time()
    assert cli.main(["train", "x.yml"]) == 2
    assert time.process_time() - begin < 2
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 500_000  # KiB
    text = capsys.readouterr().err
    assert text.startswith("srtoolbox: ") and "Traceback" not in text
    assert "\x1b" not in text and len(text) < 20_000


@pytest.mark.parametrize(
    "override",
    [".".join("a" * 5000) + "=1", "a=" + "[" * 300, "a=&a [*a]", "_base_=/dev/zero",
     "a=" + "9" * 5000, "_base_=~nosuchuser/x", 'name="\\0"',
     "a=\udcff", "\udcff=1", "=", "a", "train.=3"],
)  # fmt: skip
def test_hostile_overrides(override: str) -> None:
    with pytest.raises(UserError) as caught:
        files.read(None, [override])
    with contextlib.redirect_stderr(io.StringIO()):
        assert len(str(caught.value)) < 15_000
