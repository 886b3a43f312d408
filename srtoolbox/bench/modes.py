"""Number formats, memory formats and kinds of execution in which a network is measured."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, cast, get_args

from srtoolbox.errors import UserError

Format = Literal["fp32", "tf32", "bf16"]
_WAYS = ("channels_last", "compile", "graphs")
SYNTAX = "fp32, tf32 or bf16, then any of +channels_last, +compile and +graphs"


@dataclass(frozen=True)
class Mode:
    """A way to compute a network.

    Attributes:
        precision: Number format of the forward pass.
        channels_last: Whether its memory format is channels_last.
        compile: Whether ``torch.compile`` compiles it.
        graphs: Whether its work is recorded as a CUDA graph and replayed.
    """

    precision: Format = "fp32"
    channels_last: bool = False
    compile: bool = False
    graphs: bool = False

    @property
    def needs_cuda(self) -> bool:
        """Whether other devices have no such mode."""
        return self.graphs or self.precision == "tf32"

    @staticmethod
    def parse(text: str) -> Mode:
        """Returns the mode of a text such as ``"bf16+channels_last+compile"``.

        Raises:
            UserError: if it is none.
        """
        precision, *ways = text.split("+")
        known = precision in get_args(Format) and set(ways) <= set(_WAYS)
        if not known or len(set(ways)) < len(ways):
            raise UserError(f"{text!r} is no mode; use {SYNTAX}, e.g. bf16+channels_last")
        return Mode(cast(Format, precision), *(way in ways for way in _WAYS))
