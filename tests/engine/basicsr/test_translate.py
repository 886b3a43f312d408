"""Option files with BasicSR's keys come over, or every difference is named."""

from __future__ import annotations

import copy
import math
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from srtoolbox.config.load import load_options
from srtoolbox.config.shipped import description_of
from srtoolbox.engine.basicsr.translate import Translation, translate
from srtoolbox.engine.options import RunOptions
from srtoolbox.engine.training.optimization import build_scheduler
from srtoolbox.errors import UserError

Options = dict[str, Any]
Translate = Callable[..., Translation]

DISK = {"type": "disk"}
PSNR_RGB = {"type": "calculate_psnr", "crop_border": 3, "test_y_channel": False}
NIQE_Y = {"type": "calculate_niqe", "crop_border": 3, "better": "lower"}

IMAGES: Options = {
    "name": "images",
    "model_type": "SRModel",
    "scale": 3,
    "num_gpu": 1,
    "manual_seed": 7,
    "datasets": {
        "train": {
            "name": "photos",
            "type": "PairedImageDataset",
            "dataroot_gt": "data/hr",
            "dataroot_lq": "data/lr",
            "filename_tmpl": "{}",
            "io_backend": dict(DISK),
            "gt_size": 48,
            "use_hflip": True,
            "use_rot": False,
            "use_shuffle": True,
            "num_worker_per_gpu": 2,
            "batch_size_per_gpu": 8,
            "dataset_enlarge_ratio": 100,
            "prefetch_mode": None,
        },
        "val": {
            "name": "few",
            "type": "PairedImageDataset",
            "dataroot_gt": "few/hr",
            "dataroot_lq": "few/lr",
            "filename_tmpl": "{}x3",
            "io_backend": dict(DISK),
        },
    },
    "network_g": {
        "type": "EDSR",
        "num_in_ch": 3,
        "num_out_ch": 3,
        "num_feat": 32,
        "num_block": 4,
        "upscale": 3,
        "res_scale": 0.5,
        "img_range": 255.0,
        "rgb_mean": [0.4488, 0.4371, 0.4040],
    },
    "path": {"pretrain_network_g": None, "strict_load_g": True, "resume_state": None},
    "train": {
        "ema_decay": 0.99,
        "optim_g": {"type": "Adam", "lr": 2e-4, "weight_decay": 0, "betas": [0.9, 0.99]},
        "scheduler": {"type": "MultiStepLR", "milestones": [20, 30], "gamma": 0.5},
        "total_iter": 40,
        "warmup_iter": -1,
        "pixel_opt": {"type": "L1Loss", "loss_weight": 1.0, "reduction": "mean"},
    },
    "val": {"val_freq": 1e1, "save_img": False, "metrics": {"psnr": PSNR_RGB}},
    "logger": {
        "print_freq": 5,
        "save_checkpoint_freq": 1e1,
        "use_tb_logger": True,
        "wandb": {"project": None, "resume_id": None},
    },
    "dist_params": {"backend": "nccl", "port": 29500},
}

CLIPS: Options = {
    "name": "clips",
    "model_type": "EDVRModel",
    "scale": 4,
    "num_gpu": 4,
    "datasets": {
        "train": {
            "name": "REDS",
            "type": "REDSDataset",
            "dataroot_gt": "data/REDS/train_sharp",
            "dataroot_lq": "data/REDS/train_sharp_bicubic/X4",
            "dataroot_flow": None,
            "meta_info_file": "some/meta_info_REDS_GT.txt",
            "val_partition": "REDS4",
            "io_backend": dict(DISK),
            "num_frame": 3,
            "gt_size": 128,
            "interval_list": [1, 2],
            "random_reverse": True,
            "use_hflip": True,
            "use_rot": True,
            "num_worker_per_gpu": 3,
            "batch_size_per_gpu": 2,
        },
        "val": {
            "name": "REDS4",
            "type": "VideoTestDataset",
            "dataroot_gt": "data/REDS/train_sharp",
            "dataroot_lq": "data/REDS/train_sharp_bicubic/X4",
            "meta_info_file": "some/meta_info_REDS4_test_GT.txt",
            "io_backend": dict(DISK),
            "cache_data": False,
            "num_frame": 3,
            "padding": "reflection_circle",
        },
    },
    "network_g": {
        "type": "EDVR",
        "num_in_ch": 3,
        "num_out_ch": 3,
        "num_feat": 16,
        "num_frame": 3,
        "deformable_groups": 2,
        "num_extract_block": 1,
        "num_reconstruct_block": 1,
        "center_frame_idx": None,
        "hr_in": False,
        "with_predeblur": False,
        "with_tsa": True,
    },
    "path": {"pretrain_network_g": "w/first.pth", "strict_load_g": False, "resume_state": None},
    "train": {
        "optim_g": {"type": "Adam", "lr": 4e-4},
        "scheduler": {
            "type": "CosineAnnealingRestartLR",
            "periods": [10, 30],
            "restart_weights": [1, 0.5],
            "eta_min": 1e-7,
        },
        "total_iter": 40,
        "warmup_iter": -1,
        "tsa_iter": 10,
        "dcn_lr_mul": 0.5,
        "pixel_opt": {"type": "CharbonnierLoss", "loss_weight": 1.0, "reduction": "sum"},
    },
    "val": {"val_freq": 20, "metrics": {"psnr": {**PSNR_RGB, "crop_border": 0}}},
    "find_unused_parameters": True,
}

SETS: Options = {
    "name": "sets",
    "model_type": "SRModel",
    "scale": 4,
    "num_gpu": 1,
    "datasets": {
        f"test_{number}": {
            "name": name,
            "type": "PairedImageDataset",
            "dataroot_gt": f"{name}/hr",
            "dataroot_lq": f"{name}/lr",
            "io_backend": dict(DISK),
        }
        for number, name in enumerate(("Set5", "Set14"), start=1)
    },
    "network_g": {"type": "RRDBNet", "num_in_ch": 3, "num_out_ch": 3, "num_feat": 8},
    "path": {"pretrain_network_g": "w/net.pth", "strict_load_g": True},
    "val": {
        "save_img": True,
        "suffix": None,
        "metrics": {
            "psnr": {"type": "calculate_psnr", "crop_border": 4, "test_y_channel": True},
            "ssim": {"type": "calculate_ssim", "crop_border": 4, "test_y_channel": True},
        },
    },
}


RECURRENT: Options = {
    "name": "recurrent",
    "model_type": "VideoRecurrentModel",
    "scale": 4,
    "num_gpu": 8,
    "datasets": {
        "train": {
            "name": "REDS",
            "type": "REDSRecurrentDataset",
            "dataroot_gt": "data/REDS/train_sharp",
            "dataroot_lq": "data/REDS/train_sharp_bicubic/X4",
            "meta_info_file": "some/meta_info_REDS_GT.txt",
            "val_partition": "REDS4",
            "test_mode": False,
            "io_backend": dict(DISK),
            "num_frame": 15,
            "gt_size": 256,
            "interval_list": [1],
            "random_reverse": False,
            "use_hflip": True,
            "use_rot": True,
            "num_worker_per_gpu": 6,
            "batch_size_per_gpu": 1,
        },
        "val": {
            "name": "REDS4",
            "type": "VideoRecurrentTestDataset",
            "dataroot_gt": "data/REDS4/GT",
            "dataroot_lq": "data/REDS4/sharp_bicubic",
            "cache_data": True,
            "io_backend": dict(DISK),
            "num_frame": -1,
        },
    },
    "network_g": {
        "type": "BasicVSR",
        "num_feat": 64,
        "num_block": 30,
        "spynet_path": "weights/spynet.pth",
    },
    "path": {"pretrain_network_g": None, "strict_load_g": True, "resume_state": None},
    "train": {
        "ema_decay": 0.999,
        "optim_g": {"type": "Adam", "lr": 2e-4, "weight_decay": 0, "betas": [0.9, 0.99]},
        "scheduler": {
            "type": "CosineAnnealingRestartLR",
            "periods": [300000],
            "restart_weights": [1],
            "eta_min": 1e-7,
        },
        "total_iter": 300000,
        "warmup_iter": -1,
        "fix_flow": 5000,
        "flow_lr_mul": 0.125,
        "pixel_opt": {"type": "CharbonnierLoss", "loss_weight": 1.0, "reduction": "mean"},
    },
    "val": {
        "val_freq": 5e3,
        "save_img": False,
        "metrics": {"psnr": {**PSNR_RGB, "crop_border": 0}},
    },
}
VIMEO_TEST: Options = {
    "name": "Vimeo90K",
    "type": "VideoTestVimeo90KDataset",
    "dataroot_gt": "d/vimeo_septuplet/sequences",
    "dataroot_lq": "d/BIx4",
    "meta_info_file": "meta_info_Vimeo90K_test_GT.txt",
    "num_frame": 7,
}


def changed(options: Options, changes: Options) -> Options:
    """Returns a copy with other values at dotted keys; ``...`` removes a key."""
    result = copy.deepcopy(options)
    for path, value in changes.items():
        *parents, last = path.split(".")
        node = result
        for key in parents:
            node = node[key]
        if value is ...:
            del node[last]
        else:
            node[last] = value
    return result


def line_of(text: str, folder: Path) -> int:
    """Returns the line of a text in the translated file, from 1."""
    lines = (folder / "theirs.yml").read_text().splitlines()
    (number,) = (number for number, line in enumerate(lines, 1) if text in line)
    return number


@pytest.fixture
def run(tmp_path: Path) -> Translate:
    def translated(options: Any, changes: Options | None = None) -> Translation:
        file = tmp_path / "theirs.yml"
        content = changed(options, changes or {}) if isinstance(options, dict) else options
        file.write_text(yaml.safe_dump(content, sort_keys=False, allow_unicode=True))
        return translate(file)

    return translated


@pytest.fixture
def load(run: Translate, tmp_path: Path) -> Callable[..., RunOptions]:
    def loaded(options: Options, changes: Options | None = None) -> RunOptions:
        file = tmp_path / "ours.yml"
        file.write_text(run(options, changes).text)
        return load_options(file, (), RunOptions)[0]

    return loaded


def notes(translation: Translation, kind: str) -> dict[str, str]:
    return {note.key: note.text for note in translation.notes if note.kind == kind}


def test_a_training_on_images(run: Translate) -> None:
    translation = run(IMAGES)
    assert translation.command == "train"
    assert yaml.safe_load(translation.text) == {
        "name": "images",
        "scale": 3,
        "manual_seed": 7,
        "network_g": {
            "type": "EDSR",
            "num_feat": 32,
            "num_block": 4,
            "res_scale": 0.5,
            "img_range": 255.0,
        },
        "datasets": {
            "train": {
                "type": "PairedImages",
                "dataroot_gt": "data/hr",
                "dataroot_lq": "data/lr",
                "gt_size": 48,
                "use_hflip": True,
                "use_rot": False,
            },
            "val": {
                "few": {
                    "type": "PairedImages",
                    "dataroot_gt": "few/hr",
                    "dataroot_lq": "few/lr",
                    "filename_tmpl": "{}x3",
                }
            },
        },
        "train": {
            "total_iter": 40,
            "batch_size": 8,
            "num_worker": 2,
            "optim_g": {"type": "Adam", "lr": 0.0002, "weight_decay": 0, "betas": [0.9, 0.99]},
            "scheduler": {"type": "MultiStepLR", "milestones": [20, 30], "gamma": 0.5},
            "losses": {"l_pix": {"type": "L1Loss", "loss_weight": 1.0, "reduction": "mean"}},
            "ema_decay": 0.99,
        },
        "val": {
            "protocol": "basicsr-rgb",
            "metrics": {"psnr": {"type": "PSNR"}},
            "val_freq": 10,
            "save_img": False,
        },
        "logger": {"print_freq": 5, "save_checkpoint_freq": 10, "use_tb_logger": True},
    }
    assert not notes(translation, "lost") and not notes(translation, "differs")


def test_a_training_on_clips(load: Callable[..., RunOptions]) -> None:
    opt = load(CLIPS)
    assert opt.datasets.train == {
        "type": "Clips",
        "layout": "reds",
        "dataroot": "data/REDS",
        "split": "train",
        "dataroot_lq": "data/REDS/train_sharp_bicubic/X4",
        "num_frame": 3,
        "gt_size": 128,
        "interval_list": [1, 2],
        "random_reverse": True,
        "use_hflip": True,
        "use_rot": True,
    }
    assert opt.datasets.val["REDS4"]["split"] == "test"
    assert opt.network_g["with_tsa"] and not opt.network_g["hr_in"]
    assert str(opt.path.pretrain_network_g) == "w/first.pth"
    assert (opt.path.strict_load_g, opt.path.param_key_g) == (False, "params")
    assert opt.val.protocol == "rgb" and opt.val.val_freq == 20
    train = opt.train
    assert train is not None and (train.batch_size, train.num_worker) == (8, 3)
    # BasicSR averages the gradients of the sums of four GPUs.
    assert train.losses["l_pix"]["loss_weight"] == 1 / 4
    assert train.scheduler == {**CLIPS["train"]["scheduler"]}
    # All but TSA are frozen up to step 9 of BasicSR, which counts from 1.
    groups = [(group.pattern, group.lr_mult, group.frozen_iter) for group in train.param_groups]
    assert groups == [("dcn", 0.5, 9), ("^(?!.*fusion)", 1.0, 9)]


def test_differences_of_clips_are_named(run: Translate, tmp_path: Path) -> None:
    translation = run(CLIPS)
    assert notes(translation, "lost") == {}
    differs = notes(translation, "differs")
    assert set(differs) == {"datasets.train.val_partition", "train.pixel_opt.reduction"}
    assert "266 of 270 clips" in differs["datasets.train.val_partition"]
    line = next(str(note) for note in translation.notes if note.key in differs)
    number = line_of("val_partition", tmp_path)
    assert line.partition(": ")[0].endswith(f"theirs.yml:{number}")


def test_a_training_of_basicvsr(run: Translate, load: Callable[..., RunOptions]) -> None:
    """The shipped option file of the same training says the same."""
    opt = load(RECURRENT)
    shipped = load_options("options/train/BasicVSR/basicvsr_reds_x4.yml", (), RunOptions)[0]
    assert opt.datasets.train == {
        "type": "Clips",
        "layout": "reds",
        "dataroot": "data/REDS",
        "split": "train",
        "dataroot_lq": "data/REDS/train_sharp_bicubic/X4",
        "num_frame": 15,
        "target": "all",
        "gt_size": 256,
        "interval_list": [1],
        "random_reverse": False,
        "use_hflip": True,
        "use_rot": True,
    }
    assert opt.datasets.val["REDS4"] == {
        "type": "Clips",
        "dataroot": "data/REDS4/GT",
        "dataroot_lq": "data/REDS4/sharp_bicubic",
        "num_frame": None,
        "target": "all",
    }
    assert (str(opt.path.pretrain_network_g), opt.path.strict_load_g) == (
        str(Path("weights/spynet.pth")),
        False,
    )
    assert opt.train is not None and shipped.train is not None
    (ours,), (theirs,) = opt.train.param_groups, shipped.train.param_groups
    assert (ours.lr_mult, ours.frozen_iter) == (theirs.lr_mult, theirs.frozen_iter)
    names = ["spynet.basic_module.0.weight", "forward_trunk.main.0.weight"]
    assert [bool(re.search(ours.pattern, name)) for name in names] == [True, False]
    assert opt.train.batch_size == shipped.train.batch_size == 8
    assert opt.val.protocol == shipped.val.protocol == "rgb"
    assert set(notes(run(RECURRENT), "differs")) == {"datasets.train.val_partition"}
    assert not notes(run(RECURRENT), "lost")


@pytest.mark.parametrize(
    ("changes", "groups"),
    [
        ({"train.fix_flow": None}, [("spynet", 0.125, 0)]),
        ({"train.flow_lr_mul": 1}, [("spynet", 1.0, 4999)]),
        ({"train.fix_flow": ..., "train.flow_lr_mul": ...}, []),
        ({"model_type": "EDVRModel"}, []),
    ],
)
def test_the_optical_flow_of_basicvsr(
    changes: Options, groups: list[Any], load: Callable[..., RunOptions]
) -> None:
    train = load(RECURRENT, changes).train
    assert train is not None
    found = [(group.pattern, group.lr_mult, group.frozen_iter) for group in train.param_groups]
    assert found == groups


def test_a_training_of_basicvsr_on_vimeo(run: Translate, load: Callable[..., RunOptions]) -> None:
    train = {
        **RECURRENT["datasets"]["train"],
        "type": "Vimeo90KRecurrentDataset",
        "dataroot_gt": "d/vimeo_septuplet/sequences",
        "dataroot_lq": "d/BIx4",
        "meta_info_file": "meta_info_Vimeo90K_train_GT.txt",
        "num_frame": -1,
        "flip_sequence": True,
    }
    del train["val_partition"]
    changes = {"datasets.train": train, "network_g.num_block": ...}
    opt = load(RECURRENT, changes)
    expected = {"layout": "vimeo90k", "num_frame": 7, "target": "all", "mirror_sequence": True}
    assert expected.items() <= opt.datasets.train.items()
    assert opt.network_g["num_block"] == 15
    assert not notes(run(RECURRENT, changes), "lost")


def test_a_test_of_basicvsr_on_vimeo(run: Translate, load: Callable[..., RunOptions]) -> None:
    changes = {
        "train": ...,
        "datasets": {"test_1": VIMEO_TEST},
        "path.pretrain_network_g": "w/basicvsr.pth",
        "val.flip_seq": True,
        "val.center_frame_only": True,
    }
    opt, translation = load(RECURRENT, changes), run(RECURRENT, changes)
    assert opt.datasets.test["Vimeo90K"] == {
        "type": "Clips",
        "layout": "vimeo90k",
        "dataroot": "d/vimeo_septuplet",
        "split": "test",
        "dataroot_lq": "d/BIx4",
        "num_frame": 7,
        "skip_frames": 3,
    }
    assert opt.val.enhance.flip_sequence
    assert str(opt.path.pretrain_network_g) == str(Path("w/basicvsr.pth"))
    assert "network_g.spynet_path" in notes(translation, "unneeded")
    assert not notes(translation, "lost")


def test_a_test(run: Translate, load: Callable[..., RunOptions]) -> None:
    translation, opt = run(SETS), load(SETS)
    assert translation.command == "test" and opt.train is None
    assert list(opt.datasets.test) == ["Set5", "Set14"]
    assert opt.val.protocol == "basicsr-y" and list(opt.val.metrics) == ["psnr", "ssim"]
    assert opt.val.save_img
    assert notes(translation, "lost") == notes(translation, "differs") == {}


TRANSLATED = {
    IMAGES["name"]: """
        name model_type scale manual_seed
        datasets.train.{type dataroot_gt dataroot_lq gt_size use_hflip use_rot num_worker_per_gpu
        batch_size_per_gpu} datasets.val.{name type dataroot_gt dataroot_lq filename_tmpl}
        network_g.{type num_feat num_block res_scale img_range}
        train.{ema_decay optim_g total_iter} train.scheduler.{type milestones gamma}
        train.pixel_opt.{type loss_weight reduction} val.{val_freq save_img}
        val.metrics.psnr.{type crop_border test_y_channel}
        logger.{print_freq save_checkpoint_freq use_tb_logger}
    """,
    CLIPS["name"]: """
        name model_type scale
        datasets.train.{type dataroot_gt dataroot_lq num_frame gt_size interval_list random_reverse
        use_hflip use_rot num_worker_per_gpu batch_size_per_gpu}
        datasets.val.{name type dataroot_gt dataroot_lq num_frame padding}
        network_g.{type num_feat num_frame deformable_groups num_extract_block num_reconstruct_block
        hr_in with_predeblur with_tsa} path.{pretrain_network_g strict_load_g}
        train.{optim_g total_iter tsa_iter dcn_lr_mul}
        train.scheduler.{type periods restart_weights eta_min}
        train.pixel_opt.{type loss_weight} val.val_freq
        val.metrics.psnr.{type crop_border test_y_channel}
    """,
    SETS["name"]: """
        name model_type scale datasets.test_1.{name type dataroot_gt dataroot_lq}
        datasets.test_2.{name type dataroot_gt dataroot_lq} network_g.{type num_feat}
        path.{pretrain_network_g strict_load_g} val.save_img
        val.metrics.psnr.{type crop_border test_y_channel}
        val.metrics.ssim.{type crop_border test_y_channel}
    """,
    RECURRENT["name"]: """
        name model_type scale
        datasets.train.{type dataroot_gt dataroot_lq num_frame gt_size interval_list random_reverse
        use_hflip use_rot num_worker_per_gpu batch_size_per_gpu}
        datasets.val.{name type dataroot_gt dataroot_lq}
        network_g.{type num_feat num_block spynet_path}
        train.{ema_decay optim_g total_iter fix_flow flow_lr_mul}
        train.scheduler.{type periods restart_weights eta_min}
        train.pixel_opt.{type loss_weight reduction} val.{val_freq save_img}
        val.metrics.psnr.{type crop_border test_y_channel}
    """,
}
"""The keys of each file whose meaning is in the translation, as ``section.{key key}``."""


def expanded(text: str) -> set[str]:
    keys, prefix = set(), ""
    for word in text.split():
        if "{" in word:
            prefix, word = word.split("{")
        keys.add(prefix + word.rstrip("}"))
        if word.endswith("}"):
            prefix = ""
    return keys


def leaves(node: Any, path: str = "") -> Iterator[str]:
    if isinstance(node, dict):
        for key, value in node.items():
            yield from leaves(value, f"{path}.{key}" if path else key)
    else:
        yield path


@pytest.mark.parametrize(
    "options", [IMAGES, CLIPS, SETS, RECURRENT], ids=lambda options: options["name"]
)
def test_every_key_is_translated_or_named(options: Options, run: Translate) -> None:
    translation = run(options)
    noted = {note.key for note in translation.notes}
    translated = expanded(TRANSLATED[options["name"]])
    for leaf in leaves(options):
        parents = {leaf.rsplit(".", depth)[0] for depth in range(leaf.count(".") + 1)}
        assert (leaf in translated or bool(parents & translated)) != bool(
            parents & noted and leaf not in translated
        ), leaf
        for key in parents & noted:
            assert key in translation.text.partition("\nname:")[0].replace("\n#  ", ""), key


def test_other_numbers_of_bands_are_options_of_the_network(run: Translate) -> None:
    translation = run(IMAGES, {"network_g.num_in_ch": 1})
    network = yaml.safe_load(translation.text)["network_g"]
    assert (network["num_in_ch"], network["num_out_ch"]) == (1, 3)
    assert not [note for note in translation.notes if "num_in_ch" in note.key]


def test_unknown_keys_are_named_with_their_line(run: Translate, tmp_path: Path) -> None:
    translation = run(IMAGES, {"network_g.num_heads": 6, "train.style_opt": {"type": "X"}})
    lost = notes(translation, "lost")
    assert set(lost) == {"network_g.num_heads", "train.style_opt"}
    assert all("no such option" in text for text in lost.values())
    line = next(str(note) for note in translation.notes if note.kind == "lost")
    assert line.endswith(
        f":{line_of('num_heads', tmp_path)}: network_g.num_heads: cannot be translated: srtoolbox "
        "has no such option; compare with docs/options.md"
    )


@pytest.mark.parametrize(
    ("options", "changes", "kind", "key", "text"),
    [
        (IMAGES, {"datasets.train.io_backend.type": "lmdb"}, "lost", "io_backend.type", "in .lmdb"),
        (
            IMAGES,
            {"datasets.train.io_backend.type": "lmdb", "datasets.train.meta_info_file": "x.txt"},
            *("unneeded", "meta_info_file", "meta_info.txt in the LMDB folder"),
        ),
        (IMAGES, {"datasets.train.io_backend.type": "petrel"}, "lost", "io_backend.type", "petrel"),
        (IMAGES, {"datasets.train.color": "y"}, "lost", "color", "no such option"),
        (IMAGES, {"datasets.val.color": "n"}, "unneeded", "color", "RGB"),
        (IMAGES, {"logger.wandb.project": "p"}, "differs", "logger.wandb.project", "mode: online"),
        (IMAGES, {"path.resume_state": "x.state"}, "lost", "resume_state", "--resume"),
        (IMAGES, {"network_g.upscale": 2}, "lost", "upscale", "it is 2, but the run has scale 3"),
        (IMAGES, {"network_g.rgb_mean": [0, 0, 0]}, "lost", "rgb_mean", "EDSR here always has"),
        (IMAGES, {"network_g.in_chans": 1}, "lost", "in_chans", "always has 3"),
        (IMAGES, {"num_gpu": "auto"}, "differs", "batch_size_per_gpu", "multiply it"),
        (CLIPS, {"num_gpu": "auto"}, "differs", "reduction", "divide loss_weight"),
        (
            IMAGES,
            {"datasets.train.use_hflip": False, "datasets.train.use_rot": True},
            *("differs", "use_rot", "transpositions"),
        ),
        (IMAGES, {"val.metrics.psnr.crop_border": 9}, "differs", "crop_border", "BasicSR's is 9"),
        (IMAGES, {"val.metrics": None}, "differs", "val.metrics", "there are no metrics"),
        (IMAGES, {"val.metrics.fid": {"type": "calculate_fid"}}, "lost", "fid", "calculate_fid"),
        (IMAGES, {"val.metrics.niqe": NIQE_Y}, "differs", "niqe", "niqe_pris_params.npz in model"),
        (
            IMAGES,
            {"val.metrics.niqe": {**NIQE_Y, "convert_to": "gray"}},
            *("lost", "convert_to", "always of luma"),
        ),
        (
            IMAGES,
            {"val.metrics.psnr_y": {**PSNR_RGB, "test_y_channel": True}},
            *("lost", "psnr_y", "one colour space"),
        ),
        (CLIPS, {"datasets.val.padding": "replicate"}, "differs", "padding", "it is reflection_c"),
        (CLIPS, {"datasets.train.val_partition": "official"}, "differs", "val_partition", "240"),
        (CLIPS, {"model_type": "VideoBaseModel"}, "unneeded", "tsa_iter", "does not read it"),
        (CLIPS, {"network_g.center_frame_idx": 1}, "unneeded", "center_frame_idx", "built into"),
        (CLIPS, {"network_g.center_frame_idx": 0}, "lost", "center_frame_idx", "always has 1"),
        (CLIPS, {"train.ema_decay": 0.999}, "differs", "ema_decay", "params_ema"),
        (CLIPS, {"path.param_key_g": "params_ema"}, "unneeded", "param_key_g", "the default"),
    ],
)
def test_what_is_named(
    options: Options, changes: Options, kind: str, key: str, text: str, run: Translate
) -> None:
    translation = run(options, changes)
    found = [
        note.text for note in translation.notes if note.kind == kind and note.key.endswith(key)
    ]
    assert len(found) == 1 and text in found[0]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"network_g.type": "WDSR"}, "network_g.type: srtoolbox has no arch 'WDSR'; `srtoolbox"),
        ({"network_g.type": ["EDSR"]}, "srtoolbox has no arch ['EDSR']"),
        ({"model_type": "ESRGANModel"}, ":2: model_type: srtoolbox cannot translate 'ESRGANModel'"),
        ({"datasets.train.type": "FFHQDataset"}, "datasets.train.type: srtoolbox has no dataset"),
        ({"datasets.val.type": "SingleImageDataset"}, "'SingleImageDataset'; only PairedImageData"),
        ({"train.scheduler.type": "CyclicLR"}, "no scheduler 'CyclicLR'; only MultiStepLR, "),
        ({"train.pixel_opt.type": "TVLoss"}, "no pixel loss 'TVLoss'; only L1Loss, "),
        ({"train.pixel_opt": ...}, "train.pixel_opt: missing"),
        ({"train": ...}, "train: missing, but there is datasets.train"),
        ({"train.total_iter": 1.5}, "train.total_iter: expected a whole number, got 1.5"),
        ({"train.total_iter": -1}, "train.total_iter: must be >= 1"),
        ({"train.optim_g.lr": "fast"}, "train.optim_g.lr: expected a number"),
        ({"train.niter": 9}, "train.niter: total_iter is its later name; remove one of them"),
        ({"train.scheduler.milestones": [1.5]}, "milestones: expected a list of steps, got [1.5]"),
        ({"scale": 0}, "scale: expected a number of at least 1, got 0"),
        ({"num_gpu": -1}, "num_gpu: expected a number of GPUs or auto, got -1"),
        ({"datasets.val.name": "../up"}, "datasets.val.name: '../up' cannot be a part of a file"),
        ({"datasets.val.name": "a\nb"}, "cannot be a part of a file name"),
        ({"datasets.val_2": dict(IMAGES["datasets"]["val"])}, "a second dataset 'few'"),
        ({"datasets.other": dict(IMAGES["datasets"]["val"])}, "datasets.other: is none of train"),
        ({"name": "a/b"}, "name: 'a/b' cannot be the name of a folder"),
        ({"name": ...}, "name: missing; is this an option file of BasicSR?"),
        ({"network_g": None}, "network_g: expected a mapping, as in option files of BasicSR, got"),
        ({"val.metrics.psnr.test_y_channel": "no"}, "expected true or false, got 'no'"),
        ({"logger.use_tb_logger": "yes"}, "logger.use_tb_logger: expected true or false"),
    ],
)
def test_faults_are_one_line_with_file_and_key(
    changes: Options, message: str, run: Translate
) -> None:
    with pytest.raises(UserError) as error:
        run(IMAGES, changes)
    text = str(error.value)
    assert message in text and "theirs.yml:" in text and "\n" not in text


SWINIR = {
    "type": "SwinIR",
    "upscale": 3,
    "in_chans": 3,
    "img_size": 16,
    "window_size": 8,
    "img_range": 1.0,
    "depths": [6, 6],
    "embed_dim": 60,
    "num_heads": [6, 6],
    "mlp_ratio": 2,
    "upsampler": "pixelshuffledirect",
    "resi_connection": "1conv",
}


def test_networks_of_basicsr_have_its_defaults(run: Translate) -> None:
    rcan = {"type": "RCAN", "num_in_ch": 3, "num_out_ch": 3, "upscale": 3, "img_range": 255.0}
    text = yaml.safe_load(run(IMAGES, {"network_g": rcan}).text)
    assert text["network_g"] == {"type": "RCAN", "img_range": 255.0, "num_block": 16}
    text = yaml.safe_load(run(IMAGES, {"network_g": SWINIR}).text)
    same = {key: value for key, value in SWINIR.items() if key not in ("upscale", "in_chans")}
    assert text["network_g"] == same
    short = {"type": "SwinIR", "upsampler": "pixelshuffle", "img_size": 56, "in_chans": 1}
    text = yaml.safe_load(run(IMAGES, {"network_g": short}).text)["network_g"]
    assert (text["embed_dim"], text["window_size"], text["num_in_ch"]) == (96, 7, 1)


@pytest.mark.parametrize(
    ("key", "value", "kind"),
    [
        ("ape", False, "unneeded"),
        ("ape", True, "lost"),
        ("qkv_bias", 1, "lost"),
        ("drop_rate", 0.1, "lost"),
        ("patch_size", 1, "unneeded"),
    ],
)
def test_parts_of_swinir_that_are_built_in(key: str, value: Any, kind: str, run: Translate) -> None:
    notes = run(IMAGES, {"network_g": {**SWINIR, key: value}}).notes
    assert [note.kind for note in notes if note.key.endswith(key)] == [kind]


def test_an_unknown_arch_hides_no_other_fault_and_no_lost_key(run: Translate) -> None:
    changes = {
        "network_g.type": "WDSR",
        "datasets.train.type": "FFHQDataset",
        "train.mixup": True,
        "logger.wandb": {"project": "p", "group": "g"},
        "surprise": 1,
    }
    with pytest.raises(UserError) as error:
        run(IMAGES, changes)
    lines = str(error.value).splitlines()
    assert len(lines) == 5 and all("theirs.yml:" in line for line in lines)
    for key in (
        "network_g.type",
        "datasets.train.type",
        "train.mixup",
        "logger.wandb.group",
        "surprise",
    ):
        assert sum(f": {key}: " in line for line in lines) == 1, key


PERCEPTUAL: Options = {
    "type": "PerceptualLoss",
    "layer_weights": {"conv3_4": 0.5, "conv5_4": 1},
    "vgg_type": "vgg19",
    "use_input_norm": True,
    "range_norm": False,
    "perceptual_weight": 2.0,
    "style_weight": 0,
    "criterion": "l1",
}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, {}),
        ({"style_weight": 60.0}, {"style_weight": 30.0}),
        ({"criterion": "l2", "use_input_norm": False}, {"criterion": "mse", "preprocess": "none"}),
    ],
)
def test_a_perceptual_loss(changes: Options, expected: Options, run: Translate) -> None:
    translation = run(IMAGES, {"train.perceptual_opt": {**PERCEPTUAL, **changes}})
    losses = yaml.safe_load(translation.text)["train"]["losses"]
    layers = PERCEPTUAL["layer_weights"]
    common = {"type": "PerceptualLoss", "loss_weight": 2.0, "layers": layers}
    assert losses["l_percep"] == {**common, **expected}
    assert losses["l_pix"]["type"] == "L1Loss"
    assert not notes(translation, "lost")


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"vgg_type": "vgg16"}, "vgg_type"),
        ({"criterion": "fro"}, "criterion"),
        ({"criterion": ["l1"]}, "criterion"),
        ({"perceptual_weight": 0, "style_weight": 1}, "perceptual_weight"),
        ({"type": "X"}, ""),
    ],
)
def test_a_perceptual_loss_without_an_equivalent(
    changes: Options, key: str, run: Translate
) -> None:
    translation = run(IMAGES, {"train.perceptual_opt": {**PERCEPTUAL, **changes}})
    assert set(notes(translation, "lost")) == {f"train.perceptual_opt.{key}".rstrip(".")}
    assert "l_percep" not in yaml.safe_load(translation.text)["train"]["losses"]
    with pytest.raises(UserError, match=r"pixel_opt: missing.*perceptual_opt cannot be translated"):
        run(
            IMAGES,
            {"train.pixel_opt": ..., "train.perceptual_opt": {**PERCEPTUAL, **changes}},
        )


def test_a_perceptual_loss_loses_range_norm_only(run: Translate) -> None:
    options = {"train.perceptual_opt": {**PERCEPTUAL, "range_norm": True}, "train.pixel_opt": ...}
    translation = run(IMAGES, options)
    assert set(notes(translation, "lost")) == {"train.perceptual_opt.range_norm"}
    assert list(yaml.safe_load(translation.text)["train"]["losses"]) == ["l_percep"]


@pytest.mark.parametrize("content", [None, [1, 2], "text", {"a": 1}])
def test_other_files_are_refused(content: Any, run: Translate) -> None:
    with pytest.raises(UserError, match=r"theirs.yml:1: (network_g: expected|an option file is)"):
        run(content)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"nothing\.yml: no such file"):
        translate(tmp_path / "nothing.yml")


def test_names_of_2020(load: Callable[..., RunOptions]) -> None:
    old = changed(
        CLIPS,
        {
            **{"datasets.train.use_hflip": ..., "datasets.train.use_flip": True},
            **{"datasets.train.batch_size_per_gpu": ..., "datasets.train.batch_size": 8},
            **{"datasets.train.num_worker_per_gpu": ..., "datasets.train.num_worker": 3},
            **{"path.pretrain_network_g": ..., "path.pretrain_model_g": "w/first.pth"},
            **{"path.strict_load_g": ..., "path.strict_load": False},
            **{"train.total_iter": ..., "train.niter": 40, "train.manual_seed": 5},
            **{"num_gpu": ..., "gpu_ids": [0, 1, 2, 3], "set_CUDA_VISIBLE_DEVICES": True},
        },
    )
    assert load(old) == load(CLIPS, {"manual_seed": 5})
    assert load(SETS, {"val": ..., "save_img": True}).val.save_img


@pytest.mark.parametrize(
    ("kind", "roots", "dataset"),
    [
        (
            "REDSDataset",
            ("REDS/train_sharp_with_val.lmdb", "REDS/train_sharp_bicubic_with_val.lmdb"),
            {"layout": "reds", "split": "train"},
        ),
        (
            "Vimeo90KDataset",
            ("vimeo90k/vimeo90k_train_GT_only4th.lmdb", "vimeo90k/vimeo90k_train_LR7frames.lmdb"),
            {"recursive": True},
        ),
    ],
)
def test_lmdb_folders_of_clips(
    kind: str, roots: tuple[str, str], dataset: Options, run: Translate
) -> None:
    changes = {"type": kind, "dataroot_gt": roots[0], "dataroot_lq": roots[1]}
    changes |= {"meta_info_file": None, "io_backend.type": "lmdb"}
    changes["val_partition"] = "REDS4" if kind == "REDSDataset" else None
    translation = run(CLIPS, {f"datasets.train.{key}": value for key, value in changes.items()})
    train = yaml.safe_load(translation.text)["datasets"]["train"]
    assert {name: train[name] for name in dataset} == dataset
    assert (train["dataroot"], train["dataroot_lq"]) == roots
    assert ("layout" in train) == (kind == "REDSDataset")
    assert not [key for key in notes(translation, "lost") if key.startswith("datasets.train")]


def test_lmdb_folders_of_images(run: Translate) -> None:
    roots = {"dataroot_gt": "d/HR_sub.lmdb", "dataroot_lq": "d/LR_bicubic_X3_sub.lmdb"}
    changes = {"io_backend": {"type": "lmdb", "db_paths": ["a", "b"]}, **roots}
    translation = run(IMAGES, {f"datasets.train.{key}": value for key, value in changes.items()})
    train = yaml.safe_load(translation.text)["datasets"]["train"]
    assert {name: train[name] for name in roots} == roots
    assert "srtoolbox[lmdb]" in notes(translation, "unneeded")["datasets.train.io_backend.type"]
    assert not notes(translation, "lost")


def test_lists_of_images_are_kept(run: Translate) -> None:
    translation = run(IMAGES, {"datasets.train.meta_info_file": "d/meta_info_DIV2K800sub_GT.txt"})
    train = yaml.safe_load(translation.text)["datasets"]["train"]
    assert train["meta_info_file"] == "d/meta_info_DIV2K800sub_GT.txt"


@pytest.mark.parametrize(
    ("changes", "dataset"),
    [
        (
            {
                "name": "Vid4",
                "dataroot_gt": "d/Vid4/GT",
                "dataroot_lq": "d/Vid4/BIx4",
                "meta_info_file": None,
            },
            {"layout": "vid4", "dataroot": "d/Vid4", "dataroot_lq": "d/Vid4/BIx4"},
        ),
        (
            {
                "name": "mine",
                "dataroot_gt": "d/gt",
                "dataroot_lq": "d/lq",
                "meta_info_file": "d/meta_info_mine.txt",
            },
            {
                "dataroot": "d/gt",
                "dataroot_lq": "d/lq",
                "meta_info_file": "d/meta_info_mine.txt",
            },
        ),
        (
            {
                "name": "v",
                "type": "VideoTestVimeo90KDataset",
                "dataroot_gt": "d/vimeo_septuplet/sequences",
                "dataroot_lq": "d/lr/sequences",
                "meta_info_file": "meta_info_Vimeo90K_test_GT.txt",
            },
            {
                "layout": "vimeo90k",
                "dataroot": "d/vimeo_septuplet",
                "split": "test",
                "dataroot_lq": "d/lr/sequences",
                "skip_frames": 3,
            },
        ),
    ],
)
def test_clips_for_evaluation(
    changes: Options, dataset: Options, load: Callable[..., RunOptions]
) -> None:
    own = {**CLIPS["datasets"]["val"], **changes}
    (found,) = load(CLIPS, {"datasets.val": own}).datasets.val.values()
    assert found == {"type": "Clips", **dataset, "num_frame": 3}


def basicsr_rates(total: int, warmup: int, schedule: Callable[[int], float]) -> list[float]:
    """BasicSR's rates, in fractions of ``lr``: step k from 1 has k/warmup while k < warmup."""
    return [k / warmup if k < warmup else schedule(k - 1) for k in range(1, total + 1)]


@pytest.mark.parametrize("warmup", [-1, 0, 1, 8])
def test_rates_of_milestones(warmup: int, load: Callable[..., RunOptions]) -> None:
    factor = (warmup - 1) / warmup if warmup > 1 else 1.0  # the rate that its warm-up leaves
    expected = basicsr_rates(40, warmup, lambda t: factor * 0.5 ** ((t >= 20) + (t >= 30)))
    found = rates(load(IMAGES, {"train.warmup_iter": warmup}))
    start = max(warmup - 1, 0)
    assert found[:start] == pytest.approx(expected[:start])
    assert [rate * factor for rate in found[start:]] == pytest.approx(expected[start:])


@pytest.mark.parametrize("warmup", [-1, 0, 1, 8])
def test_rates_of_cosine_restarts(warmup: int, load: Callable[..., RunOptions]) -> None:
    low = 1e-7 / 4e-4

    def schedule(t: int) -> float:
        weight, position = (1.0, t / 10) if t <= 10 else (0.5, (t - 10) / 30)
        return low + weight * (1 - low) * (1 + math.cos(math.pi * position)) / 2

    found = rates(load(CLIPS, {"train.warmup_iter": warmup}))
    assert found == pytest.approx(basicsr_rates(40, warmup, schedule), rel=1e-12)


def rates(opt: RunOptions) -> list[float]:
    """The learning rate of each step, in fractions of the first one."""
    assert opt.train is not None
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    spec = dict(opt.train.scheduler or {})
    if "eta_min" in spec:
        spec["eta_min"] /= opt.train.optim_g["lr"]
    object.__setattr__(opt.train, "scheduler", spec)
    schedule, found = build_scheduler(opt.train, optimizer), []
    for _ in range(opt.train.total_iter):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return found


def test_milestones_in_the_warm_up_are_named(run: Translate) -> None:
    translation = run(IMAGES, {"train.warmup_iter": 26})
    texts = [note.text for note in translation.notes if note.key == "train.scheduler.milestones"]
    assert "25 was subtracted" in texts[0] and "25/26" in texts[0]
    assert "are left out" in texts[1]
    assert yaml.safe_load(translation.text)["train"]["scheduler"]["milestones"] == [5]


def test_text_of_the_file_cannot_leave_the_comment(run: Translate, tmp_path: Path) -> None:
    translation = run(IMAGES, {"evil\nname: other\x1b[31m": 1, "val.metrics.psnr.new\r": "\n- x"})
    comment, _, rest = translation.text.partition("\nname: images\n")
    assert rest and all(line.startswith("#") for line in comment.splitlines())
    assert "\x1b" not in translation.text
    assert all("\n" not in str(note) and "\x1b" not in str(note) for note in translation.notes)


def test_the_result_is_described_and_stable(run: Translate, tmp_path: Path) -> None:
    text = run(IMAGES).text
    assert text == run(IMAGES).text
    file = tmp_path / "ours.yml"
    file.write_text(text)
    assert description_of(file) == "Translated from BasicSR's option file theirs.yml"
    assert max(map(len, text.splitlines())) <= 100


VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=8),
    st.sampled_from(["auto", "lmdb", "SRModel", "EDSR", "../x", "a\nb", 10**40]),
    st.lists(st.integers(-2, 5), max_size=3),
    st.dictionaries(st.sampled_from(["type", "a"]), st.integers() | st.none(), max_size=2),
)


@pytest.mark.slow
@settings(max_examples=120, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_change_is_translated_or_refused(
    data: st.DataObject, load: Callable[..., RunOptions]
) -> None:
    options = data.draw(st.sampled_from([IMAGES, CLIPS, SETS]))
    keys = list(leaves(options))
    parents = {key.rsplit(".", depth)[0] for key in keys for depth in range(key.count(".") + 1)}
    changes = {data.draw(st.sampled_from(sorted(parents))): data.draw(VALUES | st.just(...))}
    try:
        load(options, changes)
    except UserError as error:
        assert "theirs.yml:" in str(error)
