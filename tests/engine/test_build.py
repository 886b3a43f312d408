"""Options of a run: faults, the parts that they build, and fingerprints."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from support.runs import run

from srtoolbox.archs.edsr import EDSR
from srtoolbox.config.files import dump, plain
from srtoolbox.config.load import load_options
from srtoolbox.data import SampleBursts
from srtoolbox.engine.build import (
    build_dataset,
    build_model,
    build_network,
    check_crop,
    check_scorable,
    fingerprint,
    load_pretrained,
    own_code,
)
from srtoolbox.engine.options import RunOptions, TrainOptions, ValOptions
from srtoolbox.engine.weights.load import save_weights, weights_hash
from srtoolbox.errors import UserError
from srtoolbox.metrics import get_protocol
from srtoolbox.plugins import load_plugins
from srtoolbox.registry import (
    ARCH_REGISTRY,
    DATASET_REGISTRY,
    DEGRADATION_REGISTRY,
    LOSS_REGISTRY,
    OPTIMIZER_REGISTRY,
    Registry,
)
from srtoolbox.utils.environment import digest

CPU = torch.device("cpu")

# Registry, name, code and overrides of users' own components.
OWN: dict[str, tuple[Registry, str, str, list[str]]] = {
    "loss": (
        LOSS_REGISTRY,
        "OwnLoss",
        """
import torch
from srtoolbox import LOSS_REGISTRY

@LOSS_REGISTRY.register()
class OwnLoss(torch.nn.Module):
    def __init__(self):
        super().__init__()

    def forward(self, sr, gt):
        return {number} * (sr - gt).abs().mean()
""",
        ["train.losses={own: {type: OwnLoss}}"],
    ),
    "function": (
        LOSS_REGISTRY,
        "own_loss",
        """
import torch
from srtoolbox import LOSS_REGISTRY

@LOSS_REGISTRY.register()
def own_loss():
    return torch.nn.HuberLoss(delta={number} / 255)
""",
        ["train.losses={own: {type: own_loss}}"],
    ),
    "dataset": (
        DATASET_REGISTRY,
        "OwnBursts",
        """
from srtoolbox import DATASET_REGISTRY
from srtoolbox.data import SampleBursts

@DATASET_REGISTRY.register()
class OwnBursts(SampleBursts):
    number = {number}
""",
        ["datasets.train.type=OwnBursts"],
    ),
    "degradation": (
        DEGRADATION_REGISTRY,
        "OwnDegradation",
        """
from srtoolbox import DEGRADATION_REGISTRY

@DEGRADATION_REGISTRY.register()
class OwnDegradation:
    margin = {number}
""",
        [
            "datasets.train=!delete",
            "datasets.train={type: PairedImages, dataroot_gt: gt, degradation: "
            "{type: OwnDegradation}}",
        ],
    ),
    "optimizer": (
        OPTIMIZER_REGISTRY,
        "OwnAdam",
        """
import torch
from srtoolbox import OPTIMIZER_REGISTRY

@OPTIMIZER_REGISTRY.register()
class OwnAdam(torch.optim.Adam):
    number = {number}
""",
        ["train.optim_g={type: OwnAdam, lr: 1e-3}"],
    ),
}


@contextmanager
def registered(kind: str, folder: Path, number: int) -> Iterator[list[str]]:
    """Writes and loads a component of ``OWN`` with this number; yields its overrides.

    It is removed from its registry afterwards, so that another may have its name.
    """
    registry, name, code, overrides = OWN[kind]
    folder.mkdir(exist_ok=True)
    plugin = folder / "own.py"
    plugin.write_text(code.format(number=number))
    try:
        load_plugins([str(plugin)])
        yield overrides
    finally:
        registry._entries.pop(name, None)
        registry._places.pop(name, None)


def test_sections_have_defaults(options, tmp_path: Path) -> None:
    opt = options()
    assert opt.folder == tmp_path / "experiments" / "tiny"
    assert opt.train.losses == {"l_pix": {"type": "L1Loss"}}
    assert opt.model_type == "SRModel"
    assert opt.manual_seed == 0


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("model_type=SRmodel", "model_type: .*'SRModel'"),
        ("name=a/b", "name: 'a/b' cannot be the name of a folder"),
        ("name=.hidden", "cannot be the name of a folder"),
        ("name=''", "cannot be the name of a folder"),
        ("manual_seed=-1", "manual_seed: must be >= 0"),
        ("network_g.num_feats=4", "network_g.num_feats: unknown; did you mean 'num_feat'"),
        ("network_g.type=EDRS", "network_g.type: .*'EDSR'"),
        ("datasets.train.type=SampleBurst", "datasets.train.type: .*'SampleBursts'"),
        ("datasets.val.sample.num_frame=two", "datasets.val.sample.num_frame"),
        ("trian={}", "trian: unknown; did you mean 'train'"),
    ],
)
def test_faults_are_found_before_anything_is_built(options, override: str, words: str) -> None:
    with pytest.raises(UserError, match=words):
        options(override)


def test_dumped_options_are_the_same_options(options, tmp_path: Path) -> None:
    opt = options("train.scheduler={type: MultiStepLR, milestones: [2]}", "train.grad_clip=0.5")
    copy = tmp_path / "copy.yml"
    copy.write_text(dump(opt))
    again = load_options(copy, (), RunOptions)[0]
    assert plain(again) == plain(opt)
    assert fingerprint(again) == fingerprint(opt)


class TestFingerprint:
    @pytest.mark.parametrize(
        "override",
        [
            "manual_seed=1",
            "network_g.num_feat=5",
            "train.total_iter=7",
            "train.batch_size=4",
            "train.optim_g.lr=1e-4",
            "train.grad_clip=1",
            "train.ema_decay=0.9",
            "train.precision=bf16",
            "train.num_frame_range=[1, 2]",
            "train.loss_crop_border=4",
            "train.scheduler={type: ReduceLROnPlateau}",
            "datasets.train.num_frame=3",
        ],
    )
    def test_what_changes_the_weights_changes_it(self, options, override: str) -> None:
        assert fingerprint(options(override)) != fingerprint(options())

    def test_the_content_of_given_weights_counts(self, options, tmp_path: Path) -> None:
        weights = tmp_path / "some.pth"
        override = f"path.pretrain_network_g={weights}"
        with pytest.raises(UserError, match=r"some.pth: no such weight file"):
            fingerprint(options(override))
        found = {fingerprint(options())}
        for content in (b"1", b"2"):
            weights.write_bytes(content)
            found.add(fingerprint(options(override)))
        found.add(fingerprint(options(override, "path.param_key_g=params")))
        assert len(found) == 4

    @pytest.mark.parametrize("kind", list(OWN))
    def test_the_code_of_own_components_counts(self, options, tmp_path: Path, kind: str) -> None:
        """Two files register a component of one name, with equal options and other code."""
        prints = []
        for number in (1, 2):
            with registered(kind, tmp_path / str(number), number) as overrides:
                prints.append(fingerprint(options(*overrides)))
        assert prints[0] != prints[1] != fingerprint(options())

    def test_a_run_goes_on_after_its_loss_was_mended(self, options, tmp_path: Path, caplog) -> None:
        prints = []
        for number in (1, 2):
            with registered("loss", tmp_path / str(number), number) as overrides:
                opt = options(*overrides, "name=mended")
                prints.append(fingerprint(opt))
                run(opt, resume=number > 1)
                (opt.folder / "finished.json").unlink()
        assert "the code of your own components has changed" in caplog.text
        card = json.loads((opt.folder / "run.json").read_text())
        assert (card["earlier"], card["fingerprint"]) == ([prints[0]], prints[1])
        with pytest.raises(UserError, match="holds a run with other options"):
            run(options("name=mended"), resume=True)

    def test_an_edit_after_the_import_leaves_it(self, options, tmp_path: Path) -> None:
        """The code that runs is that of the import."""
        with registered("loss", tmp_path, 1) as overrides:
            before = fingerprint(options(*overrides))
            (tmp_path / "own.py").write_text(OWN["loss"][2].format(number=22))
            assert fingerprint(options(*overrides)) == before

    def test_neither_paths_of_own_components_nor_other_ones_count(
        self, options, tmp_path: Path
    ) -> None:
        found = set()
        for number in (1, 2):
            with registered("loss", tmp_path / str(number), 0) as overrides:
                found.add(fingerprint(options(*overrides)))
                assert own_code([("loss", {"type": "L1Loss"}), ("optimizer", None)]) == []
        assert len(found) == 1

    @pytest.mark.parametrize(
        "override",
        [
            "name=other",
            "train.num_worker=2",
            "train.num_frame_range=null",
            "val.val_freq=1",
            "val.frame_use=true",
            "val.metrics={psnr: {type: PSNR}, ssim: {type: SSIM}}",
            "datasets.val=!delete",
            "logger.print_freq=1",
            "path.experiments_root=elsewhere",
            "plugins=[]",
        ],
    )
    def test_what_does_not_leaves_it(self, options, override: str) -> None:
        assert fingerprint(options(override)) == fingerprint(options())

    def test_where_degraded_samples_are_made_leaves_it(self, options) -> None:
        """A study that does not state the place keeps its hash."""
        spec = "{type: PairedImages, dataroot_gt: gt, degradation: {type: bsrgan}"
        found = {
            fingerprint(options("datasets.train=!delete", f"datasets.train={spec}{place}}}"))
            for place in ("", ", on_device: true", ", on_device: false")
        }
        assert len(found) == 1

    def test_options_younger_than_a_training_leave_it(self, options) -> None:
        """A new option at its default does not change the hash of older runs."""
        later = {"num_frame_range", "monitor", "epoch_iter", "loss_crop_border"}
        assert not later & options().train.identity.keys()
        assert digest(TrainOptions(total_iter=6).identity) == "d55ad16b2599"

    @pytest.mark.parametrize(
        "override",
        [
            "val.val_freq=2",
            "val.metrics.psnr={type: SSIM}",
            "val.protocol=basicsr-y",
            "val.enhance={self_ensemble: true, in_training: true}",
            "datasets.val.sample.num_burst=1",
            "train.monitor=train_loss",
        ],
    )
    def test_a_monitored_metric_makes_the_evaluation_decisive(self, options, override) -> None:
        plateau = ("train.scheduler={type: ReduceLROnPlateau}", "train.monitor=psnr")
        assert fingerprint(options(*plateau, override)) != fingerprint(options(*plateau))
        other = options(*plateau, "val.save_img=true", "val.metrics.ssim={type: SSIM}")
        assert fingerprint(other) == fingerprint(options(*plateau))


class TestNetwork:
    def test_weights_are_a_function_of_the_seed(self, options) -> None:
        torch.rand(3)
        one = weights_hash(build_network(options(), CPU))
        assert one == weights_hash(build_network(options(), CPU))
        assert one != weights_hash(build_network(options("manual_seed=1"), CPU))

    def test_wrong_declarations_are_found_at_the_start(self, options, monkeypatch) -> None:
        monkeypatch.setattr(EDSR, "size_multiple", "4", raising=False)
        words = r"EDSR: the attribute 'size_multiple' must be int, got '4' \(str\)"
        with pytest.raises(UserError, match=words):
            build_network(options(), CPU)
        monkeypatch.undo()
        monkeypatch.delattr(EDSR, "scales")
        with pytest.raises(UserError, match="EDSR: the attribute 'scales' is missing"):
            build_network(options(), CPU)

    def test_it_gets_the_scale_of_the_run(self, options) -> None:
        assert build_network(options("scale=2"), CPU).scale == 2
        with pytest.raises(UserError, match=r"network_g.scale is 2 but scale is 4"):
            build_network(options("network_g.scale=2"), CPU)
        with pytest.raises(UserError, match=r"EDSR.*5"):
            build_network(options("scale=5"), CPU)

    def test_pretrained_weights(self, options, tmp_path: Path) -> None:
        torch.manual_seed(9)
        source = EDSR(num_feat=4, num_block=1)
        save_weights(tmp_path / "net.pth", {}, source)
        opt = options(f"path.pretrain_network_g={tmp_path / 'net.pth'}")
        net = build_network(opt, CPU)
        assert "tensors loaded from params" in load_pretrained(opt, net)
        assert weights_hash(net) == weights_hash(source)
        assert load_pretrained(options(), net) is None

    def test_the_entry_of_pretrained_weights(self, options, tmp_path: Path) -> None:
        source, average = EDSR(num_feat=4, num_block=1), EDSR(num_feat=4, num_block=1)
        save_weights(tmp_path / "net.pth", {}, source, average)
        for key, expected in (("null", average), ("params", source)):
            path = f"path.pretrain_network_g={tmp_path / 'net.pth'}"
            opt = options(path, f"path.param_key_g={key}")
            net = build_network(opt, CPU)
            load_pretrained(opt, net)
            assert weights_hash(net) == weights_hash(expected)

    @pytest.mark.slow
    def test_pretrained_weights_that_fit_in_part(self, options, tmp_path: Path) -> None:
        save_weights(tmp_path / "net.pth", {}, EDSR(num_feat=4, num_block=2))
        path = f"path.pretrain_network_g={tmp_path / 'net.pth'}"
        opt = options(path)
        with pytest.raises(UserError, match="does not fit EDSR"):
            load_pretrained(opt, build_network(opt, CPU))
        loose = options(path, "path.strict_load_g=false")
        assert load_pretrained(loose, build_network(loose, CPU))


class TestDataset:
    def test_it_gets_the_scale_of_the_run(self, options) -> None:
        opt = options("scale=2")
        net = build_network(opt, CPU)
        assert build_dataset("train", opt.datasets.train, opt, net).scale == 2

    def test_another_scale(self, options) -> None:
        opt = options("datasets.train.scale=2")
        with pytest.raises(UserError, match=r"datasets.train: its scale is 2, the run's 4"):
            build_dataset("train", opt.datasets.train, opt, build_network(opt, CPU))

    def test_another_number_of_frames(self, options) -> None:
        opt = options("network_g=!delete", "network_g={type: EDVR, num_frame: 5, num_feat: 16}")
        net = build_network(opt, CPU)
        words = "datasets.val.sample: EDVR takes 5 frames but the dataset gives 2"
        with pytest.raises(UserError, match=words):
            build_dataset("val.sample", opt.datasets.val["sample"], opt, net)

    @pytest.fixture
    def four_bands(self, tmp_path: Path) -> str:
        """Options of images of four bands, in NPY files."""
        (tmp_path / "bands").mkdir()
        pixels = np.random.default_rng(0).integers(0, 256, (48, 48, 4), np.uint8)
        np.save(tmp_path / "bands" / "a.npy", pixels)
        return f"{{type: PairedImages, dataroot_gt: {tmp_path / 'bands'}, gt_size: 16}}"

    def test_it_gets_the_channels_of_the_network(self, options, four_bands: str) -> None:
        opt = options(
            f"datasets.test.bands={four_bands}",
            "network_g.num_in_ch=4",
            "val.protocol=bands",
        )
        net = build_network(opt, CPU)
        sample = build_dataset("test.bands", opt.datasets.test["bands"], opt, net)[0]
        assert sample["lq"].shape == (1, 4, 12, 12)
        assert sample["gt"].shape == (4, 48, 48)

    @pytest.mark.parametrize(
        ("network", "data", "words"),
        [
            ({}, {}, r"4 channels; expected 1 \(grey\) or 3 \(RGB\).*bands: \[3, 2, 1\]"),
            ({}, {"bands": [1, 2, 3]}, None),
            ({"num_in_ch": 5}, {}, "4 bands; expected 5 bands.*num_in_ch"),
            ({"num_in_ch": 4}, {"channels": 3, "bands": [1, 2, 3]}, "it has 3 channels, but .* 4"),
            ({"num_in_ch": 4}, {"bands": [1, 2, 3]}, "bands lists 3 bands, but channels is 4"),
            ({"num_in_ch": 4}, {"bands_gt": [1, 2]}, "truth has 2 channels, but EDSR returns 4"),
        ],
    )
    def test_other_channels(
        self, options, four_bands: str, network: dict, data: dict, words: str | None
    ) -> None:
        given = [f"network_g.{name}={value}" for name, value in network.items()]
        given += [f"datasets.test.bands.{name}={value}" for name, value in data.items()]
        opt = options(f"datasets.test.bands={four_bands}", *given)
        net, spec = build_network(opt, CPU), opt.datasets.test["bands"]
        if words is None:
            assert build_dataset("test.bands", spec, opt, net).channels == 3
            return
        with pytest.raises(UserError, match=rf"(?s)datasets.test.bands: .*{words}"):
            build_dataset("test.bands", spec, opt, net)

    def test_faulty_files_are_told_with_their_place(self, options, tmp_path: Path) -> None:
        spec = f"{{type: PairedImages, dataroot_gt: {tmp_path / 'none'}}}"
        opt = options(f"datasets.test.Set5={spec}")
        with pytest.raises(UserError, match=r"datasets.test.Set5: .*none: no such folder"):
            build_dataset("test.Set5", opt.datasets.test["Set5"], opt, build_network(opt, CPU))

    def test_crops_must_fit_the_network(self) -> None:
        net = EDSR(num_feat=4, num_block=1)
        check_crop(SampleBursts(gt_size=36), net)
        net.size_multiple, net.min_size = 4, 8
        check_crop(SampleBursts(gt_size=32), net)
        words = "gt_size 36 gives LR crops of 9, but EDSR takes multiples of 4 from 8 on"
        with pytest.raises(UserError, match=words):
            check_crop(SampleBursts(gt_size=36), net)
        check_crop(SimpleNamespace(scale=4), net)


class TestPlugins:
    """Components from outside that break the contract are named in one line."""

    @pytest.mark.parametrize(
        ("parents", "init", "message"),
        [
            ((), lambda self, scale=4: None, "^network_g: Own .*must derive from torch.nn.Module$"),
            (
                (torch.nn.Module,),
                lambda self, scale=4: torch.nn.Module.__init__(self),
                "^network_g: Own .*does not set its scale; add self.scale = scale$",
            ),
        ],
    )
    def test_networks(self, options, monkeypatch, parents: tuple, init, message: str) -> None:
        own = type("Own", parents, {"__init__": init, "scales": (4,)})
        monkeypatch.setitem(ARCH_REGISTRY._entries, "Own", own)
        with pytest.raises(UserError, match=message):
            build_network(options("network_g={type: Own}"), CPU)

    def test_datasets(self, options, monkeypatch) -> None:
        own = type("Own", (), {"scale": 4, "__len__": lambda self: 1})
        monkeypatch.setitem(DATASET_REGISTRY._entries, "Own", own)
        opt = options("datasets.train={type: Own}", "datasets.val={own: {type: Own}}")
        net = build_network(opt, CPU)
        with pytest.raises(
            UserError, match=r"^datasets.train: Own lacks num_frame, reference, draw$"
        ):
            build_dataset("train", opt.datasets.train, opt, net)
        with pytest.raises(UserError, match=r"^datasets.val.own: Own lacks .*, __getitem__$"):
            build_dataset("val.own", opt.datasets.val["own"], opt, net)


class TestScorable:
    """Images and clips that a metric cannot score are found before the training."""

    @staticmethod
    def images(tmp_path: Path, side: int) -> str:
        folder = tmp_path / "images"
        folder.mkdir()
        for name, size in (("large", 64), ("small", side)):
            Image.fromarray(np.zeros((size, 64, 3), np.uint8)).save(folder / f"{name}.png")
        return f"datasets.val={{set: {{type: PairedImages, dataroot_gt: {folder}}}}}"

    @pytest.mark.parametrize(
        ("metric", "protocol", "side", "words"),
        [
            ("SSIM", "basicsr-y", 16, "needs 11×11 .* crops 4 per side"),
            ("SSIM", "dstc", 12, "needs 7×7 .* crops 4 per side"),
            ("PSNR", "basicsr-y", 8, "needs 1×1 .* crops 4 per side"),
            ("PSNR", "fbanet", 60, "needs 1×1 .* crops 40 per side"),
        ],
    )
    def test_small_images(
        self, options, tmp_path: Path, metric: str, protocol: str, side: int, words: str
    ) -> None:
        opt = options(
            self.images(tmp_path, side),
            f"val.protocol={protocol}",
            f"val.metrics={{m: {{type: {metric}}}}}",
        )
        net = build_network(opt, CPU)
        spec = opt.datasets.val["set"]
        words = rf"datasets\.val\.set: .*{words}.*small\.png \(64×{side}\)"
        with pytest.raises(UserError, match=words):
            build_dataset("val.set", spec, opt, net)

    def test_images_of_the_least_size(self, options, tmp_path: Path) -> None:
        opt = options(self.images(tmp_path, 20), "val.metrics={m: {type: SSIM}}")
        build_dataset("val.set", opt.datasets.val["set"], opt, build_network(opt, CPU))

    def test_clip_metrics(self, options, tmp_path: Path) -> None:
        metric = "val.metrics={m: {type: TemporalPSNR}}"
        opt = options(self.images(tmp_path, 64), metric)
        net = build_network(opt, CPU)
        with pytest.raises(UserError, match="needs clips; PairedImages provides single images"):
            build_dataset("val.set", opt.datasets.val["set"], opt, net)
        for clip, count in (("long", 2), ("short", 1)):
            folder = tmp_path / "clips" / "GT" / clip
            folder.mkdir(parents=True)
            for t in range(count):
                Image.fromarray(np.zeros((64, 64, 3), np.uint8)).save(folder / f"{t}.png")
        text = f"datasets.val.c={{type: Clips, dataroot: {tmp_path / 'clips'}, num_frame: 1}}"
        opt = options(text, metric)
        with pytest.raises(UserError, match=r"1 clips have fewer than two .*: short"):
            build_dataset("val.c", opt.datasets.val["c"], opt, net)


@pytest.mark.parametrize(
    ("options", "channels", "words"),
    [
        ({}, 4, "metric 'psnr': protocol 'rgb' scores .* not 4 bands; choose protocol: bands"),
        ({"protocol": "basicsr-y"}, 2, "protocol 'basicsr-y' scores .* not 2 bands"),
        ({"protocol": "bands"}, 13, None),
        ({"protocol": "bands"}, 1, None),
        ({}, 1, None),
        ({}, None, None),
        ({"metrics": {"psnr": {"type": "PSNR", "bands": [4, 3, 2]}}}, 4, None),
        ({"metrics": {"psnr": {"type": "PSNR", "bands": [5]}}}, 4, "no band 5 in images with 4"),
        (
            {"protocol": "bands", "metrics": {"lpips": {"type": "LPIPS"}}},
            4,
            "metric 'lpips': it compares RGB images, not 4 bands; set its bands",
        ),
        ({"protocol": "bands", "rgb_bands": [5, 1, 2]}, 4, "val.rgb_bands: there is no band 5"),
        ({"protocol": "bands", "rgb_bands": [4, 1, 2]}, 4, None),
    ],
)
def test_bands_that_cannot_be_scored_are_found_before_a_training(options, channels, words) -> None:
    metrics = {"psnr": {"type": "PSNR"}}
    val = ValOptions(**{"metrics": metrics, **options})
    dataset = SimpleNamespace(scale=2, num_frame=1, reference=0, gt_channels=channels)
    if words is None:
        check_scorable(dataset, val, get_protocol(val.protocol))
        return
    with pytest.raises(UserError, match=words):
        check_scorable(dataset, val, get_protocol(val.protocol))


class _Bands(torch.nn.Module):
    """A network of any number of bands."""

    scales, scale = (4,), 4

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels = channels
        self.conv = torch.nn.Conv2d(channels, channels, 1)


@pytest.mark.parametrize("channels", [1, 3, 4, 13])
def test_a_discriminator_has_the_channels_of_the_ground_truth(options, channels: int) -> None:
    dataset = SimpleNamespace(reference=0, gt_channels=channels, gt_size=32)
    shapes = set()
    for kind in ("UNetDiscriminatorSN", "VGGStyleDiscriminator", "ISRDiscriminator"):
        opt = options("model_type=GANModel", f"network_d={{type: {kind}}}")
        net_d = build_model(opt, _Bands(channels), dataset).networks["d"]
        shapes.add(next(m.in_channels for m in net_d.modules() if isinstance(m, torch.nn.Conv2d)))
    assert shapes == {channels}
    opt = options("model_type=GANModel")  # the default discriminator
    assert build_model(opt, _Bands(channels), dataset).networks["d"].conv_first.in_channels == (
        channels
    )


@pytest.mark.parametrize("kind", ["PerceptualLoss", "LPIPSLoss"])
def test_bands_are_named_before_the_missing_backbone(
    options, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "empty"))
    dataset = SimpleNamespace(reference=0, gt_channels=4)
    with pytest.raises(UserError, match=rf"l_x: {kind}: needs RGB images, got 4 channels; .*bands"):
        build_model(options(f"train.losses={{l_x: {{type: {kind}}}}}"), _Bands(4), dataset)
    opt = options(f"train.losses={{l_x: {{type: {kind}, bands: [3, 2, 1]}}}}")
    with pytest.raises(UserError, match="srtoolbox fetch"):
        build_model(opt, _Bands(4), dataset)


def test_channels_that_a_loss_or_discriminator_cannot_take_are_found_at_once(options) -> None:
    class Grey(torch.nn.L1Loss):
        def check_channels(self, channels: int) -> None:
            if channels != 1:
                raise UserError(f"needs grey images, got {channels} channels")

    dataset = SimpleNamespace(reference=0, gt_channels=4)
    registry, name = LOSS_REGISTRY, "GreyForThisTest"
    registry.register(name)(Grey)
    try:
        opt = options(f"train.losses={{l_grey: {{type: {name}}}}}")
        with pytest.raises(UserError, match=r"train\.losses\.l_grey: needs grey .* got 4 channels"):
            build_model(opt, _Bands(4), dataset)
        build_model(opt, _Bands(1), SimpleNamespace(reference=0, gt_channels=1))
    finally:
        registry._entries.pop(name)
    opt = options("model_type=GANModel", "network_d={type: UNetDiscriminatorSN, num_in_ch: 3}")
    with pytest.raises(UserError, match=r"network_d\.num_in_ch is 3, but the ground truth has 4"):
        build_model(opt, _Bands(4), dataset)
    build_model(opt, _Bands(3), SimpleNamespace(reference=0))
