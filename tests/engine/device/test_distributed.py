"""Two processes that train together get the result of one with the whole batch."""

from __future__ import annotations

import multiprocessing
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from support.runs import same

from srtoolbox.engine.device import distributed
from srtoolbox.engine.device.distributed import SINGLE_PROCESS, Ranks, join
from srtoolbox.engine.training.train import train
from srtoolbox.errors import UserError
from srtoolbox.utils.files import read_lines

pytestmark = pytest.mark.skipif(
    not torch.distributed.is_available(), reason="this torch has no distributed package"
)


def free_address() -> dict[str, str]:
    """Returns a free address for processes to join, as environment variables."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1])}


def together(work: Callable[[Ranks], Any], size: int = 2) -> list[int]:
    """Runs ``work`` in ``size`` forked processes that have joined; returns their exit codes."""
    meeting = free_address()

    def one(rank: int) -> None:
        os.environ |= {
            "RANK": str(rank),
            "LOCAL_RANK": str(rank),
            "WORLD_SIZE": str(size),
            **meeting,
        }
        with join("cpu") as (ranks, _):
            work(ranks)

    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=one, args=(rank,)) for rank in range(size)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
        process.kill()
        process.join()
    return [process.exitcode for process in processes]


@pytest.mark.slow
def test_collectives() -> None:
    def work(ranks: Ranks) -> None:
        one, other = torch.full((2, 2), float(ranks.rank)), torch.tensor([3.0 * ranks.rank])
        ranks.average([one, other])
        assert (one == 1).all()
        assert other.item() == 3
        assert ranks.mean({"a": float(ranks.rank), "b": 5.0}) == {"a": 1.0, "b": 5.0}
        assert ranks.any(ranks.rank == 2)
        assert not ranks.any(False)
        assert ranks.gather([f"{ranks.rank}{i}" for i in range(3 - ranks.rank)]) == [
            *("00", "10", "20", "01", "11", "02")
        ]
        ranks.barrier()

    assert together(work, 3) == [0, 0, 0]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="lists a process's threads as Linux does")
def test_no_thread_outlives_the_group() -> None:
    """Such a thread may abort the process after its work, so that the run fails."""
    script = """
from pathlib import Path
from srtoolbox.engine.device.distributed import join
threads = lambda: {file.name for file in Path("/proc/self/task").iterdir()}
before = threads()
with join("cpu") as (ranks, _):
    import torch.distributed.nn.functional
    ranks.barrier()
    inside = threads()
    assert len(inside) > len(before), (before, inside)
after = threads()
assert after <= before, (before, inside, after)
"""
    common = {**os.environ, "OMP_NUM_THREADS": "1", "WORLD_SIZE": "2", **free_address()}
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", script],
            env={**common, "RANK": rank, "LOCAL_RANK": rank},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in ("0", "1")
    ]
    for process in processes:
        _, said = process.communicate(timeout=100)
        assert process.returncode == 0, said


def test_alone() -> None:
    values = [torch.ones(1)]
    SINGLE_PROCESS.average(values)
    assert (
        SINGLE_PROCESS.is_main,
        SINGLE_PROCESS.any(True),
        SINGLE_PROCESS.gather([1, 2]),
        values[0].item(),
    ) == (
        *(True, True, [1, 2]),
        1,
    )
    with join("cpu") as (ranks, device):
        assert (ranks, device.type) == (SINGLE_PROCESS, "cpu")


CPU = torch.device("cpu")
# After the first epoch nothing is an improvement of 10, so the rate is halved after each epoch.
PLATEAU = (
    "train.scheduler={type: ReduceLROnPlateau, factor: 0.5, patience: 0, threshold: 10, "
    "threshold_mode: abs}",
    "train.epoch_iter=2",
)
MODELS = {
    "mean": (),
    "sum": ("train.losses={l_pix: {type: L1Loss, reduction: sum}}", "train.optim_g.lr=1e-4"),
    "average, clip, accumulated": (
        "train.ema_decay=0.8",
        "train.grad_clip=0.1",
        "train.accumulate=2",
        "train.param_groups=[{pattern: '^body', frozen_iter: 2}]",
    ),
    "plateau": PLATEAU,
}


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_two_processes_are_one_with_the_whole_batch(options, tmp_path: Path, name: str) -> None:
    overrides = ("train.batch_size=4", "logger.print_freq=2", *MODELS[name])
    single = train(options("name=one", *overrides), CPU, resume=False)

    def work(ranks: Ranks) -> None:
        opt = options("name=two", *overrides)
        train(opt, CPU, resume=False, ranks=ranks)

    assert together(work) == [0, 0]
    folders = [tmp_path / "experiments" / one for one in ("one", "two")]
    ours, theirs = (
        torch.load(folder / "weights" / "net_g_latest.pth", weights_only=True) for folder in folders
    )
    key = "params_ema" if "params_ema" in ours else "params"
    for entry, value in ours[key].items():
        torch.testing.assert_close(theirs[key][entry], value, atol=1e-6, rtol=1e-5)
    assert single.step == 6
    for file in ("log.jsonl", "evaluation.jsonl"):
        one, two = (list(read_lines(folder / file)) for folder in folders)
        assert [record["step"] for record in one] == [record["step"] for record in two]
        for mine, other in zip(one, two, strict=True):
            for figure in ("l_pix", "grad_g", "psnr", "lr"):
                if figure in mine:
                    assert other[figure] == pytest.approx(mine[figure], rel=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("scheduler", [(), PLATEAU])
def test_a_stop_is_agreed_upon_and_gone_on_from(
    options, tmp_path: Path, scheduler: tuple[str, ...]
) -> None:
    overrides = ("train.batch_size=4", "logger.save_checkpoint_freq=100", *scheduler)
    whole = options("name=whole", *overrides)
    opt = options("name=stopped", *overrides)

    def uninterrupted(ranks: Ranks) -> None:
        train(whole, CPU, resume=False, ranks=ranks)

    def stopped(ranks: Ranks) -> None:
        seen = []

        def interrupt(self: Ranks, flag: bool) -> bool:
            seen.append(1)
            return usual(self, flag or (self.rank == 1 and len(seen) >= 4))

        usual, Ranks.any = Ranks.any, interrupt
        with pytest.raises(KeyboardInterrupt):
            train(opt, CPU, resume=False, ranks=ranks)

    assert together(uninterrupted) == [0, 0]
    assert together(stopped) == [0, 0]
    assert list((opt.folder / "checkpoints").iterdir())
    assert not (opt.folder / "finished.json").exists()
    assert together(lambda ranks: train(opt, CPU, resume=True, ranks=ranks)) == [
        0,
        0,
    ]
    ours, theirs = (
        torch.load(one.folder / "weights" / "net_g_latest.pth", weights_only=True)["params"]
        for one in (whole, opt)
    )
    assert all(torch.equal(theirs[key], value) for key, value in ours.items())
    if scheduler:
        states = [
            torch.load(max((one.folder / "checkpoints").iterdir()), weights_only=True)["state"]
            for one in (whole, opt)
        ]
        assert same(*(state["plateau"] for state in states))
        rates = [record["lr"] for record in read_lines(opt.folder / "log.jsonl")]
        assert rates == pytest.approx([1e-3, 5e-4, 2.5e-4])


@pytest.mark.slow
@pytest.mark.parametrize(("first", "then"), [(2, 1), (1, 2)])
def test_a_run_goes_on_with_another_number_of_processes(
    options, tmp_path: Path, first: int, then: int
) -> None:
    overrides = ("train.batch_size=4", "train.ema_decay=0.8")
    whole = train(options("name=whole", *overrides), CPU, resume=False)
    opt = options("name=parts", *overrides)

    def start(ranks: Ranks, stop: int | None) -> None:
        def interrupt(self: Ranks, flag: bool) -> bool:
            asked.append(1)
            return usual(self, flag or len(asked) == stop)

        asked: list[int] = []
        usual, Ranks.any = Ranks.any, interrupt
        try:
            train(opt, CPU, resume=True, ranks=ranks)
        except KeyboardInterrupt:
            assert stop is not None
        finally:
            Ranks.any = usual

    for size, stop in ((first, 5), (then, None)):
        if size == 1:
            start(SINGLE_PROCESS, stop)
        else:
            assert together(lambda ranks, stop=stop: start(ranks, stop)) == [0, 0]
    ours, theirs = (
        torch.load(tmp_path / "experiments" / name / "weights" / "net_g_latest.pth")
        for name in ("whole", "parts")
    )
    for key, value in ours["params_ema"].items():
        torch.testing.assert_close(theirs["params_ema"][key], value, atol=1e-6, rtol=1e-5)
    assert whole.step == 6


def test_other_commands_refuse(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UserError, match=r"without torchrun .*'jobs' spreads trainings over GPUs"):
        distributed.refuse("compare")


@pytest.mark.slow
def test_torchrun(tmp_path: Path, options) -> None:
    """Runs the documented command; a failure of one process ends the run."""
    file = tmp_path / "tiny.yml"
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += ["--nproc-per-node", "2", "-m", "srtoolbox", "train", str(file), "--device", "cpu"]
    command += ["--set", f"path.experiments_root={tmp_path}", "--set", "train.batch_size=4"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("trained 6 steps") == 1
    command += ["--set", "name=broken", "--set", "datasets.train.gt_size=4000"]
    failed = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert failed.returncode != 0
    assert "gt_size 4000" in failed.stderr
