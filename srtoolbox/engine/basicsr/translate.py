"""Translates an option file of BasicSR to one of srtoolbox.

BasicSR: Wang et al., https://github.com/XPixelGroup/BasicSR, Apache 2.0. Its keys and their meaning
were read from its option files and its code; nothing is copied.
"""

from __future__ import annotations

import dataclasses
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from srtoolbox.config.components import parameters_of
from srtoolbox.config.files import dump, read
from srtoolbox.config.schema import check
from srtoolbox.config.yaml import Tree
from srtoolbox.engine.basicsr.data import DatasetTranslator
from srtoolbox.engine.basicsr.keys import LAUNCH, OTHER_PHASE, Note, Section, one_line, shown
from srtoolbox.engine.basicsr.training import TrainTranslator
from srtoolbox.engine.options import RunOptions, TrainOptions, ValOptions
from srtoolbox.errors import UserError
from srtoolbox.metrics import PROTOCOLS, Protocol
from srtoolbox.registry import ARCH_REGISTRY

_Result = TypeVar("_Result")

_MODELS = ("SRModel", "EDVRModel", "SwinIRModel", "VideoBaseModel", "VideoRecurrentModel")
"""BasicSR's models that train by losses on images alone, as SRModel does here."""

_METRICS = {
    "calculate_psnr": "PSNR",
    "calculate_ssim": "SSIM",
    "calculate_lpips": "LPIPS",
    "calculate_niqe": "NIQE",
}
_OWN_COLOURS = ("LPIPS", "NIQE")  # whatever the colour space of the protocol

# What the networks have built in, by arch: a key with another value cannot be translated.
_BUILT_IN: dict[str, dict[str, Any]] = {
    "EDSR": {"rgb_mean": [0.4488, 0.4371, 0.4040]},
    "EDVR": {"center_frame_idx": None},
    "RCAN": {"rgb_mean": [0.4488, 0.4371, 0.4040]},
    "SwinIR": {
        "patch_size": 1,
        "qkv_bias": True,
        "drop_rate": 0,
        "attn_drop_rate": 0,
        "ape": False,
        "patch_norm": True,
        "use_checkpoint": False,
    },
}
_SCALE_KEYS = ("upscale", "scale")
_CHANNEL_KEYS = ("num_in_ch", "num_out_ch", "in_chans")
_OTHER_NAMES = {"SwinIR": {"in_chans": "num_in_ch"}}

# Defaults of BasicSR that differ from those here.
_ARCH_DEFAULTS: dict[str, dict[str, Any]] = {
    "BasicVSR": {"num_block": 15},
    "EDVR": {"hr_in": False, "with_predeblur": False},
    "RCAN": {"num_block": 16},
    "SwinIR": {
        "embed_dim": 96,
        "depths": [6, 6, 6, 6],
        "num_heads": [6, 6, 6, 6],
        "window_size": 7,
        "mlp_ratio": 4.0,
        "upsampler": "",
    },
}


@dataclass(frozen=True)
class Translation:
    """The translated options.

    Attributes:
        text: The option file, with its notes as comments.
        notes: All keys that were not translated one to one, in the order of the file's sections.
        command: "train" or "test": the command that runs the file.
    """

    text: str
    notes: tuple[Note, ...]
    command: str


def translate(path: Path, plugins: Sequence[str] = ()) -> Translation:
    """Translates an option file of BasicSR.

    Args:
        path: The file (YAML) of a training or a test.
        plugins: Plug-ins that register archs of the file; they are loaded already.

    Raises:
        UserError: one line for each fault, with file and key: if the file cannot be read, is no
            option file of BasicSR, or its network, model or a dataset does not exist here. Keys
            that cannot be translated have a line, too.
    """
    if not path.exists():
        raise UserError(f"{path}: no such file")
    return _Translator(read(path), path.name, plugins).run()


class _Translator:
    """Translates one file; see ``translate``."""

    def __init__(self, tree: Tree, file: str, plugins: Sequence[str]) -> None:
        self.file, self.plugins = file, list(plugins)
        self.notes: list[Note] = []
        self.faults: list[str] = []
        self.top = Section(tree, "", self.notes)
        self.where = tree.where
        self.out = Tree(tree.where)
        self.scale = 4
        self.flow: tuple[Section, str] | None = None  # weights of a network of optical flow

    def run(self) -> Translation:
        top, attempt = self.top, self._attempt
        network = top.take_section("network_g", required=True)
        datasets = top.take_section("datasets", required=True)
        train = top.take_section("train")
        assert network is not None and datasets is not None
        self._scale_and_name()  # all sections depend on the scale
        arch = attempt(lambda: self._network(network))
        model = attempt(self._model) or _MODELS[0]
        num_gpu = attempt(self._num_gpu)
        sections = {name: Tree(self.where) for name in ("datasets", "path", "train", "val")}
        data = DatasetTranslator(self.scale, num_gpu)
        attempt(lambda: data.translate(datasets, sections["datasets"], sections["train"]))
        attempt(lambda: self._path(sections["path"]))
        pretrained = "pretrain_network_g" in sections["path"]
        self._flow_weights(sections["path"])
        if train is not None:
            trainer = TrainTranslator(model, num_gpu, pretrained, self.out)
            attempt(lambda: trainer.translate(train, sections["train"]))
        elif "train" in sections["datasets"]:
            attempt(lambda: top.fault("train", "missing, but there is datasets.train"))
        attempt(lambda: self._val(sections["val"], data, training=train is not None))
        sections["logger"] = attempt(self._logger) or Tree(self.where)
        top.finish()
        if self.faults:
            lost = [str(note) for note in self.notes if note.kind == "lost"]
            raise UserError("\n".join(dict.fromkeys([*self.faults, *lost])))
        self.out.put("network_g", arch, network.tree.where)
        for name, section in sections.items():
            if section:
                order = {"train": TrainOptions, "val": ValOptions}.get(name)
                ordered = section if order is None else _in_order(section, order)
                self.out.put(name, ordered, top.place(name))
        if self.plugins:
            self.out.put("plugins", self.plugins, self.where)
        check(self.out, RunOptions)
        command = "test" if train is None else "train"
        return Translation(self._comments() + dump(self.out), tuple(self.notes), command)

    def _attempt(self, step: Callable[[], _Result]) -> _Result | None:
        """Returns the result of a step; None if it has a fault, which is reported with the others.

        So one unknown arch does not hide the faults of the other sections.
        """
        try:
            return step()
        except UserError as error:
            self.faults.append(str(error))
            return None

    def _scale_and_name(self) -> None:
        top = self.top
        top.move("name", self.out)
        if "name" not in self.out:
            top.fault("name", "missing; is this an option file of BasicSR?")
        scale = top.take_integer("scale")
        if scale is None or scale < 1:
            top.fault("scale", f"expected a number of at least 1, got {shown(scale)}")
        self.scale = scale
        self.out.put("scale", scale, top.place("scale"))
        top.move("manual_seed", self.out, integer=True)

    def _model(self) -> str:
        model = self.top.take("model_type")
        if not isinstance(model, str) or model not in _MODELS:
            self.top.fault(
                "model_type",
                f"srtoolbox cannot translate {shown(model)}, only {', '.join(_MODELS)}; write the "
                "option file by hand (docs/training.md describes GANs)",
            )
        return model

    def _num_gpu(self) -> int | None:
        """Returns the number of GPUs that BasicSR trains on; None: not known."""
        top = self.top
        given, gpu_ids = top.take("num_gpu"), top.tree.get("gpu_ids")
        if given is not None:
            top.note("unneeded", "num_gpu", f"{LAUNCH}; train.batch_size counts all GPUs")
        if given is None and isinstance(gpu_ids, list):
            given = len(gpu_ids)
        if given == "auto":
            return None
        given = 1 if given is None else given
        if isinstance(given, bool) or not isinstance(given, int) or given < 0:
            top.fault("num_gpu", f"expected a number of GPUs or auto, got {shown(given)}")
        return max(given, 1)

    def _network(self, network: Section) -> Tree:
        """Translates the generator's options to the parameters of its arch here."""
        advice = (
            "`srtoolbox list archs` shows all; write it as a plug-in (docs/own_components.md) and "
            "give --plugin FILE"
        )
        name = network.take_type("arch", ARCH_REGISTRY.names(), advice)
        arch = Tree(network.tree.where)
        arch.put("type", name, network.place("type"))
        known = parameters_of(ARCH_REGISTRY.get(name))
        fixed = {key: 3 for key in _CHANNEL_KEYS} | dict.fromkeys(_SCALE_KEYS, self.scale)
        fixed |= _BUILT_IN.get(name, {})
        num_frame = network.tree.get("num_frame", 5)
        if network.tree.get("center_frame_idx") is not None and isinstance(num_frame, int):
            fixed["center_frame_idx"] = num_frame // 2
        own = set(known) - {"scale"}
        if all(network.tree.get(key) in (None, 3) for key in _CHANNEL_KEYS):  # the defaults
            own -= set(_CHANNEL_KEYS)
        weights = network.take("spynet_path")
        if isinstance(weights, str) and "spynet_path" not in own:
            self.flow = network, weights
        elif weights is not None:
            network.fault("spynet_path", f"expected a weight file, got {shown(weights)}")
        for key in list(network.left):
            if network.tree[key] is None:
                continue
            name_here = _OTHER_NAMES.get(name, {}).get(key, key)
            if name_here in own:
                arch.put(name_here, network.take(key), network.place(key))
            elif key in fixed:
                self._check_built_in(network, key, fixed[key], name)
        for key, value in _ARCH_DEFAULTS.get(name, {}).items():
            if key not in arch:
                arch.put(key, value, network.tree.where)
        network.finish()
        return arch

    def _check_built_in(self, network: Section, key: str, wanted: Any, arch: str) -> None:
        value = network.take(key)
        if value == wanted and isinstance(value, bool) == isinstance(wanted, bool):
            source = "the run's scale" if key in _SCALE_KEYS else f"built into {arch}"
            network.note("unneeded", key, f"{shown(value)} is {source}")
        else:
            source = "the run has scale" if key in _SCALE_KEYS else f"{arch} here always has"
            network.note("lost", key, f"it is {shown(value)}, but {source} {shown(wanted)}")

    def _path(self, out: Tree) -> None:
        path = self.top.take_section("path")
        if path is None:
            return
        path.move("pretrain_network_g", out)
        if "pretrain_network_g" in out:
            path.move("strict_load_g", out)
            place, key = path.place("param_key_g"), path.take("param_key_g", "params")
            if key == "params_ema":  # BasicSR takes params if the file has no params_ema
                text = "params_ema, or else params, is the default"
                path.note("unneeded", "param_key_g", text)
            elif key is not None:
                out.put("param_key_g", key, place)
        reasons = {"resume_state": "`srtoolbox train --resume` continues a run"}
        if "pretrain_network_g" not in out:
            unused = ("strict_load_g", "strict_load", "param_key_g")
            reasons |= dict.fromkeys(unused, "there are no weights to load")
        if path.take("resume_state") is not None:
            text = "BasicSR's training states are not read; `srtoolbox train --resume` continues"
            path.note("lost", "resume_state", f"{text} a run of this toolbox")
        path.finish(reasons)

    def _flow_weights(self, out: Tree) -> None:
        """Translates weights of a network of optical flow, which is a part of the network."""
        if self.flow is None:
            return
        network, weights = self.flow
        if "pretrain_network_g" in out:
            text = "the weights of path.pretrain_network_g contain those of SpyNet"
            network.note("unneeded", "spynet_path", text)
            return
        out.put("pretrain_network_g", weights, network.place("spynet_path"))
        out.put("strict_load_g", False, network.place("spynet_path"))

    def _val(self, out: Tree, data: DatasetTranslator, training: bool) -> None:
        val = self.top.take_section("val")
        if val is None or "save_img" not in val:  # test files of 2020 have it at the top level
            self.top.move("save_img", out)
        rules: list[tuple[bool, int]] = []
        if val is not None:
            if training:
                val.move("val_freq", out, integer=True)
            val.move("save_img", out)
            if val.take("flip_seq"):
                enhance = Tree(val.tree.where)
                enhance.put("flip_sequence", True, val.place("flip_seq"))
                out.put("enhance", enhance, val.place("flip_seq"))
            elif val.tree.get("flip_seq") is not None:
                val.note("unneeded", "flip_seq", "false is the default")
            if val.tree.get("center_frame_only") is not None:
                val.take("center_frame_only")
                val.note("unneeded", "center_frame_only", "the datasets decide which frames count")
            metrics = val.take_section("metrics")
            if metrics is not None:
                self._metrics(metrics, out, rules)
            val.finish({} if training else {"val_freq": OTHER_PHASE})
        if data.clips is None:
            return
        if "metrics" not in out:
            text = "there are no metrics; here PSNR and SSIM are computed on RGB images"
            self.notes.append(Note("differs", self.where, "val.metrics", text))
        self._protocol(out, data, *(rules[0] if rules else (False, 0)))

    def _metrics(self, metrics: Section, out: Tree, rules: list[tuple[bool, int]]) -> None:
        """Translates the metrics; ``rules`` receives whether luma is used, and the crop border."""
        found, sections = Tree(metrics.tree.where), {}
        for name in list(metrics.left):
            section = metrics.take_section(name)
            kind = None if section is None else section.take("type")
            if section is None:
                metrics.note("unneeded", name, "not set")
            elif not isinstance(kind, str) or kind not in _METRICS:
                known = "`srtoolbox list metrics` shows those of srtoolbox"
                metrics.note("lost", name, f"there is no {shown(kind)}; {known}")
            else:
                luma = section.take("test_y_channel") or False
                if not isinstance(luma, bool):
                    section.fault("test_y_channel", f"expected true or false, got {shown(luma)}")
                crop = section.take_integer("crop_border", 0) or 0
                sections[name] = section, _METRICS[kind], luma, crop
        colored = [entry for entry in sections.values() if entry[1] not in _OWN_COLOURS]
        first = next(iter(colored or sections.values()), None)
        if first is not None:
            rules.append((first[2], first[3]))
        for name, (section, kind, luma, crop) in sections.items():
            if crop != rules[0][1] or (kind not in _OWN_COLOURS and luma != rules[0][0]):
                text = "val.protocol has one colour space and crop border, those of the first"
                metrics.note("lost", name, f"{text} metric; test again with another protocol")
                continue
            spec = Tree(section.tree.where)
            spec.put("type", kind, section.place("type"))
            found.put(name, spec, metrics.place(name))
            if kind == "NIQE":
                text = "BasicSR has the published model; name its niqe_pris_params.npz in model"
                metrics.note("differs", name, text)
                if section.take("convert_to") not in (None, "y"):
                    section.note("lost", "convert_to", "NIQE here is always of luma")
            section.finish()
        if found:
            out.put("metrics", found, metrics.tree.where)
            if "psnr" not in found:
                out.put("best_metric", next(iter(found)), metrics.tree.where)

    def _protocol(self, out: Tree, data: DatasetTranslator, luma: bool, crop: int) -> None:
        """Chooses the protocol that is nearest to BasicSR's metric; notes what differs."""
        average = "clips" if data.clips and data.unequal else "images"
        equal_lengths = data.clips and not data.unequal  # means over clips and images are equal
        padding = data.padding[1] if data.padding else None
        best: tuple[Protocol, list[tuple[str, str]]] | None = None
        for protocol in PROTOCOLS.values():
            if protocol.color != ("y" if luma else "rgb") or not _is_basicsr(protocol):
                continue
            own = protocol.border(self.scale)
            differences = []
            if own != crop:
                differences.append(("crop_border", f"BasicSR's is {crop}, here it is {own}"))
            if protocol.average != average and not equal_lengths:
                text = f"BasicSR's mean is over {average}, here it is over {protocol.average}"
                differences.append(("mean", text))
            if padding is not None and padding != protocol.missing_neighbours:
                text = f"BasicSR's is {padding}, here it is {protocol.missing_neighbours}"
                differences.append(("padding", text))
            if best is None or len(differences) < len(best[1]):
                best = protocol, differences
        assert best is not None
        protocol, differences = best
        out.put("protocol", protocol.name, self.where)
        place = self.top.place("val") if "val" in self.top.tree else self.where
        for key, text in differences:
            text += f" (val.protocol: {protocol.name})"
            if key == "padding" and data.padding is not None:
                data.padding[0].note("differs", key, text)
            else:
                self.notes.append(Note("differs", place, f"val.metrics: {key}", text))

    def _logger(self) -> Tree:
        out = Tree(self.where)
        logger = self.top.take_section("logger")
        if logger is None:
            return out
        for key in ("print_freq", "save_checkpoint_freq"):
            logger.move(key, out, integer=True)
        logger.move("use_tb_logger", out)
        wandb = logger.take_section("wandb")
        if wandb is not None and wandb.tree.get("project") is not None:
            spec = Tree(wandb.tree.where)
            spec.put("type", "WandB", wandb.tree.where)
            wandb.move("project", spec)
            trackers = Tree(wandb.tree.where)
            trackers.put("wandb", spec, wandb.tree.where)
            out.put("trackers", trackers, logger.place("wandb"))
            text = "the files stay on this computer; with mode: online they are sent"
            wandb.note("differs", "project", text)
            wandb.finish({"resume_id": "`srtoolbox train --resume` continues the same run"})
        elif wandb is not None:
            logger.note("unneeded", "wandb", "not set")
        logger.finish()
        return out

    def _comments(self) -> str:
        """Returns the comment at the top of the file."""
        lines = [f"Translated from BasicSR's option file {self.file}."]
        titles = {
            "lost": "Could not be translated:",
            "differs": "Translated to another value, or with a difference:",
            "unneeded": "Not needed here:",
        }
        for kind, title in titles.items():
            found: dict[str, list[str]] = {}
            for note in self.notes:
                if note.kind == kind:
                    found.setdefault(note.text, []).append(note.key)
            if found:
                lines += ["", title]
                lines += [f"- {', '.join(keys)}: {text}" for text, keys in found.items()]
        return "".join(_comment(line) for line in lines)


def _in_order(section: Tree, options: type) -> Tree:
    """Returns a section with its keys in the order of the fields of its class here."""
    order = [field.name for field in dataclasses.fields(options)]
    ordered = Tree(section.where)
    for key in sorted(section, key=order.index):
        ordered.put(key, section[key], section.marks[key])
    return ordered


def _is_basicsr(protocol: Protocol) -> bool:
    """Returns whether a protocol computes PSNR and SSIM as BasicSR does."""
    plain = Protocol(protocol.name)
    rules = ("grey", "y_rounding", "peak", "ssim_range", "ssim_window", "round_8bit")
    rules += ("psnr_channels", "skip_frames")
    return all(getattr(protocol, rule) == getattr(plain, rule) for rule in rules)


def _comment(text: str) -> str:
    """Returns a comment of lines of up to 100 characters."""
    indent = "#   " if text.startswith("- ") else "# "
    lines = textwrap.wrap(one_line(text), 98, subsequent_indent=indent[2:], break_on_hyphens=False)
    return "".join(f"# {line}\n" for line in lines) or "#\n"
