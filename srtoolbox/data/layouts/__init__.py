"""Describes the files of known datasets as data; ``data.files.find.scan`` finds them."""

from __future__ import annotations

from srtoolbox.data.layouts.base import Layout, Split
from srtoolbox.data.layouts.bursts import BURSTS
from srtoolbox.data.layouts.clips import CLIPS
from srtoolbox.data.layouts.images import IMAGES
from srtoolbox.data.layouts.satellites import SATELLITES
from srtoolbox.errors import UserError
from srtoolbox.registry import close_names

__all__ = ["ALIASES", "LAYOUTS", "Layout", "Split", "get_layout"]

LAYOUTS: dict[str, Layout] = {
    layout.name: layout for layout in (*CLIPS, *BURSTS, *IMAGES, *SATELLITES)
}

ALIASES = {"bsr": "realbsr_rgb"}


def get_layout(name: str) -> Layout:
    """Returns the layout of that name or alias.

    Raises:
        UserError: if there is none; the message lists close names and all names.
    """
    layout = LAYOUTS.get(ALIASES.get(name, name))
    if layout is not None:
        return layout
    known = [*LAYOUTS, *ALIASES]
    close = close_names(str(name), known)
    hint = f"did you mean {close}? " if close else ""
    raise UserError(f"layout '{name}': unknown; {hint}known: {', '.join(known)}")
