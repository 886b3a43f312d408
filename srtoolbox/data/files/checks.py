"""Checking the files of a dataset before anything is trained or scored on them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Literal

from srtoolbox.data.files.find import Fault, Item
from srtoolbox.data.files.image_info import ImageFault, ImageInfo
from srtoolbox.data.files.reader import ends_whole, image_info, read_image
from srtoolbox.data.layouts.base import Layout
from srtoolbox.errors import UserError
from srtoolbox.utils.cpu import map_threads

_COLOURS = {1: "grey", 3: "RGB", 4: "packed RAW"}


def check_items(
    items: Sequence[Item],
    *,
    scale: int,
    kind: Literal["image", "clip", "burst"],
    raw: bool = False,
    deep: bool = False,
    gt_size: int | None = None,
    expected: Layout | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> list[Fault]:
    """What is wrong with the files of a dataset, one fault per file, in the order of the items.

    A ground truth that is larger than scale × LR by less than one LR pixel is in order: the
    benchmark sets have such, and it is cut at its right and lower edge.

    Args:
        items: Images, clips or bursts, as ``scan`` finds them.
        scale: Size of the ground truth over that of LR; for RAW, over that of the mosaic, which is
            twice the packed size.
        kind: What the items are; in clips and bursts all frames must have one size and type.
        raw: Whether LR is packed RAW of four channels.
        deep: Decode every file. Otherwise headers are read, and files decoded that do not end as
            their format says.
        gt_size: Side of training crops in HR pixels; smaller images are faults.
        expected: Layout whose sizes and depth the files must have.
        progress: Is told how many files are checked, of how many.
    """
    paths = list(dict.fromkeys(path for item in items for path in (*item.gt, *item.lq)))
    infos: dict[Path, ImageInfo] = {}
    faults: dict[Path, Fault] = {}
    for count, (path, found) in enumerate(
        zip(paths, map_threads(partial(_examine, raw=raw, deep=deep), paths), strict=True), 1
    ):
        if isinstance(found, Fault):
            faults[path] = found
        else:
            infos[path] = found
        if progress is not None:
            progress(count, len(paths))
    check = _Check(infos, 2 * scale if raw else scale, kind, raw, gt_size, expected)
    for item in items:
        check.item(item, faults)
    return [faults[path] for path in paths if path in faults]


def report_faults(faults: Sequence[Fault], title: str, limit: int = 10) -> str:
    """A headline with the dataset's name and the number of faults, and a line for the first few."""
    lines = [f"{title}: {len(faults)} {'fault' if len(faults) == 1 else 'faults'}"]
    lines += [f"  {fault.path}: {fault.text}" for fault in faults[:limit]]
    if len(faults) > limit:
        lines.append(f"  … and {len(faults) - limit} more")
    return "\n".join(lines)


def raise_faults(faults: Sequence[Fault], title: str) -> None:
    """Does nothing if there are no faults.

    Raises:
        UserError: names the dataset and the first ten faults.
    """
    if faults:
        raise UserError(report_faults(faults, title))


def _examine(path: Path, raw: bool, deep: bool) -> ImageInfo | Fault:
    try:
        info = image_info(path, raw)
        if deep or not ends_whole(path):
            read_image(path, raw)
    except ImageFault as fault:
        return Fault(path, fault.kind, str(fault).removeprefix(f"{path}: "))
    except OSError as error:
        return Fault(path, "unreadable", f"cannot be read ({error.strerror})")
    return info


class _Check:
    """What must hold between the files of one item, as far as they could be read at all."""

    def __init__(
        self,
        infos: dict[Path, ImageInfo],
        factor: int,
        kind: str,
        raw: bool,
        gt_size: int | None,
        expected: Layout | None,
    ) -> None:
        self._infos, self._factor, self._kind = infos, factor, kind
        self._raw, self._gt_size, self._expected = raw, gt_size, expected

    def item(self, item: Item, faults: dict[Path, Fault]) -> None:
        """Adds the item's faults; a file keeps the first that is found."""
        for rule in (self._channels, self._frames, self._layout, self._scale, self._room):
            # Each rule sees only what is in order so far, so that one fault has no sequel.
            sound = [path for path in (*item.gt, *item.lq) if path not in faults]
            for fault in rule(item, sound):
                faults.setdefault(fault.path, fault)

    def _channels(self, item: Item, sound: list[Path]) -> Iterator[Fault]:
        for path in sound:
            channels = self._infos[path].channels
            wanted = (1, 3)
            if self._raw:
                wanted = (4,) if path in item.lq else (3,)
            if channels not in wanted:
                names = " or ".join(_COLOURS[number] for number in wanted)
                yield Fault(path, "wrong channels", f"{_COLOURS[channels]}; expected {names}")
        for gt, lq in self._pairs(item, sound):
            if not self._raw and self._infos[gt].channels == 3 and self._infos[lq].channels == 1:
                yield Fault(lq, "wrong channels", f"grey; expected RGB, which {gt} is")

    def _frames(self, item: Item, sound: list[Path]) -> Iterator[Fault]:
        if self._kind == "image":
            return
        for side in (item.gt, item.lq):
            frames = [path for path in side if path in sound]
            if len(frames) < 2:
                continue
            # What most frames have is taken for right.
            sizes = Counter(self._infos[path][1:3] for path in frames)
            forms = Counter(
                (self._infos[path].channels, self._infos[path].dtype) for path in frames
            )
            size, form = (counter.most_common(1)[0][0] for counter in (sizes, forms))
            for path in frames:
                info = self._infos[path]
                if info[1:3] != size:
                    yield Fault(
                        path,
                        "mixed sizes",
                        f"{_size(info)}; expected {_shown(size)} as the other frames of {item.key}",
                    )
                elif (info.channels, info.dtype) != form:
                    yield Fault(
                        path,
                        "mixed types",
                        f"{info.dtype}, {_COLOURS[info.channels]}; expected {form[1]}, "
                        f"{_COLOURS[form[0]]} as the other frames of {item.key}",
                    )

    def _layout(self, item: Item, sound: list[Path]) -> Iterator[Fault]:
        layout = self._expected
        if layout is None:
            return
        dtype = "uint8" if layout.bit_depth <= 8 else "uint16"
        for path in sound:
            info = self._infos[path]
            size = layout.lq_size if path in item.lq else layout.gt_size
            if size is not None and info[1:3] != size:
                text = f"{_size(info)}; expected {_shown(size)}, as {layout.title} has"
                yield Fault(path, "wrong size", text)
            elif path in item.lq and info.dtype != dtype:
                text = f"{info.dtype}; expected {dtype}, as {layout.title} has"
                yield Fault(path, "wrong depth", text)

    def _scale(self, item: Item, sound: list[Path]) -> Iterator[Fault]:
        for gt, lq in self._pairs(item, sound):
            large, small = self._infos[gt], self._infos[lq]
            wanted = large.height // self._factor, large.width // self._factor
            if small[1:3] != wanted:
                yield Fault(
                    lq,
                    "wrong scale",
                    f"{_size(small)}; expected {_shown(wanted)}, for {gt} is {_size(large)} and "
                    f"the scale {self._factor}",
                )

    def _room(self, item: Item, sound: list[Path]) -> Iterator[Fault]:
        side, factor = (item.gt, 1) if item.gt else (item.lq, self._factor)
        for path in side:
            if path not in sound:
                continue
            info = self._infos[path]
            usable = [length * factor // self._factor * self._factor for length in info[1:3]]
            if not min(usable):
                yield Fault(path, "too small", f"{_size(info)}; smaller than scale {self._factor}")
            elif self._gt_size is not None and min(usable) < self._gt_size:
                wanted = self._gt_size // factor
                yield Fault(
                    path,
                    "too small",
                    f"{_size(info)}; expected at least {wanted}×{wanted} (gt_size "
                    f"{self._gt_size}); lower gt_size or leave it out",
                )

    def _pairs(self, item: Item, sound: list[Path]) -> list[tuple[Path, Path]]:
        """HR and LR files that show the same; of a burst, one stands for all its frames."""
        if len(item.gt) == len(item.lq):
            pairs = list(zip(item.gt, item.lq, strict=True))
            return [(gt, lq) for gt, lq in pairs if gt in sound and lq in sound]
        gt = next((path for path in item.gt if path in sound), None)
        lq = next((path for path in item.lq if path in sound), None)
        return [] if gt is None or lq is None else [(gt, lq)]


def _size(info: ImageInfo) -> str:
    return _shown(info[1:3])


def _shown(size: tuple[int, int]) -> str:
    """Width × height, the order in which people give it."""
    return f"{size[1]}×{size[0]}"
