"""Lists of values of an option become methods of a study."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from srtoolbox.comparison.options import StudyOptions
from srtoolbox.comparison.study.plan import list_jobs
from srtoolbox.config.files import dump, plain, read
from srtoolbox.config.json_schema import json_schema
from srtoolbox.config.load import load_options
from srtoolbox.errors import UserError

STUDY = """
name: swept
datasets:
  train: {type: SampleBursts, num_frame: 3, gt_size: 32}
  test: {sample: {type: SampleBursts, split: val, num_frame: 3, gt_size: 32}}
train: {total_iter: 6, optim_g: {type: Adam, lr: 1e-3}}
methods:
  Bicubic: {network_g: {type: Bicubic}}
  EDSR: {network_g: {type: EDSR, num_feat: 4, num_block: 1}}
  TDAN: {network_g: {type: TDAN}}
sweep:
  EDSR:
    train.optim_g.lr: [1e-4, 0.0025]
    network_g: {num_feat: [16, 32]}
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "study.yml"
    file.write_text(STUDY)
    return file


def test_every_combination_is_a_method_in_the_place_of_the_swept_one(path: Path) -> None:
    opt, tree = load_options(path, (), StudyOptions)
    assert list(opt.methods) == [
        "Bicubic",
        "EDSR lr=1e-4 num_feat=16",
        "EDSR lr=1e-4 num_feat=32",
        "EDSR lr=0.0025 num_feat=16",
        "EDSR lr=0.0025 num_feat=32",
        "TDAN",
    ]
    jobs = {job.method: job for job in list_jobs(opt, tree)}
    run = jobs["EDSR lr=0.0025 num_feat=16"].opt
    assert run.network_g == {"type": "EDSR", "num_feat": 16, "num_block": 1}
    assert run.train is not None and run.train.optim_g == {"type": "Adam", "lr": 0.0025}
    assert jobs["EDSR lr=1e-4 num_feat=16"].deviations == ["optim_g.lr 0.0001 instead of 0.001"]
    assert not opt.sweep


def test_the_resolved_file_has_the_methods_and_can_be_run_again(path: Path) -> None:
    opt, tree = load_options(path, (), StudyOptions)
    path.write_text(dump(tree))
    again, _ = load_options(path, (), StudyOptions)
    assert again == opt and "sweep" not in yaml.safe_load(path.read_text())


@pytest.mark.parametrize(
    ("values", "names"),
    [
        ("{train.ema_decay: [0, 0.999]}", ["ema_decay=0", "ema_decay=0.999"]),
        ("{network_g.upscale: [true]}", None),
        ("{model_type: [SRModel]}", ["model_type=SRModel"]),
        ("{train.grad_clip: [null, 100000.0]}", ["grad_clip=null", "grad_clip=1e5"]),
        (
            "{train.scheduler: [null, {type: StepLR, step_size: 2}]}",
            ["scheduler=null", "scheduler=StepLR"],
        ),
        (
            "{train.scheduler: [{type: StepLR, step_size: 2}, {type: StepLR, step_size: 3}]}",
            ["scheduler=1", "scheduler=2"],
        ),
        (
            "{train.optim_g.lr: [1e-4], train.optim_d: {type: [Adam], lr: [2e-4]}}",
            ["optim_g.lr=1e-4 type=Adam optim_d.lr=2e-4"],
        ),
        ("{train.optim_g.betas: [[0.9, 0.99]]}", ["betas=[0.9, 0.99]"]),
    ],
)
def test_names(path: Path, values: str, names: list[str] | None) -> None:
    overrides = ["sweep=!delete", f"sweep={{TDAN: {values}}}"]
    if names is None:
        with pytest.raises(UserError, match="unknown"):
            load_options(path, overrides, StudyOptions)
        return
    opt, tree = load_options(path, overrides, StudyOptions)
    assert [name for name in opt.methods if "TDAN" in name] == [f"TDAN {name}" for name in names]
    list_jobs(opt, tree)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("EDS.train.optim_g.lr=[1]", r"sweep\.EDS: no such method; did you mean 'EDSR'\?"),
        ("EDSR=3", r"sweep\.EDSR: expected a mapping from options to lists of values"),
        ("EDSR.network_g.num_feat=3", r"network_g\.num_feat: expected a list of values, got 3"),
        ("EDSR.network_g.num_feat=[]", r"network_g\.num_feat: name at least one value"),
        ("EDSR.network_g.num_feat=[3, 3]", r"network_g\.num_feat: 3 is listed twice"),
        ("EDSR.train.ema_decay=[0, 0.0]", r"train\.ema_decay: 0 is listed twice"),
        ("EDSR.network_g.num_feat=[x, 3]", r"num_feat: expected an integer, got 'x'"),
        ("EDSR.network_g.num_fea=[1, 3]", r"network_g\.num_fea: unknown; did you mean 'num_feat'"),
        ("EDSR.trian.ema_decay=[0]", r"trian: unknown; did you mean 'train'\?"),
        ("EDSR.train.optim_g.lrr=[1, 2]", r"train\.optim_g\.lrr: unknown; did you mean 'lr'\?"),
        ("TDAN=!delete", "nothing to delete"),
    ],
)
def test_a_fault_is_named_once_with_its_place(path: Path, override: str, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        list_jobs(*load_options(path, [f"sweep.{override}"], StudyOptions))
    (line,) = str(caught.value).splitlines()
    assert line.startswith(f"--set sweep.{override}: ")


def test_a_fault_in_the_file_has_its_line(path: Path) -> None:
    path.write_text(STUDY.replace("num_feat: [16, 32]", "num_feat: [16, 0.5]"))
    with pytest.raises(UserError, match=r"study\.yml:14: network_g\.num_feat: expected an integer"):
        load_options(path, (), StudyOptions)


def test_a_sweep_must_not_make_a_method_that_exists(path: Path) -> None:
    name = "EDSR lr=1e-4 num_feat=32"
    path.write_text(STUDY.replace("  TDAN:", f"  {name}:"))
    with pytest.raises(UserError, match=f"there are two methods '{name}'"):
        load_options(path, (), StudyOptions)


def test_a_list_that_would_replace_another_one(path: Path) -> None:
    axes = "{network_g.num_feat: [4, 8], network_g: [{type: EDSR}, {type: RCAN}]}"
    text = STUDY[: STUDY.index("sweep:")]
    path.write_text(text.replace("\ndatasets", f"\nsweep:\n  EDSR: {axes}\ndatasets"))
    message = r"study\.yml:4: sweep\.EDSR\.network_g: would replace network_g\.num_feat; write"
    with pytest.raises(UserError, match=message):
        load_options(path, (), StudyOptions)


def test_a_nested_key_overrides_a_dotted_one(path: Path) -> None:
    opt, _ = load_options(path, ["sweep.EDSR.train.optim_g.lr=[3]"], StudyOptions)
    assert [name for name in opt.methods if "lr=" in name] == [
        "EDSR lr=3 num_feat=16",
        "EDSR lr=3 num_feat=32",
    ]


def test_options_of_a_component_that_is_swept_too(path: Path) -> None:
    axes = "{network_g: [{type: EDSR}, {type: RCAN}], network_g.num_feat: [16, 32]}"
    overrides = ["sweep=!delete", f"sweep={{EDSR: {axes}}}"]
    jobs = list_jobs(*load_options(path, overrides, StudyOptions))
    found = {job.method: job.opt.network_g for job in jobs if "EDSR " in job.method}
    assert list(found)[-1] == "EDSR network_g=RCAN num_feat=32"
    assert found["EDSR network_g=RCAN num_feat=32"] == {"type": "RCAN", "num_feat": 32}


def test_a_key_of_many_parts_is_refused(path: Path) -> None:
    path.write_text(STUDY.replace("train.optim_g.lr:", f"train{'.a' * 400}:"))
    with pytest.raises(UserError, match="nested more than 50 levels") as caught:
        load_options(path, (), StudyOptions)
    assert len(str(caught.value)) < 1000


def test_there_is_a_limit(path: Path) -> None:
    values = list(range(1, 18))
    sweep = f"sweep.TDAN={{train: {{total_iter: {values}, epoch_iter: {values}}}}}"
    with pytest.raises(UserError, match=r"sweep\.TDAN: gives 289 methods; at most 256"):
        load_options(path, [sweep], StudyOptions)


def test_editors_know_the_options(path: Path) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    validator = jsonschema.Draft202012Validator(json_schema(StudyOptions))
    content = plain(read(path))
    content["launcher"] = {"partition": "gpu", "setup": ["module load cuda"]}
    assert validator.is_valid(content)
    assert not validator.is_valid({**content, "launcher": {"partitio": "gpu"}})
    assert not validator.is_valid({**content, "sweep": {"EDSR": 3}})
