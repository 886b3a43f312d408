"""Steps in which losses count."""

from __future__ import annotations

import pytest

from srtoolbox.config.files import read
from srtoolbox.config.schema import OptionErrors, check
from srtoolbox.models import LossSchedule, schedule_faults


def factors(schedule: LossSchedule, steps: int) -> list[float]:
    return [schedule.factor(step) for step in range(steps)]


def test_factors() -> None:
    assert factors(LossSchedule(), 3) == [1, 1, 1]
    assert factors(LossSchedule(start=2), 4) == [0, 0, 1, 1]
    assert factors(LossSchedule(stop=2), 4) == [1, 1, 0, 0]
    assert factors(LossSchedule(start=1, warmup=4, stop=7), 8) == [0, 0.25, 0.5, 0.75, 1, 1, 1, 0]


def test_options_are_checked(tmp_path) -> None:
    file = tmp_path / "schedule.yml"
    file.write_text("start: 100\nstop: 100\n")
    with pytest.raises(OptionErrors, match=r"schedule.yml:2: stop: must be above start \(100\)"):
        check(read(file), LossSchedule)


def test_schedules_that_make_no_sense() -> None:
    early, late = LossSchedule(stop=50), LossSchedule(start=50)
    assert schedule_faults(["a", "b"], {"a": early, "b": late}, 100) == []
    assert schedule_faults(["a"], {"a": early}, 50) == []  # it stops when the training does
    assert schedule_faults(["a", "b"], {"a": early}, 100) == []
    unknown = schedule_faults(["a"], {"c": late}, 100)
    assert unknown == [("loss_schedule.c", "there is no such loss; there are: a")]
    for schedules, step in (({"a": early}, 50), ({"a": late}, 0)):
        ((key, message),) = schedule_faults(["a"], schedules, 100)
        assert key == "loss_schedule"
        assert message == f"no loss is left to train with at step {step}"
    gap = {"a": LossSchedule(stop=40), "b": late}
    assert len(schedule_faults(["a", "b"], gap, 100)) == 1
