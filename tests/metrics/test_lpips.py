"""LPIPS with a made-up backbone: how its weights are found, loaded and used."""

from __future__ import annotations

import subprocess
import sys
import warnings

import pytest
import torch
from support.backbones import write_backbone

from srtoolbox.errors import UserError
from srtoolbox.metrics import LPIPS, MetricUnavailable, Protocol, get_protocol
from srtoolbox.metrics import lpips as lpips_metric
from srtoolbox.utils.imagenet import LPIPS_BACKBONES, lpips_network

_PLAIN = Protocol("t")


@pytest.fixture(scope="module")
def features():
    """AlexNet features with random weights: only their shapes matter here."""
    pytest.importorskip("lpips")
    models = pytest.importorskip("torchvision.models")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return models.AlexNet(num_classes=1).features


@pytest.fixture
def torch_home(tmp_path, monkeypatch):
    """An empty torch hub cache."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    return tmp_path


@pytest.fixture
def weights(torch_home, features):
    file = torch_home / "hub/checkpoints/alexnet-owt-7be5be79.pth"
    file.parent.mkdir(parents=True)
    torch.save({f"features.{key}": value for key, value in features.state_dict().items()}, file)
    return file


def _pair() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return tuple(torch.rand(3, 40, 48, generator=generator) for _ in range(2))


@pytest.mark.slow
def test_distance(weights):
    metric, (sr, gt) = LPIPS(), _pair()
    assert metric.available() is None
    forward = metric(sr, gt, protocol=_PLAIN, scale=4)
    assert forward > 0
    assert metric(gt, sr, protocol=_PLAIN, scale=4) == pytest.approx(forward, rel=1e-5)
    assert metric(gt, gt, protocol=_PLAIN, scale=4) == 0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("net", "lpips_range"),
    [("alex", "signed"), ("alex", "unit"), ("vgg", "signed"), ("squeeze", "signed")],
)
def test_agrees_with_the_package(torch_home, monkeypatch, net, lpips_range):
    import lpips

    # The classifiers behind the features are not used, and VGG's takes seconds to be drawn.
    monkeypatch.setattr(torch.nn.Linear, "reset_parameters", lambda self: None)
    monkeypatch.setattr(torch.nn.init, "normal_", lambda tensor, *_, **__: tensor)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = lpips.LPIPS(net=net, pnet_rand=True, verbose=False)
    state = {}
    for key, value in theirs.net.state_dict().items():  # "slice2.3.weight"
        state["features." + key.partition(".")[2]] = value
    file = torch_home / "hub/checkpoints" / LPIPS_BACKBONES[net].file
    file.parent.mkdir(parents=True)
    torch.save(state, file)
    sr, gt = _pair()
    x, y = ((image * 255).round()[None, :, 2:-2, 2:-2] / 255 for image in (sr, gt))
    if lpips_range == "signed":
        x, y = 2 * x - 1, 2 * y - 1
    protocol = Protocol("t", color="y", crop_border=2, lpips_range=lpips_range)  # RGB all the same
    metric = LPIPS(net)
    ours = metric(sr, gt, protocol=protocol, scale=4)
    assert ours == pytest.approx(theirs(x, y).item(), rel=1e-5)
    # The features of the ground truth are known now, and another result does not change them.
    assert metric(sr.flip(1), gt, protocol=protocol, scale=4) != ours
    assert metric(sr, gt, protocol=protocol, scale=4) == ours


@pytest.mark.parametrize("room", [0, 10, 12])
def test_features_of_ground_truths_are_computed_once(weights, monkeypatch, room):
    """As long as there is room for them; the distances are those of the network, bit for bit."""
    metric, generator = LPIPS(), torch.Generator().manual_seed(2)
    network, seen = lpips_network("alex", torch.device("cpu")), []
    pairs = [torch.rand(2, 3, 40, 48, generator=generator) for _ in range(12)]
    prepared = [(pair.double() * 255).round().float() / 255 for pair in pairs]
    with torch.inference_mode():
        wanted = [network(x[None], y[None], normalize=True).item() for x, y in prepared]
        size = lpips_metric._num_bytes(network.net(prepared[0][:1]))
    monkeypatch.setattr(lpips_metric, "_MEMORY_SIZE", room * size)
    lpips_metric._with_memory.cache_clear()
    with network.net.register_forward_hook(lambda *_: seen.append(1)):
        for _ in range(2):
            assert [metric(*pair, protocol=_PLAIN, scale=4) for pair in pairs] == wanted
    assert len(seen) == (3 if room == 12 else 4) * len(pairs)
    memory = lpips_metric._with_memory(network).net
    assert len(memory._known) == room and memory._size == room * size


def test_an_error_between_two_images_does_no_harm(weights):
    metric, (sr, gt) = LPIPS(), _pair()
    wanted = metric(sr, gt, protocol=_PLAIN, scale=4)
    network = lpips_network("alex", torch.device("cpu"))
    with network.net.register_forward_pre_hook(_fail), pytest.raises(MemoryError):
        metric(sr, gt, protocol=_PLAIN, scale=4)
    assert metric(sr, gt, protocol=_PLAIN, scale=4) == wanted


def _fail(*_: object) -> None:
    raise MemoryError


@pytest.mark.slow
def test_the_distances_of_dstcs_authors(lpips_alex, dstc_pairs):
    for sr, gt, golden in dstc_pairs:
        ours = LPIPS()(sr, gt, protocol=get_protocol("dstc"), scale=4)
        assert ours == pytest.approx(golden["lpips_alex"], abs=1e-5)


@pytest.mark.slow
def test_the_form_and_place_of_the_file_do_not_matter(torch_home, tmp_path, monkeypatch):
    pytest.importorskip("lpips")
    whole = write_backbone(tmp_path / "whole.pth", whole=True)
    part = write_backbone(tmp_path / "part.pth")
    sr, gt = _pair()
    first, second = (LPIPS(backbone=file) for file in (whole, part))
    value = first(sr, gt, protocol=_PLAIN, scale=4)
    assert value == second(sr, gt, protocol=_PLAIN, scale=4)
    options = {"type": "LPIPS", "backbone": str(whole)}
    identity = first.identity(options)
    assert identity == {"type": "LPIPS", "backbone": first.source()["content"]}
    assert identity == second.identity({"type": "LPIPS"})
    monkeypatch.setenv(
        "SRTOOLBOX_LPIPS_BACKBONE", str(write_backbone(tmp_path / "other.pth", seed=1))
    )
    other = LPIPS()
    assert other(sr, gt, protocol=_PLAIN, scale=4) != value
    assert other.identity(options) != identity
    assert LPIPS(net="vgg").identity({"type": "LPIPS"}) == {"type": "LPIPS"}  # it has no file
    with pytest.raises(UserError, match=r"none\.pth: no such weight file"):
        LPIPS(backbone=tmp_path / "none.pth")


def test_grey_images_count_as_rgb(weights):
    sr, gt = (image[:1] for image in _pair())
    grey = LPIPS()(sr, gt, protocol=get_protocol("matlab-y"), scale=2)
    colour = LPIPS()(
        sr.expand(3, -1, -1), gt.expand(3, -1, -1), protocol=get_protocol("matlab-y"), scale=2
    )
    assert grey == colour


def test_bands_and_masks(weights):
    sr, gt = (torch.cat([image, image[:1]]) for image in _pair())
    options = {"protocol": Protocol("t", color="bands", grey="direct"), "scale": 4}
    metric = LPIPS(bands=[4, 2, 3])
    expected = LPIPS()(sr[[3, 1, 2]], gt[[3, 1, 2]], protocol=_PLAIN, scale=4)
    assert metric(sr, gt, **options) == expected
    mask = torch.ones(1, 40, 48, dtype=torch.bool)
    mask[:, 5:30, 7:40] = False
    filled = torch.where(mask, sr, gt)
    value = metric(sr, gt, mask=mask, **options)
    assert value == metric(filled, gt, **options) != expected
    assert value == metric(torch.where(mask, sr, torch.rand(4, 1, 1)), gt, mask=mask, **options)


def test_leaves_no_trace(weights, capfd):
    """Nothing printed, nothing warned, the run's random numbers and gradients untouched."""
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        sr, gt = (image.requires_grad_() for image in _pair())
        LPIPS()(sr, gt, protocol=_PLAIN, scale=4)
    assert torch.rand(1) == expected
    assert sr.grad is None
    assert capfd.readouterr() == ("", "")


def test_missing_weights_say_what_to_put_where(torch_home):
    pytest.importorskip("lpips")
    metric = LPIPS()
    message = (
        r"LPIPS needs alexnet-owt-7be5be79\.pth in .*hub/checkpoints; run `srtoolbox fetch lpips`, "
        r"or name the file with the option backbone or the variable SRTOOLBOX_LPIPS_BACKBONE"
    )
    with pytest.raises(MetricUnavailable, match=message) as caught:
        metric(*_pair(), protocol=_PLAIN, scale=4)
    assert str(caught.value) == metric.available()
    assert "\n" not in str(caught.value)


def test_fetch_tries_once(torch_home, monkeypatch):
    pytest.importorskip("lpips")
    calls = []

    def no_network(url, target, **_):
        calls.append((url, target))
        raise OSError("no route to host")

    monkeypatch.setattr(torch.hub, "download_url_to_file", no_network)
    metric = LPIPS(net="squeeze", fetch=True)
    assert metric.available() is None
    for _ in range(2):
        with pytest.raises(MetricUnavailable, match=r"squeezenet1_1.*no route to host"):
            metric(*_pair(), protocol=_PLAIN, scale=4)
    assert len(calls) == 1
    assert "no route" in metric.available()


@pytest.mark.parametrize("content", [b"", b"<html>not found</html>", {"conv.weight": 1}, 7])
def test_a_wrong_file_is_named(weights, content):
    if isinstance(content, bytes):
        weights.write_bytes(content)
    else:
        torch.save(content, weights)
    with pytest.raises(MetricUnavailable, match=r"alexnet-owt-7be5be79\.pth.*fetch lpips"):
        LPIPS()(*_pair(), protocol=_PLAIN, scale=4)


def test_small_images_are_named(weights):
    image = torch.rand(3, 31, 31)
    assert LPIPS()(image, image, protocol=_PLAIN, scale=4) == 0
    with pytest.raises(UserError, match=r"31×31 pixels.*30×31"):
        LPIPS()(image[:, 1:], image[:, 1:], protocol=_PLAIN, scale=4)


def test_unknown_net():
    with pytest.raises(
        UserError, match="LPIPS: net must be 'alex', 'vgg' or 'squeeze', got 'resnet'"
    ):
        LPIPS(net="resnet")


@pytest.mark.slow
def test_heavy_packages_load_on_first_use():
    code = "import sys, srtoolbox.metrics; print({'lpips', 'torchvision'} & set(sys.modules))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "set()"
