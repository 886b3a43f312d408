"""Checks every network's output for fixed weights and a fixed input against stored values.

``regression.json`` has the expected values. After an intended change of a network or of ``SMALL``,
or for a new network, write the file again from the repository's root and check the difference::

    PYTHONPATH=.:tests python tests/archs/test_regression.py && git diff tests/archs/regression.json
"""

from __future__ import annotations

import json
import math
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from support.networks import NAMES_AND_SCALES, SMALL, outputs

from srtoolbox.archs.base import arch_info
from srtoolbox.registry import ARCH_REGISTRY

FILE = Path(__file__).with_name("regression.json")
NUM_VALUES = 8  # stored values of an output, at equal distances
TOLERANCE = 1e-4


@torch.no_grad()
def measure(name, scale):
    """Returns statistics and some values of each output of a small network."""
    net = ARCH_REGISTRY.get(name)(scale, **SMALL.get(name, {})).eval()
    for key, parameter in net.named_parameters():
        if parameter.requires_grad:
            parameter.copy_(weights(key, parameter.shape))
    image = made("input", (1, 3, 16, 32)).mul(0.2).add(0.5).clamp(0, 1)
    num_frame = arch_info(net).num_frame
    if num_frame == 1:
        lq = image
    else:  # the content moves to the right by one pixel per frame
        lq = torch.stack([image.roll(t, -1) for t in range(num_frame or 3)], 1)
    results = outputs(net, lq)
    return {key: summary(tensor.double().numpy()) for key, tensor in results.items()}


def made(key, shape):
    """Returns normally distributed numbers that depend only on the arguments."""
    values = np.random.RandomState(zlib.crc32(key.encode())).standard_normal(tuple(shape))
    return torch.from_numpy(values.astype(np.float32))


def weights(key, shape):
    """Returns values for a parameter that roughly preserve the variance of a signal."""
    if len(shape) > 1:
        return made(key, shape) / math.sqrt(math.prod(shape[1:]))
    is_gain = key.endswith("weight")  # of a normalisation
    return 0.1 * made(key, shape) + float(is_gain)


def summary(array):
    places = np.linspace(0, array.size - 1, NUM_VALUES).round().astype(int)
    values = array.ravel()[places]
    return {
        "shape": list(array.shape),
        "mean": round(float(array.mean()), 6),
        "std": round(float(array.std()), 6),
        "values": [round(float(value), 6) for value in values],
    }


def load():
    return json.loads(FILE.read_text(encoding="utf-8"))


def write():
    lines = [
        f"{json.dumps(f'{name} x{scale}')}: {json.dumps(measure(name, scale))}"
        for name, scale in NAMES_AND_SCALES
    ]
    FILE.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")


@pytest.mark.parametrize(("name", "scale"), NAMES_AND_SCALES)
def test_output_is_what_it_was(name, scale):
    expected = load().get(f"{name} x{scale}")
    assert expected, f"{name} x{scale} is not in {FILE.name}; {__file__} says how to write it"
    actual = measure(name, scale)
    assert actual.keys() == expected.keys()
    for key, then in expected.items():
        now = actual[key]
        assert now["shape"] == then["shape"]
        tolerance = TOLERANCE * max(1, then["std"])
        for kind in ("mean", "std", "values"):
            np.testing.assert_allclose(
                now[kind], then[kind], rtol=0, atol=tolerance, err_msg=f"{key}: {kind}"
            )


def test_nothing_is_expected_of_what_is_gone():
    assert set(load()) <= {f"{name} x{scale}" for name, scale in NAMES_AND_SCALES}


if __name__ == "__main__":
    torch.set_num_threads(1)
    write()
