"""The first mistakes in own components end every command in one line, before a training."""

from __future__ import annotations

from pathlib import Path

import pytest

from srtoolbox.cli import main
from srtoolbox.registry import REGISTRIES

HEAD = """
import numpy as np
import torch
from torch import nn
from srtoolbox import (
    ARCH_REGISTRY, DATASET_REGISTRY, DISCRIMINATOR_REGISTRY, LOSS_REGISTRY, METRIC_REGISTRY,
    MODEL_REGISTRY,
)
from srtoolbox.losses import Loss
from srtoolbox.metrics import Metric
"""

NET = """
@ARCH_REGISTRY.register()
class {name}(nn.Module):
    scales = (4,)
    def __init__(self, scale: int = 4) -> None:
        super().__init__()
        self.scale = scale
        self.conv = nn.Conv2d(3, 48, 3, padding=1)
        self.shuffle = nn.PixelShuffle(4)
    def forward(self, lq):
        sr = self.shuffle(self.conv(lq))
        {body}
"""

OPTIONS = """
name: {name}
scale: 4
plugins: [own_{name}.py]
network_g: {{type: {net}}}
datasets:
  train: {{type: SampleBursts, num_frame: 3, gt_size: 32}}
  val:
    sample: {{type: SampleBursts, split: val, num_frame: 3, gt_size: 32, num_burst: 2}}
train: {{total_iter: 2, batch_size: 2}}
val: {{val_freq: 2}}
logger: {{print_freq: 2, save_checkpoint_freq: 2, use_tb_logger: false}}
"""


class Case:
    """Writes a plugin and option files that use it, and runs commands."""

    count = 0

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        Case.count += 1  # names are registered once per process
        self.name = f"Own{Case.count}"
        self.folder, self._capsys = folder, capsys

    def write(self, code: str, net: str = "EDSR", extra: str = "") -> Path:
        (self.folder / f"own_{self.name}.py").write_text(HEAD + code)
        file = self.folder / "run.yml"
        file.write_text(OPTIONS.format(name=self.name, net=net) + extra)
        return file

    def net(self, body: str) -> Path:
        return self.write(NET.format(name=self.name, body=body), self.name)

    def fail(self, command: str, file: Path, *arguments: str, code: int = 2) -> str:
        """Runs a command that has to fail; returns its last line."""
        self._capsys.readouterr()
        assert main([command, str(file), *arguments, "--device", "cpu"]) == code
        error = self._capsys.readouterr().err
        assert "Traceback" not in error
        return error.strip().splitlines()[-1]


@pytest.fixture
def case(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Case:
    monkeypatch.chdir(tmp_path)
    for registry in REGISTRIES.values():  # the names are gone after a test
        monkeypatch.setattr(registry, "_entries", {name: registry.get(name) for name in registry})
    return Case(tmp_path, capsys)


BODIES = {
    "return sr, lq": "returned a tuple of 2 ",
    "return [sr]": "returned a list of 1 ",
    "pass": "returned None (is the return statement missing?) ",
    "return {'out': sr}": "returned a dict without \"sr\" ('out') ",
    "return lq": "returned a tensor of shape ",
    "return sr.to(torch.int64)": " and type int64 ",
    "return sr.double()[:, :1]": " and type float64 ",
    "return sr.detach().numpy()": "returned an array of shape ",
    "return sr.detach()": "returned a tensor without gradient",
    "return self.conv(sr[:, :1])": "RuntimeError: Given groups=1",
    "return self.missing(sr)": "AttributeError: 'Own",
    "return sr / 0 if lq.size(0) > 99 else 1 // 0": "ZeroDivisionError: ",
    "return lq[99]": "IndexError: ",
    "x = torch.sigmoid(sr); x2 = x * x; x.add_(1); return x2": "RuntimeError: one of the variables",
}


@pytest.mark.parametrize(("body", "words"), BODIES.items())
def test_network(case: Case, body: str, words: str) -> None:
    file = case.net(body)
    line = case.fail("train", file)
    assert line.startswith("srtoolbox: ")
    assert case.name in line and words in line
    assert f"own_{case.name}.py:" in line
    assert not (case.folder / "experiments" / case.name / "run.json").exists()


@pytest.mark.slow
@pytest.mark.parametrize("body", ["return sr, lq", "return self.missing(sr)"])
def test_network_in_other_commands(case: Case, body: str) -> None:
    file, place = case.net(body), f"own_{case.name}.py:"
    assert place in case.fail("doctor", file)

    bench = case.folder / "bench.yml"
    plugin, spec = f"plugins: [own_{case.name}.py]", f"{{type: {case.name}}}"
    bench.write_text(f"name: b\n{plugin}\narchs: {{Mine: {spec}}}\n")
    assert place in case.fail("bench", bench)

    small = "{network_g: {type: EDSR, num_feat: 4, num_block: 1}}"
    study = case.folder / "study.yml"
    study.write_text(
        "_base_: run.yml\nname: study\nnetwork_g: !delete\nmethods:\n"
        f"  Bicubic: {{network_g: {{type: Bicubic}}}}\n  EDSR: {small}\n"
        f"  Mine: {{network_g: {spec}}}\n"
    )
    line = case.fail("compare", study)
    assert "method Mine: " in line and place in line
    assert not (case.folder / "experiments/compare/study/runs").exists()  # EDSR is not trained


@pytest.mark.slow
def test_a_late_fault_of_one_method_does_not_end_a_study(case: Case) -> None:
    """A network that fails in its third training step; the other methods are trained and scored."""
    body = "self.n = getattr(self, 'n', 0) + self.training; return sr if self.n < 3 else len(None)"
    case.net(body)
    small = "{network_g: {type: EDSR, num_feat: 4, num_block: 1}}"
    study = case.folder / "study.yml"
    study.write_text(
        "_base_: run.yml\nname: study\nnetwork_g: !delete\ntrain: {total_iter: 4}\nmethods:\n"
        f"  Mine: {{network_g: {{type: {case.name}}}}}\n  EDSR: {small}\n"
    )
    line = case.fail("compare", study, code=1)
    assert line.startswith("srtoolbox: failed: Mine (seed 0); the reasons are below the table")
    table = (case.folder / "experiments/compare/study/table.md").read_text()
    assert "EDSR" in table and "TypeError: object of type 'NoneType' has no len()" in table


INITS = {
    "self.scale = scale": "AttributeError: ",  # before super().__init__()
    "super().__init__(); self.scale = scale; self.x = nn.Conv2d(3, 3, 'a')": "TypeError: ",
    "super().__init__(); self.scale = {}['x']": "KeyError: 'x'",
    "super().__init__()": "does not set its scale; add self.scale = scale",
    "super().__init__(); self.scale = '4'": "self.scale must be an integer, got '4'",
    "super().__init__(); self.scale = scale; self.num_frame = 5; self.reference = 5": (
        "the attribute 'reference' is 5; it must be between 0 and 4"
    ),
}


@pytest.mark.parametrize(("init", "words"), INITS.items())
def test_constructor_of_a_network(case: Case, init: str, words: str) -> None:
    lines = ["@ARCH_REGISTRY.register()", f"class {case.name}(nn.Module):", "    scales = (4,)"]
    lines += ["    def __init__(self, scale: int = 4) -> None:"]
    lines += [f"        {part}" for part in init.split("; ")]
    if "AttributeError" in words:
        lines += ["        self.conv = nn.Conv2d(3, 3, 3)"]
    line = case.fail("train", case.write("\n".join(lines) + "\n", case.name))
    assert case.name in line and words in line


LOSSES = {
    "return sr - gt": "returned a tensor of shape ",
    "return (sr - gt).abs().mean().item()": "returned a value of type float",
    "return (sr - gt).abs().mean().detach()": "returned a value without gradient",
    "pass": "returned None (is the return statement missing?)",
    "return (sr - gt).nothing()": "AttributeError: ",
    "return (sr - gt[:, :, :1]).view(3)": "RuntimeError: ",
}


@pytest.mark.parametrize(("body", "words"), LOSSES.items())
@pytest.mark.parametrize("base", ["Loss", "nn.Module"])
def test_loss(case: Case, base: str, body: str, words: str) -> None:
    method = "value" if base == "Loss" else "forward"
    code = f"@LOSS_REGISTRY.register()\nclass {case.name}({base}):\n"
    code += "    def __init__(self): super().__init__()\n"
    code += f"    def {method}(self, sr, gt):\n        {body}\n"
    extra = f"train: {{total_iter: 2, batch_size: 2, losses: {{l_own: {{type: {case.name}}}}}}}\n"
    file = case.write(code)
    file.write_text(file.read_text().replace("train: {total_iter: 2, batch_size: 2}\n", extra))
    if base == "Loss" and body == "pass":
        words = "TypeError: "  # None * loss_weight
    line = case.fail("train", file)
    assert case.name in line and words in line


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("return None", "score (own_"),
        ("return sr - gt", "returned a tensor of shape"),
        ("return sr.nothing()", "AttributeError"),
        ("return 'a'", "returned a value of type str; return a number"),
    ],
)
def test_metric(case: Case, body: str, words: str) -> None:
    code = f"@METRIC_REGISTRY.register()\nclass {case.name}(Metric):\n"
    code += f"    def score(self, sr, gt, protocol, scale):\n        {body}\n"
    file = case.write(code)
    file.write_text(
        file.read_text().replace(
            "val: {val_freq: 2}",
            f"val: {{val_freq: 2, metrics: {{psnr: {{type: PSNR}}, m: {{type: {case.name}}}}}}}",
        )
    )
    line = case.fail("train", file)
    assert f"{case.name}.score (" in line and words in line


def test_a_metric_needs_its_base_class(case: Case) -> None:
    code = f"@METRIC_REGISTRY.register()\nclass {case.name}:\n"
    code += "    def score(self, sr, gt, protocol, scale):\n        return 1.0\n"
    file = case.write(code)
    setting = f"val.metrics.m={{type: {case.name}}}"
    line = case.fail("train", file, "--set", setting, "--set", "val.best_metric=m")
    assert "must derive from srtoolbox.metrics.Metric" in line


def test_a_metric_with_only_a_score_works_everywhere(case: Case, capsys) -> None:
    code = f"@METRIC_REGISTRY.register()\nclass {case.name}(Metric):\n    '''Mean error.'''\n"
    code += "    def score(self, sr, gt, protocol, scale):\n        return (sr - gt).abs().mean()\n"
    file = case.write(code)
    options = file.read_text().replace("{type: EDSR}", "{type: EDSR, num_feat: 4, num_block: 1}")
    metrics = f"{{psnr: {{type: PSNR}}, m: {{type: {case.name}}}}}"
    file.write_text(options.replace("val_freq: 2", f"val_freq: 2, metrics: {metrics}"))
    assert main(["train", str(file), "--device", "cpu"]) == 0
    assert main(["test", str(file), "--device", "cpu"]) == 0
    plugin = f"own_{case.name}.py"
    assert main(["list", "metrics", "--plugin", plugin]) == 0
    assert "Mean error." in capsys.readouterr().out
    assert main(["show", "metric", case.name, "--plugin", plugin]) == 0


SAMPLES = {
    "return None": "returned None (is the return statement missing?)",
    "return {'key': 'a', 'lq': lq}": "returned a sample without gt",
    "return {'key': 'a', 'lq': lq[0], 'gt': gt}": "has an array of shape (3, 8, 8)",
    "return {'key': 'a', 'lq': torch.from_numpy(lq), 'gt': gt}": "has a tensor of shape",
    "return {'key': 'a', 'lq': lq.astype('int64'), 'gt': gt}": "and type int64 as lq",
    "return {'key': 'a', 'lq': lq.astype('float32'), 'gt': gt}": "with values up to 9",
    "return {'key': 'a', 'lq': lq, 'gt': gt.transpose(1, 2, 0)}": "gt must be 32×32",
    "return {'key': 'a', 'lq': lq, 'gt': gt[:, :8]}": "gt must be 32×32",
    "return {}['x']": "KeyError: 'x'",
}


@pytest.mark.parametrize(("body", "words"), SAMPLES.items())
def test_dataset(case: Case, body: str, words: str) -> None:
    code = f"@DATASET_REGISTRY.register()\nclass {case.name}:\n"
    code += "    scale, num_frame, reference = 4, 3, 0\n    def __len__(self):\n        return 2\n"
    code += "    def draw(self, index, rng):\n"
    code += (
        "        lq = np.full((3, 3, 8, 8), 9, np.uint8); gt = np.zeros((3, 32, 32), np.uint8)\n"
    )
    code += f"        {body}\n"
    file = case.write(code)
    setting = f"datasets.train={{type: {case.name}}}"
    line = case.fail("train", file, "--set", setting)
    assert f"{case.name}.draw (" in line and words in line
    assert main(["sample", str(file), "--set", setting, "--out", "a.png"]) == 2
    assert f"{case.name}.draw (" in case._capsys.readouterr().err


@pytest.mark.parametrize(
    ("members", "words"),
    [
        ("scale = 4", "lacks num_frame, reference, __len__, draw"),
        (
            "scale, num_frame, reference = 4, 3, 3; __len__ = lambda self: 2; draw = None",
            "reference is 3, but a sample has 3 frames",
        ),
        (
            "scale, num_frame, reference = 4, 3, 0; __len__ = lambda self: 0; draw = None",
            "has no samples",
        ),
        (
            "scale, num_frame, reference = 4, 'a', 0; __len__ = lambda self: 2; draw = None",
            "num_frame must be an integer from 1 on or None, got 'a'",
        ),
        (
            "scale, num_frame, reference = 4, 3, 0; __len__ = lambda self: self.x; draw = None",
            "AttributeError",
        ),
    ],
)
def test_members_of_a_dataset(case: Case, members: str, words: str) -> None:
    code = f"@DATASET_REGISTRY.register()\nclass {case.name}:\n"
    code += "".join(f"    {part}\n" for part in members.split("; "))
    file = case.write(code)
    setting = f"datasets.train={{type: {case.name}}}"
    assert words in case.fail("train", file, "--set", setting)
    assert main(["sample", str(file), "--set", setting, "--out", "a.png"]) == 2
    assert words in case._capsys.readouterr().err


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("def __init__(self, network_g, losses): pass", "it lacks reference"),
        ("def __init__(self, network_g, losses, reference): pass", "lacks phases, networks"),
        ("def __init__(self, network_g, losses, reference): self.a", "AttributeError"),
        (
            "phases, networks, losses = ('g',), {}, {}\n"
            "    def __init__(self, network_g, losses, reference): pass\n"
            "    def objective(self, phase, batch, step, memo): pass",
            "networks has no g",
        ),
        (
            "phases, losses = ('g',), {}\n"
            "    def __init__(self, network_g, losses, reference):\n"
            "        self.networks = {'g': network_g}\n"
            "    def objective(self, phase, batch, step, memo): pass",
            "returned None (is the return statement missing?) in phase 'g'",
        ),
        (
            "phases, losses = ('g',), {}\n"
            "    def __init__(self, network_g, losses, reference):\n"
            "        self.networks = {'g': network_g}\n"
            "    def objective(self, phase, batch, step, memo): return {'l': batch['lq']}",
            "returned l: a tensor of shape (2, 3, 3, 8, 8) and type float32 in phase 'g'",
        ),
        (
            "phases, losses = ('g',), {}\n"
            "    def __init__(self, network_g, losses, reference):\n"
            "        self.networks = {'g': network_g}\n"
            "    def objective(self, phase, batch, step, memo): return {'l': batch['lq'].mean()}",
            "no loss of phase 'g' has a gradient (l)",
        ),
    ],
)
def test_model(case: Case, code: str, words: str) -> None:
    file = case.write(f"@MODEL_REGISTRY.register()\nclass {case.name}:\n    {code}\n")
    line = case.fail("train", file, "--set", f"model_type={case.name}")
    assert case.name in line and words in line


@pytest.mark.parametrize(
    ("body", "words"),
    [("return None", "returned None"), ("return images.nothing", "AttributeError")],
)
def test_discriminator(case: Case, body: str, words: str) -> None:
    code = f"@DISCRIMINATOR_REGISTRY.register()\nclass {case.name}(nn.Module):\n"
    code += "    def __init__(self):\n        super().__init__(); self.a = nn.Conv2d(3, 1, 1)\n"
    code += f"    def forward(self, images):\n        {body}\n"
    file = case.write(code)
    settings = ["--set", "model_type=GANModel", "--set", f"network_d={{type: {case.name}}}"]
    line = case.fail("train", file, *settings)
    assert case.name in line and words in line


def test_the_traceback_is_shown_on_request(case: Case, monkeypatch, capsys) -> None:
    file = case.net("return self.missing(sr)")
    monkeypatch.setenv("SRTOOLBOX_DEBUG", "1")
    assert main(["train", str(file), "--device", "cpu"]) == 2
    error = capsys.readouterr().err
    assert "Traceback" in error and "return self.missing(sr)" in error
    assert error.strip().splitlines()[-1].startswith("srtoolbox: ")


def test_samples_of_workers_are_named_too(case: Case) -> None:
    code = f"@DATASET_REGISTRY.register()\nclass {case.name}:\n"
    code += "    scale, num_frame, reference = 4, 3, 0\n    def __len__(self):\n        return 9\n"
    code += "    def draw(self, index, rng):\n        if index == 7: return {}['Error: x']\n"
    code += "        lq = np.zeros((3, 3, 8, 8), np.uint8); gt = np.zeros((3, 32, 32), np.uint8)\n"
    code += "        return {'key': 'a', 'lq': lq, 'gt': gt}\n"
    file = case.write(code)
    settings = ["--set", f"datasets.train={{type: {case.name}}}", "--set", "train.total_iter=20"]
    settings += ["--set", "val.val_freq=20", "--set", "train.num_worker=1"]
    line = case.fail("train", file, *settings, code=1)
    assert f"cannot be read: {case.name}.draw (own_{case.name}.py:" in line
    assert "KeyError: 'Error: x'" in line


def test_a_network_without_defaults_is_listed(case: Case, capsys) -> None:
    case.write(
        f"@ARCH_REGISTRY.register()\nclass {case.name}(nn.Module):\n    scales = (4,)\n"
        "    def __init__(self, scale: int) -> None:\n        super().__init__()\n"
    )
    plugin = f"own_{case.name}.py"
    assert main(["list", "archs", "--plugin", plugin]) == 0
    assert case.name in capsys.readouterr().out
    assert main(["show", "arch", case.name, "--plugin", plugin]) == 0
