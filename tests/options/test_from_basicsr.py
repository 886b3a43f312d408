"""The guide "From BasicSR": its table, its worked example and its network."""

from __future__ import annotations

import copy
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from srtoolbox.cli import main
from srtoolbox.config.files import plain
from srtoolbox.config.load import load_options
from srtoolbox.engine.basicsr import keys
from srtoolbox.engine.basicsr.translate import translate
from srtoolbox.engine.options import RunOptions
from srtoolbox.registry import ARCH_REGISTRY

PAGE = (Path(__file__).parents[2] / "docs" / "from_basicsr.md").read_text(encoding="utf-8")
NOT_NEEDED, LOST = "not needed", "cannot be translated"


def section(title: str) -> str:
    return PAGE.partition(f"## {title}\n")[2].partition("\n## ")[0]


def blocks(title: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", section(title), re.DOTALL)


EXAMPLE, RESULT = blocks("A worked example", "yaml")
ROWS = dict(re.findall(r"^\| `([\w.]+)` \| (.*) \|$", section("Options, one by one"), re.MULTILINE))

# Values of the keys that the example does not have, and the other keys that a key needs.
VALUES: dict[str, Any] = {
    "find_unused_parameters": True,
    "gpu_ids": [0],
    "set_CUDA_VISIBLE_DEVICES": "0",
    "print_network": True,
    "datasets.train.filename_tmpl": "{}x2",
    "datasets.train.prefetch_mode": "cuda",
    "datasets.train.num_prefetch_queue": 1,
    "datasets.train.pin_memory": True,
    "datasets.train.persistent_workers": True,
    "datasets.val.cache_data": True,
    "datasets.val.input_order": "CHW",
    "datasets.val.test_mode": True,
    "path.pretrain_network_g": "weights.pth",
    "path.param_key_g": "params",
    "path.resume_state": "x.state",
    "train.warmup_iter": 100,
    "train.perceptual_opt.perceptual_weight": 0.5,
    "train.perceptual_opt.layer_weights": {"conv5_4": 1.0},
    "val.pbar": True,
    "val.use_pbar": True,
    "val.metrics.psnr.better": "higher",
    "logger.wandb.project": "mine",
    "logger.wandb.resume_id": "abc",
}
NEEDS = {
    "path.param_key_g": {"path.pretrain_network_g": "weights.pth"},
    "path.strict_load_g": {"path.pretrain_network_g": "weights.pth"},
    "train.perceptual_opt.perceptual_weight": {
        "train.perceptual_opt.type": "PerceptualLoss",
        "train.perceptual_opt.layer_weights": {"conv5_4": 1.0},
    },
    "train.perceptual_opt.layer_weights": {
        "train.perceptual_opt.type": "PerceptualLoss",
        "train.perceptual_opt.perceptual_weight": 1.0,
    },
    "logger.wandb.resume_id": {"logger.wandb.project": "mine"},
}


def put(options: dict[str, Any], key: str, value: Any) -> None:
    *parents, last = key.split(".")
    for parent in parents:
        options = options.setdefault(parent, {})
    options[last] = value


def find(options: Any, key: str) -> Any:
    for part in key.split("."):
        options = options[part]
    return options


@pytest.mark.parametrize("key", ROWS)
def test_a_row_of_the_table(key: str, tmp_path: Path) -> None:
    theirs = copy.deepcopy(yaml.safe_load(EXAMPLE))
    for other, value in {
        **NEEDS.get(key, {}),
        **({key: VALUES[key]} if key in VALUES else {}),
    }.items():
        put(theirs, other, value)
    assert find(theirs, key) is not None, "give it a value in VALUES"
    file = tmp_path / "theirs.yml"
    file.write_text(yaml.safe_dump(theirs))
    translation = translate(file)
    kinds = {note.kind for note in translation.notes if f"{key}.".startswith(f"{note.key}.")}
    assert ("lost" in kinds) == ROWS[key].startswith(LOST)
    file.write_text(translation.text)
    ours = plain(load_options(file, (), RunOptions)[0])
    if ROWS[key].startswith(NOT_NEEDED):
        assert kinds == {"unneeded"}
    elif "lost" not in kinds:
        assert "unneeded" not in kinds
        (name,) = re.findall(r"`([\w.]+)`", ROWS[key])
        name = name.replace("datasets.val.", "datasets.val.test.")
        assert find(ours, name) is not None


def test_the_table_has_every_key() -> None:
    names = {key.rpartition(".")[2] for key in ROWS}
    assert set(keys._UNNEEDED) <= names

    def leaves(node: Any, path: str = "") -> list[str]:
        if not isinstance(node, dict):
            return [path]
        return [leaf for key in node for leaf in leaves(node[key], f"{path}.{key}".strip("."))]

    listed = {key.replace("datasets.val.", "datasets.train.") for key in ROWS}
    parents = {"train.optim_g", "network_g", "train.pixel_opt", "dist_params"}
    for leaf in leaves(yaml.safe_load(EXAMPLE)):
        named = leaf.replace("datasets.val.", "datasets.train.") in listed
        assert named or leaf.rpartition(".")[0] in parents, leaf


@pytest.mark.slow
def test_the_worked_example(tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "basicsr_edsr_x2.yml").write_text(EXAMPLE)
    rng = np.random.default_rng(0)
    for folder, size in (("gt", 64), ("lq", 32)):
        (tmp_path / "mine" / folder).mkdir(parents=True)
        for name in ("a", "b"):
            image = Image.fromarray(rng.integers(0, 256, (size, size, 3), np.uint8))
            image.save(tmp_path / "mine" / folder / f"{name}.png")
    (commands,) = blocks("A worked example", "bash")
    importing, doctor, train = (line.split()[1:] for line in commands.splitlines())
    assert main(importing) == 0
    written = (tmp_path / "edsr_x2.yml").read_text()
    assert "".join(line for line in written.splitlines(True) if line[0] != "#") == RESULT
    short = ["train.total_iter=2", "train.batch_size=2", "train.num_worker=0"]
    short.append("train.scheduler=null")
    overrides = [word for text in short for word in ("--set", text)]
    assert main([*doctor, *overrides, "--device", "cpu"]) == 0
    assert main([*train, *overrides, "--device", "cpu"]) == 0
    assert (tmp_path / "experiments" / "EDSR_mine_x2" / "weights" / "net_g_latest.pth").exists()
    capsys.readouterr()


def test_the_network_of_the_guide(tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    (code,) = blocks("Your own network", "python")
    (tmp_path / "mine_arch.py").write_text(code)
    theirs = yaml.safe_load(EXAMPLE)
    theirs["network_g"] = {"type": "MyArch", "upscale": 2, "num_feat": 8}
    (tmp_path / "mine_x2.yml").write_text(yaml.safe_dump(theirs))
    (command,) = blocks("Your own network", "bash")
    assert main(command.split()[1:]) == 0
    capsys.readouterr()
    opt, _ = load_options(tmp_path / "mine.yml", (), RunOptions)
    assert opt.network_g == {"type": "MyArch", "num_feat": 8}
    assert ARCH_REGISTRY.get("MyArch")(scale=2).scale == 2
