"""Translates BasicSR's ``train``: optimizer, schedule, losses, parameter groups."""

from __future__ import annotations

import math
from typing import Any

from srtoolbox.config.yaml import Tree
from srtoolbox.engine.basicsr.keys import Section, shown

_CRITERIA = {"l1": "l1", "l2": "mse"}
"""Criteria of BasicSR's perceptual loss, and their names here."""


class TrainTranslator:
    """Translates the section ``train``.

    Args:
        model: BasicSR's model type.
        num_gpu: Number of GPUs that BasicSR trains on; None: not known.
        pretrained: Whether the training starts from weights.
        top: The option file's top level here; it gets ``manual_seed``.
    """

    def __init__(self, model: str, num_gpu: int | None, pretrained: bool, top: Tree) -> None:
        self.model, self.num_gpu, self.pretrained, self.top = model, num_gpu, pretrained, top

    def translate(self, train: Section, out: Tree) -> None:
        """Fills ``out`` with the options of ``train``."""
        train.move("total_iter", out, integer=True)
        if "manual_seed" not in self.top:  # files of 2020 have it here
            train.move("manual_seed", self.top, integer=True)
        train.move("optim_g", out)
        warmup = max((train.take_integer("warmup_iter") or 0) - 1, 0)
        if warmup:
            out.put("warmup_iter", warmup, train.place("warmup_iter"))
            text = f"it is {warmup} here: the steps that BasicSR's warm-up of {warmup + 1} changes"
            train.note("differs", "warmup_iter", text)
        elif train.tree.get("warmup_iter") is not None:
            train.note("unneeded", "warmup_iter", "no warm-up is the default")
        self._scheduler(train, out, warmup)
        self._losses(train, out)
        decay = train.take("ema_decay")
        if decay:
            out.put("ema_decay", decay, train.place("ema_decay"))
            if self.pretrained:
                text = "BasicSR's average starts from params_ema of the weights, here from the "
                train.note("differs", "ema_decay", text + "weights that training starts from")
        elif decay is not None:
            train.note("unneeded", "ema_decay", "no average is the default")
        self._param_groups(train, out)
        train.finish()

    def _scheduler(self, train: Section, out: Tree, warmup: int) -> None:
        section = train.take_section("scheduler")
        if section is None:
            return
        known = ("MultiStepLR", "MultiStepRestartLR", "CosineAnnealingRestartLR")
        kind = section.take_type("scheduler", known)
        spec = Tree(section.tree.where)
        if kind == "CosineAnnealingRestartLR":
            spec.put("type", kind, section.place("type"))
            self._move_integers(section, "periods", spec)
            section.move("restart_weights", spec)
            section.move("eta_min", spec)
            if warmup:  # BasicSR's periods count from the first step
                spec.put("start", warmup, train.place("warmup_iter"))
        else:
            spec.put("type", "MultiStepLR", section.place("type"))
            self._move_integers(section, "milestones", spec)
            section.move("gamma", spec)
            if warmup and "milestones" in spec:
                self._shift_milestones(section, spec, warmup)
            restarts = section.take("restarts", [0]), section.take("restart_weights", [1])
            if restarts != ([0], [1]):
                section.note(
                    "lost", "restarts", "MultiStepLR has none; use CosineAnnealingRestartLR"
                )
            elif "restarts" in section.tree or "restart_weights" in section.tree:
                section.note("unneeded", "restarts", "there is no restart after step 0")
        section.finish()
        out.put("scheduler", spec, train.place("scheduler"))

    def _move_integers(self, section: Section, key: str, spec: Tree) -> None:
        values = section.take(key)
        if not isinstance(values, list) or not all(
            isinstance(value, int | float) and not isinstance(value, bool) and value == value // 1
            for value in values
        ):
            section.fault(key, f"expected a list of steps, got {shown(values)}")
        spec.put(key, [int(value) for value in values], section.place(key))

    def _shift_milestones(self, section: Section, spec: Tree, warmup: int) -> None:
        """Counts milestones from the end of the warm-up, as torch's schedules do here."""
        milestones = [step - warmup for step in spec["milestones"]]
        kept = [step for step in milestones if step > 0]
        spec.put("milestones", kept, section.place("milestones"))
        text = f"they count from the end of the warm-up here, so {warmup} was subtracted; "
        text += f"BasicSR's rates after a warm-up stay at {warmup}/{warmup + 1} of these"
        section.note("differs", "milestones", text)
        if len(kept) < len(milestones):
            text = "those within the warm-up, where BasicSR's have no effect, are left out"
            section.note("differs", "milestones", text)

    def _losses(self, train: Section, out: Tree) -> None:
        place = train.place("pixel_opt" if "pixel_opt" in train.tree else "perceptual_opt")
        losses = Tree(place)
        pixel, perceptual = train.take_section("pixel_opt"), train.take_section("perceptual_opt")
        if pixel is not None:
            losses.put("l_pix", self._pixel_loss(pixel), train.place("pixel_opt"))
        if perceptual is not None:
            loss = self._perceptual_loss(train, perceptual)
            if loss is not None:
                losses.put("l_percep", loss, train.place("perceptual_opt"))
        if not losses:
            text = "missing; srtoolbox needs at least one loss (train.losses)"
            if perceptual is not None:
                text += ", and perceptual_opt cannot be translated"
            train.fault("pixel_opt", text)
        out.put("losses", losses, place)

    def _pixel_loss(self, section: Section) -> Tree:
        loss = Tree(section.tree.where)
        known = ("L1Loss", "MSELoss", "CharbonnierLoss")
        loss.put("type", section.take_type("pixel loss", known), section.place("type"))
        for key in ("loss_weight", "reduction", "eps"):
            section.move(key, loss)
        if loss.get("reduction") == "sum":
            place = section.place("reduction")
            if self.num_gpu is None:
                text = "num_gpu is auto: divide loss_weight by the number of GPUs of BasicSR's run"
                section.note("differs", "reduction", text)
            elif self.num_gpu > 1:
                weight = loss.get("loss_weight", 1.0)
                if isinstance(weight, int | float) and not isinstance(weight, bool):
                    loss.put("loss_weight", weight / self.num_gpu, place)
                text = (
                    f"BasicSR sums on each of {self.num_gpu} GPUs and averages over them; here the "
                    f"sum is over the whole batch, so loss_weight is divided by {self.num_gpu}"
                )
                section.note("differs", "reduction", text)
        section.finish()
        return loss

    def _perceptual_loss(self, train: Section, section: Section) -> Tree | None:
        """Translates ``perceptual_opt``; returns None if PerceptualLoss here cannot compute it."""
        if (name := section.take("type")) != "PerceptualLoss":
            text = f"only PerceptualLoss can be translated, not {shown(name)}"
            train.note("lost", "perceptual_opt", text)
            return None
        loss = Tree(section.tree.where)
        loss.put("type", "PerceptualLoss", section.place("type"))
        kind, criterion = section.take("vgg_type", "vgg19"), section.take("criterion", "l1")
        weight = _number(section, "perceptual_weight", 1.0)
        style = _number(section, "style_weight", 0.0)
        fault = None
        if kind != "vgg19":
            fault = "vgg_type", f"it is {shown(kind)}, but PerceptualLoss has vgg19 only"
        elif criterion not in tuple(_CRITERIA):  # it may be a list, which has no hash
            known = ", ".join(_CRITERIA)
            fault = "criterion", f"it is {shown(criterion)}, but PerceptualLoss has {known} only"
        elif weight <= 0 and style > 0:
            text = "it is 0, but PerceptualLoss has no style loss without a perceptual loss"
            fault = "perceptual_weight", text
        if fault is not None:
            section.note("lost", fault[0], f"{fault[1]}; the whole perceptual_opt is left out")
            return None
        if weight <= 0:
            train.note("unneeded", "perceptual_opt", "its weights are 0")
            return None
        loss.put("loss_weight", weight, section.place("perceptual_weight"))
        section.move("layer_weights", loss, "layers")
        if style > 0:  # here it is a factor beside loss_weight
            loss.put("style_weight", style / weight, section.place("style_weight"))
        if criterion != "l1":
            loss.put("criterion", _CRITERIA[criterion], section.place("criterion"))
        if section.take("use_input_norm", True) is False:
            loss.put("preprocess", "none", section.place("use_input_norm"))
        if section.take("range_norm", False):
            text = "PerceptualLoss takes images in [0, 1] as they are, not (x + 1)/2"
            section.note("lost", "range_norm", text)
        text = "VGG19 must be in torch hub's cache; fetch: true downloads it, as BasicSR does"
        section.note("differs", "vgg_type", text)
        section.finish()
        return loss

    def _param_groups(self, train: Section, out: Tree) -> None:
        """Translates the rates of EDVR's deformable convolutions and of the network of optical
        flow, and the parts that are frozen at first."""
        own = {
            "EDVRModel": ("tsa_iter", "dcn_lr_mul"),
            "VideoRecurrentModel": ("fix_flow", "flow_lr_mul"),
        }
        for key in (key for model, keys in own.items() if model != self.model for key in keys):
            if train.take(key) is not None:
                train.note("unneeded", key, f"BasicSR's {self.model} does not read it")
        if self.model not in own:
            return
        iteration, rate = own[self.model]
        # BasicSR trains all parameters from this step on, and counts steps from 1.
        frozen = max((train.take_integer(iteration) or 0) - 1, 0)
        multiplier = train.take(rate)
        groups: list[dict[str, Any]] = []
        if multiplier == 1:
            train.note("unneeded", rate, "1 is the default")
        scaled = {} if multiplier in (None, 1) else {"lr_mult": multiplier}
        ends = {"frozen_iter": frozen} if frozen else {}
        if self.model == "VideoRecurrentModel":
            if scaled or ends:
                groups.append({"pattern": "spynet", **scaled, **ends})
        else:
            if scaled:
                groups.append({"pattern": "dcn", **scaled, **ends})
            if ends:
                groups.append({"pattern": "^(?!.*fusion)", **ends})
        if groups:
            out.put("param_groups", groups, train.place(iteration))


def _number(section: Section, key: str, default: float) -> float:
    value = section.take(key, default)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
        section.fault(key, f"expected a number of at least 0, got {shown(value)}")
    return float(value)
