"""The weights that the package brings: small EDSR networks for ×2, ×3 and ×4."""

from __future__ import annotations

from pathlib import Path

SCALES = (2, 3, 4)


def path_of(scale: int) -> Path:
    """Returns the weight file for one of ``SCALES``."""
    return Path(__file__).with_name(f"edsr_x{scale}.safetensors")
