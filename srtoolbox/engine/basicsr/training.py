"""Translates BasicSR's ``train``: optimizer, schedule, losses, parameter groups."""

from __future__ import annotations

from typing import Any

from srtoolbox.config.yaml import Tree
from srtoolbox.engine.basicsr.keys import Section, shown


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
        self._loss(train, out)
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

    def _loss(self, train: Section, out: Tree) -> None:
        section = train.take_section("pixel_opt")
        if section is None:
            train.fault("pixel_opt", "missing; srtoolbox needs at least one loss (train.losses)")
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
        losses = Tree(section.tree.where)
        losses.put("l_pix", loss, train.place("pixel_opt"))
        out.put("losses", losses, train.place("pixel_opt"))

    def _param_groups(self, train: Section, out: Tree) -> None:
        """Translates EDVR's rate for deformable convolutions and its training of TSA alone."""
        if self.model != "EDVRModel":
            unread = f"BasicSR's {self.model} does not read it"
            for key in ("tsa_iter", "dcn_lr_mul"):
                if train.take(key) is not None:
                    train.note("unneeded", key, unread)
            return
        # BasicSR trains all parameters from step tsa_iter on, and counts steps from 1.
        frozen = (train.take_integer("tsa_iter") or 0) - 1
        multiplier = train.take("dcn_lr_mul")
        groups: list[dict[str, Any]] = []
        if multiplier is not None and multiplier != 1:
            groups.append({"pattern": "dcn", "lr_mult": multiplier})
        elif multiplier is not None:
            train.note("unneeded", "dcn_lr_mul", "1 is the default")
        if frozen > 0:
            groups = [{**group, "frozen_iter": frozen} for group in groups]
            groups.append({"pattern": "^(?!.*fusion)", "frozen_iter": frozen})
        if groups:
            out.put("param_groups", groups, train.place("tsa_iter"))
