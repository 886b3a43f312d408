"""Measurements on tiny networks: what is reported and written, never how fast."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from srtoolbox.archs.layers import deform
from srtoolbox.bench import archs
from srtoolbox.bench.archs import ArchsOptions, measure_archs, report_archs
from srtoolbox.bench.network import build_net
from srtoolbox.bench.run import run_bench
from srtoolbox.bench.straightforward import straightforward
from srtoolbox.config.load import load_options
from srtoolbox.config.schema import build, check
from srtoolbox.errors import UserError

CPU = torch.device("cpu")
EDVR = {
    "type": "EDVR",
    "num_frame": 3,
    "num_feat": 8,
    "deformable_groups": 2,
    "num_extract_block": 1,
    "num_reconstruct_block": 1,
}
TREE = {
    "name": "tiny",
    "archs": {"EDVR": EDVR, "EDSR": {"type": "EDSR", "num_feat": 4, "num_block": 1}},
    "input": [2, 3, 3, 8, 12],
    "rounds": 2,
}
MODES = ["reference", "fp32", "fp32+channels_last", "bf16+channels_last"]


def options(**changes) -> ArchsOptions:
    return check({**TREE, **changes}, ArchsOptions)


def measure(opt: ArchsOptions) -> list:
    return [result for of_arch in measure_archs(opt, CPU) for result in of_arch]


@pytest.mark.slow
def test_every_arch_is_measured_in_every_mode() -> None:
    results = measure(options())
    assert [(one.arch, one.mode) for one in results] == [
        (arch, mode) for arch in TREE["archs"] for mode in MODES
    ]
    for one in results:
        assert len(one.forward) == len(one.training) == 2
        assert min(one.forward + one.training) > 0
        assert one.training_memory > one.forward_memory > 0
        assert one.deviation <= {"reference": 0, "bf16+channels_last": 0.05}.get(one.mode, 1e-4)
    assert results[3].deviation > 0, "bfloat16 was not used"
    assert results[7].training_memory < results[5].training_memory


def test_a_reference_without_enough_memory_does_not_end_the_others(monkeypatch) -> None:
    prepare = archs.Variant.prepare

    def run_out_of_memory(variant: archs.Variant) -> None:
        if type(variant._net).__name__.endswith("EDVR"):
            raise torch.OutOfMemoryError("CUDA out of memory")
        prepare(variant)

    monkeypatch.setattr(archs.Variant, "prepare", run_out_of_memory)
    opt = options(modes=["fp32"], rounds=1)
    results = measure(opt)
    assert [type(result).__name__ for result in results] == ["Unmeasured"] * 2 + ["Measurement"] * 2
    report = report_archs(results, opt, CPU)
    assert report.failures == ["EDVR in reference: OutOfMemoryError: CUDA out of memory"]
    (figures,) = report.tables
    assert [row[:3] for row in figures.rows[:2]] == [
        ["EDVR", "reference", "failed"],
        ["EDVR", "fp32", "no reference"],
    ]


@pytest.mark.slow
def test_other_numbers_of_bands() -> None:
    spec = {"type": "EDSR", "num_feat": 4, "num_block": 1, "num_in_ch": 4, "num_out_ch": 1}
    opt = options(archs={"EDSR": spec}, input=[1, 2, 4, 8, 12], modes=["fp32"], rounds=1)
    assert [one.deviation for one in measure(opt)] == [0, 0]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["BasicVSR", "BasicVSRPlusPlus"])
def test_networks_that_restore_all_frames(name: str) -> None:
    spec = {"type": name, "num_feat": 8, "num_block": 1, "num_flow_level": 2, "num_flow_feat": 4}
    opt = options(archs={name: spec}, input=[1, 3, 3, 8, 12], modes=["fp32"], rounds=1)
    reference, ours = measure(opt)
    assert reference.deviation == 0
    assert ours.deviation < 1e-5


@pytest.mark.slow
def test_a_network_that_makes_frames_between_those_given() -> None:
    spec = {"type": "MSTTSTVSR", "num_feat": 8, "num_frame": 3, "num_extract_block": 1}
    spec |= {"deformable_groups": 2, "patch_sizes": [4, 2]}
    opt = options(archs={"MSTTSTVSR": spec}, input=[1, 3, 3, 16, 16], modes=["fp32"], rounds=1)
    reference, ours = measure(opt)
    assert reference.deviation == 0
    assert ours.deviation < 1e-5
    assert len(ours.training) == 1


@pytest.mark.slow
def test_only_the_reference_is_computed_by_the_reference_path(monkeypatch) -> None:
    seen = []
    original = deform._by_grid_sample
    monkeypatch.setattr(deform, "_torchvision_op", lambda: ImportError("absent"))
    monkeypatch.setattr(
        deform,
        "_by_grid_sample",
        lambda x, *rest: seen.append((len(x), deform._on_reference_path)) or original(x, *rest),
    )
    measure(options(archs={"EDVR": EDVR}, modes=["fp32"]))
    assert set(seen) == {(2, True), (6, False)}  # 2 clips of 3 frames


@pytest.mark.slow
def test_the_reference_of_dstc_srnet_is_its_straightforward_form() -> None:
    spec = {"type": "DSTCSRNet", "num_feat": 8}
    opt = options(archs={"DSTC": spec}, input=[1, 3, 3, 24, 24], modes=["fp32"], rounds=1)
    reference, ours = measure(opt)
    assert (reference.mode, reference.deviation) == ("reference", 0)
    assert 0 < ours.deviation < 1e-4
    assert ours.forward_memory < reference.forward_memory / 2
    assert ours.training_memory < reference.training_memory


SWINIR = {
    "type": "SwinIR",
    "img_size": 16,
    "embed_dim": 12,
    "depths": [2, 3],
    "num_heads": [2, 3],
    "window_size": 4,
    "upsampler": "pixelshuffledirect",
}


@pytest.mark.parametrize("size", [(16, 16), (8, 20), (4, 4)])
def test_the_attention_of_swinir_written_out(size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    net = build("arch", SWINIR)
    for parameter in net.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    other, lq = straightforward(net), torch.rand(2, 3, *size)
    assert type(other).__name__ == "StraightforwardSwinIR"
    results = []
    for form in (net.train(), other.train()):
        net.zero_grad()
        torch.manual_seed(1)  # of the dropped branches
        sr = form(lq)
        sr.square().mean().backward()
        results.append((sr, [p.grad.clone() for p in net.parameters()]))
    torch.testing.assert_close(*results, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_the_reference_of_swinir_is_measured() -> None:
    opt = options(archs={"SwinIR": SWINIR}, input=[1, 3, 3, 16, 16], modes=["fp32"], rounds=1)
    reference, ours = measure(opt)
    assert (reference.mode, reference.deviation) == ("reference", 0)
    assert ours.deviation < 1e-5
    assert ours.forward_memory < reference.forward_memory


def test_threads_are_set_and_restored(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    before, seen = torch.get_num_threads(), []
    monkeypatch.setattr(archs, "_measure", lambda *_: seen.append(torch.get_num_threads()) or [])
    Path("tiny.yml").write_text(json.dumps({**TREE, "threads": 2}))
    run_bench(Path("tiny.yml"), (), CPU, "srtoolbox bench tiny.yml")
    assert (set(seen), torch.get_num_threads()) == ({2}, before)
    assert (
        json.loads(Path("experiments/bench/tiny.json").read_text())["environment"]["threads"] == 2
    )


@pytest.mark.slow
def test_results_are_reported() -> None:
    opt = options(modes=["fp32"], archs={"EDVR": EDVR})
    report = report_archs(measure(opt), opt, CPU)
    reference, ours = report.results
    assert (reference["forward_ratio"], reference["training_ratio"]) == (1, 1)
    assert ours["forward_ratio"] > 0 and ours["training_ratio"] > 0
    assert [row[:2] for row in report.tables[0].rows] == [["EDVR", "reference"], ["EDVR", "fp32"]]
    assert f"torch {torch.__version__}" in report.notes[0]


def test_missing_torchvision_is_said(monkeypatch) -> None:
    monkeypatch.setattr(deform, "_torchvision_op", lambda: ImportError("absent"))
    notes = report_archs([], options(), CPU).notes
    assert any("torchvision is missing or cannot be used" in note for note in notes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"input": [2, 4, 3, 8, 12]}, r"archs.EDVR: EDVR takes 3 frames"),
        ({"input": [2, 3, 3, 8, 10]}, r"archs.EDVR: takes sizes from 4 on in multiples of 4"),
        ({"input": [2, 3, 4, 8, 12]}, r"archs.EDVR: takes 3 channels, but is given 4; set num_in"),
        ({"archs": {"B": {"type": "Bicubic"}}}, "archs.B: has nothing to learn"),
        ({"archs": {}}, "archs: name at least one arch"),
        ({"name": "a/b"}, "name: 'a/b' cannot be the name of a folder"),
        ({"modes": ["fp32", "fp8"]}, r"modes\.1: 'fp8' is no mode; use fp32, tf32 or bf16, then"),
        ({"modes": ["compile+bf16"]}, r"modes\.0: 'compile\+bf16' is no mode"),
        ({"modes": ["bf16+graphs+graphs"]}, r"modes\.0: 'bf16\+graphs\+graphs' is no mode"),
        ({"compile_backend": "gcc"}, "compile_backend"),
        ({"input": [2, 3, 3, 8]}, "input: expected 5 values, got 4"),
    ],
)
def test_faulty_options(changes: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        measure(options(**changes))


@pytest.mark.parametrize("name", ["archs", "dstc_plus", "dstc_srnet", "swinir"])
def test_the_shipped_options_fit(name: str) -> None:
    path = Path(__file__).parents[2] / "options" / "bench" / f"{name}.yml"
    opt, _ = load_options(path, (), ArchsOptions)
    for name in opt.archs:
        build_net(name, opt.archs[name], opt.input[1:])
