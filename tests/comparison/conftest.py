"""A study that runs in a second, and the stored results of a larger one."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from srtoolbox.comparison.store import Entry, Published, ResultStore, StudyCard
from srtoolbox.utils.files import append_lines

STUDY = """
name: tiny
scale: 4
seeds: [0]
datasets:
  train: {type: SampleBursts, num_frame: 3, gt_size: 32}
  val:
    sample: {type: SampleBursts, split: val, num_frame: 3, gt_size: 32, num_burst: 3}
train:
  total_iter: 6
  batch_size: 2
  optim_g: {type: Adam, lr: 1e-3}
val: {val_freq: 3}
logger: {print_freq: 2, save_checkpoint_freq: 2, use_tb_logger: false}
report: {num_image: 2}
methods:
  Bicubic: {network_g: {type: Bicubic}}
  EDSR: {network_g: {type: EDSR, num_feat: 4, num_block: 1}}
  EDVR:
    network_g:
      {type: EDVR, num_frame: 3, num_feat: 8, deformable_groups: 2, num_extract_block: 1,
       num_reconstruct_block: 1}
"""


@pytest.fixture
def study_file(tmp_path: Path) -> Callable[..., Path]:
    """Writes the tiny study with outputs in ``tmp_path``; the YAML of ``extra`` overrides it."""

    def write(extra: str = "", name: str = "study.yml") -> Path:
        base = tmp_path / "base.yml"
        base.write_text(STUDY + f"path: {{experiments_root: '{tmp_path / 'experiments'}'}}\n")
        path = tmp_path / name
        path.write_text(f"_base_: base.yml\n{extra}")
        return path

    return write


@pytest.fixture
def rich_study(rich_original: Path, tmp_path: Path) -> Path:
    """A copy of ``rich_original`` that the test may change."""
    return shutil.copytree(rich_original, tmp_path / "rich")


@pytest.fixture(scope="session")
def rich_original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The store of a study that was never run, for reports.

    It has clips and images, two seeds, two protocols, a failed method, a method that deviates from
    the shared training, a published row, and names with markup.
    """
    rng = np.random.default_rng(0)
    store = ResultStore(tmp_path_factory.mktemp("study") / "rich")
    methods = {"Bicubic": 0.0, "A_B & <i>C</i>": 0.6, "Net|D$": 0.62, "Late": 1.5, "Broken": None}
    keys = {
        "clips": [f"{clip}/{frame:02}" for clip in ("000", "001", "002") for frame in range(5)],
        "images": [f"im_{i}" for i in range(12)],
    }
    protocols = [
        {"name": name, "hash": f"{name}0123", "text": f"Protocol {name} ({name}0123).",
         "average": average}
        for name, average in (("duf-y", "clips"), ("rgb", "images"))
    ]  # fmt: skip
    facts = {"unit": "", "unavailable": None}
    metrics = {
        "psnr": {**facts, "higher_is_better": True, "unit": "dB", "digits": 2},
        "ssim": {**facts, "higher_is_better": True, "digits": 4},
        "lpips": {**facts, "higher_is_better": False, "digits": 4, "unavailable": "no backbone"},
    }
    environment = {
        "srtoolbox": "1", "commit": "c0ffee", "python": "3.11", "packages": {"torch": "2.9"},
        "platform": "Linux", "device": "a CPU", "threads": 1,
    }  # fmt: skip
    printed = Published("DUF", "clips", "duf-y", {"psnr": 31.5}, "Jo et al., CVPR 2018", 5.8e6)
    card = StudyCard(
        "rich <study>", 4, protocols[0], metrics, "6 iterations", environment,
        other_protocols=protocols[1:], published=[printed],
    )  # fmt: skip
    kept = {"clips": keys["clips"][:10], "images": keys["images"][:2]}
    hard = {key: rng.normal(0, 2) for group in keys.values() for key in group}
    truth = {key: rng.integers(60, 200, (32, 40, 3), np.uint8) for key in hard}
    for dataset, group in kept.items():
        for key in group:
            path = store.image_folder(dataset) / f"{key.replace('/', '__')}_gt.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(truth[key]).save(path)
            Image.fromarray(truth[key][::4, ::4]).save(path.with_name(path.name[:-6] + "lq.png"))
    for seed in (0, 1):
        for number, (method, gain) in enumerate(methods.items()):
            entry = Entry(method, seed, run=f"runs/{number}-{seed}", steps=6, threads=1)
            card.entries.append(entry)
            if gain is None:
                entry.failure = "loss is not finite"
                continue
            entry.deviations = ["total_iter 12 instead of 6"] if method == "Late" else []
            entry.cost = f"cost{number}"
            store.add_cost(
                {"cost": entry.cost, "method": method, "input": [1, 3, 3, 8, 10],
                 "params": number * 100_000, "flops": number * 2e9, "latency": 0.01 + number * 0.02,
                 "latency_p95": 0.1, "memory": 1.0, "training_memory": None}
            )  # fmt: skip
            for dataset, group in keys.items():
                for protocol in protocols:
                    name = f"{number}{seed}{dataset}{protocol['name']}"
                    first = protocol is protocols[0]
                    place = (
                        entry.evaluations if first else entry.other_protocols.setdefault("rgb", {})
                    )
                    place[dataset] = name
                    values = [30 + hard[key] + gain + rng.normal(0, 0.1) for key in group]
                    store.add_records([
                        {"evaluation": name, "key": key, "index": i, "of": len(group),
                         "seconds": 0.1, "metrics": {"psnr": v, "ssim": v / 40, "lpips": None}}
                        for i, (key, v) in enumerate(zip(group, values, strict=True))
                    ])  # fmt: skip
                folder = store.image_folder(entry.evaluations[dataset])
                folder.mkdir(parents=True, exist_ok=True)
                for key in kept[dataset]:
                    noise = rng.integers(-30 + 5 * number, 31 - 5 * number, truth[key].shape)
                    image = (truth[key] + noise).astype(np.uint8)
                    Image.fromarray(image).save(folder / f"{key.replace('/', '__')}.png")
            run = store.folder / entry.run
            append_lines(run / "log.jsonl", [
                {"step": s, "l_pix": gain + 1 / s, "grad_g": 9.0, "lr": 1.0} for s in (2, 4, 6)
            ])  # fmt: skip
            append_lines(run / "evaluation.jsonl", [
                {"step": s, "dataset": "clips", "psnr": 20 + gain + s} for s in (3, 6)
            ])  # fmt: skip
    store.save_card(card)
    return store.folder
