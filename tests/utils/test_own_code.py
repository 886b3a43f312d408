"""Errors in users' own components become one line; all others pass."""

from __future__ import annotations

import pytest
import torch

from srtoolbox.archs.edsr import EDSR
from srtoolbox.errors import ComponentError, RunError, UserError
from srtoolbox.utils.own_code import calling, describe_value, is_own


class Own:
    def fail(self, error: Exception) -> None:
        raise error

    def multiply(self) -> torch.Tensor:
        return torch.ones(2, 3) @ torch.ones(2, 3)


LINE = Own.multiply.__code__.co_firstlineno + 1


def test_an_error_below_the_component_names_its_line() -> None:
    with pytest.raises(ComponentError) as caught, calling(Own(), "multiply"):
        Own().multiply()
    message = str(caught.value)
    assert message.startswith("Own.multiply (")
    assert f"test_own_code.py:{LINE}): RuntimeError: mat1 and mat2 shapes cannot be" in message
    assert message.endswith("set the environment variable SRTOOLBOX_DEBUG=1 to see the traceback")
    assert isinstance(caught.value.__cause__, RuntimeError)


def test_a_wrong_signature_names_the_method() -> None:
    words = r"test_own_code.py:\d+\): TypeError: .*argument"
    with pytest.raises(ComponentError, match=words), calling(Own(), "multiply"):
        Own().multiply(1)


@pytest.mark.parametrize("text", ["first\nsecond\n  third", "x" * 5000, ""])
def test_the_message_is_one_short_line(text: str) -> None:
    with pytest.raises(ComponentError) as caught, calling(Own(), "fail"):
        Own().fail(KeyError(text) if text else ArithmeticError())
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 700


@pytest.mark.parametrize(
    "error",
    [
        UserError("a"),
        RunError("b"),
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"),
        torch._dynamo.exc.Unsupported("c"),
    ],
)
def test_what_others_handle_passes(error: Exception) -> None:
    with pytest.raises(type(error)) as caught, calling(Own(), "fail"):
        Own().fail(error)
    assert caught.value is error


def test_interrupts_and_errors_of_the_toolbox_pass() -> None:
    with pytest.raises(KeyboardInterrupt), calling(Own(), "fail"):
        raise KeyboardInterrupt
    assert not is_own(EDSR) and not is_own(torch.nn.L1Loss()) and is_own(Own)
    with pytest.raises(ZeroDivisionError), calling(EDSR, "forward"):
        raise ZeroDivisionError


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (None, "None (is the return statement missing?)"),
        ((1, 2), "a tuple of 2"),
        ({"a": 1}, "a dict with 'a'"),
        (torch.ones(2, dtype=torch.int32), "a tensor of shape (2,) and type int32"),
        (torch.ones(2).numpy(), "an array of shape (2,) and type float32"),
        ("text", "a value of type str"),
    ],
)
def test_values_are_described(value: object, words: str) -> None:
    assert describe_value(value) == words
