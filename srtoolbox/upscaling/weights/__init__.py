"""The weights that the package contains: small EDSR networks, see docs/default_weights.md."""

from __future__ import annotations

from pathlib import Path

from srtoolbox.errors import UserError

SCALES = (2, 3, 4)


def path_of(scale: int) -> Path:
    """Returns the weight file of a scale; ``srtoolbox.load`` builds its network.

    Raises:
        UserError: if the package has no weights of this scale.
    """
    if scale not in SCALES:
        known = ", ".join(map(str, SCALES))
        raise UserError(
            f"scale {scale}: the package has weights of scale {known}; give a weight file"
        )
    return Path(__file__).with_name(f"edsr_x{scale}.safetensors")
