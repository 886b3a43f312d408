"""Checks the files of a dataset before training or evaluation."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from pathlib import Path

from srtoolbox.data.files.find import Fault, Item
from srtoolbox.data.files.image_info import PLAIN, ImageFault, ImageInfo, ReadOptions, bands_text
from srtoolbox.data.files.reader import MASK_OPTIONS, ends_whole, open_file, read_opened
from srtoolbox.data.files.windows import WindowedImage, is_large, open_image
from srtoolbox.data.layouts.base import Layout
from srtoolbox.errors import UserError
from srtoolbox.utils.console import Progress
from srtoolbox.utils.cpu import map_threads

_State = tuple[int, int, int, int] | None
_memory: ContextVar[_Memory | None] = ContextVar("checked files", default=None)


@contextmanager
def remember_checked_files() -> Iterator[None]:
    """Inside, ``check_items`` opens a file that it has checked before only if the file changed.

    It is for a command that checks the same files several times.
    """
    token = _memory.set(_Memory())
    try:
        yield
    finally:
        _memory.reset(token)


class _Memory:
    """The forms of checked files, with the states by which changes are recognised."""

    def __init__(self) -> None:
        self._known: dict[tuple[Path, ReadOptions], tuple[_State, ImageInfo]] = {}

    def states(self, paths: Iterable[Path]) -> dict[Path, _State]:
        """Returns device, inode, size and time of change of files; None of a missing file."""
        return {path: _state(path) for path in paths}

    def keep(self, path: Path, options: ReadOptions, state: _State, info: ImageInfo) -> None:
        """Keeps the form of a file that was read with some options."""
        self._known[path, options] = state, info

    def recall(
        self, jobs: Mapping[Path, ReadOptions], paths: Iterable[Path]
    ) -> dict[Path, ImageInfo]:
        """Returns the forms of those files that are as they were when they were read."""
        found = {}
        for path in paths:
            state, info = self._known.get((path, jobs[path]), (None, None))
            if info is not None and state is not None and state == _state(path):
                found[path] = info
        return found


def _state(path: Path) -> _State:
    try:
        state = path.stat()
    except OSError:
        return None
    return state.st_dev, state.st_ino, state.st_size, state.st_mtime_ns


def check_items(
    items: Sequence[Item],
    layout: Layout,
    scale: int,
    *,
    deep: bool = False,
    gt_size: int | None = None,
    training: bool = False,
    options: ReadOptions = PLAIN,
    lq_options: ReadOptions | None = None,
    known: dict[Path, ImageInfo] | None = None,
    progress: Progress = lambda done, total: None,
) -> list[Fault]:
    """Checks the files of a dataset.

    A ground truth may be larger than scale × LR by less than one LR pixel: some images of the
    benchmark sets are, and they are cut at the right and lower edge.

    Args:
        items: Images, clips or bursts, as ``scan`` finds them.
        layout: Layout of the files; in clips and bursts all frames must have the same size and
            type.
        scale: Size of the ground truth divided by that of LR; for RAW, by that of the mosaic, which
            is twice the packed size.
        deep: Decode every file. Otherwise only headers are read, and only those files are decoded
            that lack the end marker or length of their format.
        gt_size: Side of training crops in HR pixels; smaller images are faults.
        training: The images will be stacked to batches, so all must have one bit depth.
        options: How ground truth and LR are read; ``raw`` is that of the layout.
        lq_options: How LR is read; None: as the ground truth.
        known: Forms of files that are not to be read again, by path; gets those of the others. The
            caller knows that these files are as they were.
        progress: Called with the number of files checked so far and the number of all files.

    Returns:
        At most one fault per file, in the order of the items.
    """
    gt_options = replace(options, raw=layout.raw)
    lq_options = gt_options if lq_options is None else replace(lq_options, raw=layout.raw)
    jobs = {path: gt_options for item in items for path in item.gt}
    jobs |= {path: lq_options for item in items for path in item.lq if path not in jobs}
    masks = [path for item in items for path in (*item.mask, *item.lq_mask)]
    jobs |= {path: MASK_OPTIONS for path in masks if path not in jobs}
    # In the order of the items.
    paths = list(dict.fromkeys(path for item in items for path in _paths(item)))
    known = {} if known is None else known
    memory = _memory.get()
    if memory is not None and not deep:
        known |= memory.recall(jobs, [path for path in paths if path not in known])
    unread = [path for path in paths if path not in known]
    states = {} if memory is None else memory.states(unread)  # before the files are read
    faults: dict[Path, Fault] = {}
    examined = map_threads(lambda path: examine_file(path, jobs[path], deep), unread)
    for count, (path, found) in enumerate(zip(unread, examined, strict=True), 1):
        if isinstance(found, Fault):
            faults[path] = found
        else:
            known[path] = found
            if memory is not None:
                memory.keep(path, jobs[path], states[path], found)
        progress(len(paths) - len(unread) + count, len(paths))
    infos = {path: known[path] for path in paths if path in known}
    if any(options.num_extra for options in (gt_options, lq_options)):
        for path, info in infos.items():  # the channel of known pixels is no band
            infos[path] = info._replace(channels=info.channels - jobs[path].num_extra)
    is_grey_asked = lq_options.channels == 1
    check = _ItemCheck(infos, 2 * scale if layout.raw else scale, layout, gt_size, is_grey_asked)
    for item in items:
        check.item(item, faults)
    if training:
        _add_mixed_depths(items, layout, infos, faults)
    return [faults[path] for path in paths if path in faults]


def _paths(item: Item) -> tuple[Path, ...]:
    return *item.gt, *item.lq, *item.mask, *item.lq_mask


def _add_mixed_depths(
    items: Sequence[Item], layout: Layout, infos: dict[Path, ImageInfo], faults: dict[Path, Fault]
) -> None:
    """Adds a fault for each HR and each LR file whose type is not that of most others."""
    sides = {"HR": [path for item in items for path in item.gt]}
    if not layout.raw:  # RAW becomes float when it is read
        sides["LR"] = [path for item in items for path in item.lq]
    for side, paths in sides.items():
        types = Counter(infos[path].dtype for path in paths if path in infos)
        if len(types) < 2:
            continue
        usual, count = types.most_common(1)[0]
        for path in paths:
            if path in infos and infos[path].dtype != usual:
                text = (
                    f"{infos[path].dtype} pixels, but {count} of {len(paths)} {side} files have "
                    f"{usual}; a batch has one type: save all with one bit depth, or train on "
                    "those of one bit depth"
                )
                faults.setdefault(path, Fault(path, "mixed bit depths", text))


def report_faults(faults: Sequence[Fault], title: str, limit: int = 10) -> str:
    """Returns a headline with the number of faults, and a line for each of the first ``limit``."""
    lines = [f"{title}: {len(faults)} {'fault' if len(faults) == 1 else 'faults'}"]
    lines += [f"  {fault.path}: {fault.text}" for fault in faults[:limit]]
    if len(faults) > limit:
        lines.append(f"  … and {len(faults) - limit} more")
    return "\n".join(lines)


def raise_faults(faults: Sequence[Fault], title: str) -> None:
    """Raises an error if there are faults.

    Raises:
        UserError: names the dataset and the first ten faults.
    """
    if faults:
        raise UserError(report_faults(faults, title))


def examine_file(path: Path, options: ReadOptions = PLAIN, deep: bool = False) -> ImageInfo | Fault:
    """Returns the facts in a file's header, or its fault; for the options see ``check_items``."""
    try:
        file = open_file(path, options)
        if deep or not ends_whole(path):
            if is_large(file.info):
                _read_large(path, options)
            else:
                read_opened(path, options, file)
    except ImageFault as fault:
        return Fault(path, fault.kind, str(fault).removeprefix(f"{path}: "))
    except OSError as error:
        return Fault(path, "unreadable", f"cannot be read ({error.strerror})")
    return file.info


def _read_large(path: Path, options: ReadOptions) -> None:
    """Decodes all pixels of a large file, by strips if it allows that."""
    image = open_image(path, options)
    if isinstance(image, WindowedImage):
        for _ in image.strips():
            pass


@dataclass(frozen=True)
class _ItemCheck:
    """Compares the files of an item with each other; unreadable files are left out.

    Args:
        infos: Channels, size and type of the files that could be read.
        factor: Size of the ground truth divided by that of an LR file.
        layout: As of ``check_items``.
        gt_size: As of ``check_items``.
        is_grey_asked: LR shall be grey, whatever the ground truth is.
    """

    infos: dict[Path, ImageInfo]
    factor: int
    layout: Layout
    gt_size: int | None
    is_grey_asked: bool = False
    _sound_forms: set[tuple[object, ...]] = field(default_factory=set)

    def item(self, item: Item, faults: dict[Path, Fault]) -> None:
        """Adds the item's faults; each file keeps the first one."""
        # The rules look at the forms of an item's files only: most items are like one before.
        paths = _paths(item)
        counts = len(item.gt), len(item.lq), len(item.mask), len(item.lq_mask)
        forms = (*counts, *map(self.infos.get, paths))
        if forms in self._sound_forms:
            return
        for rule in (self._channels, self._frames, self._scale, self._min_size, self._masks):
            # A rule sees only files without faults, so that one problem is reported once.
            sound = [path for path in paths if path not in faults]
            for fault in rule(item, sound):
                faults.setdefault(fault.path, fault)
        if not any(path in faults for path in paths):
            self._sound_forms.add(forms)

    def _channels(self, item: Item, sound: list[Path]) -> Iterator[Fault]:
        if self.layout.raw:
            for path in sound:
                wanted = 4 if path in item.lq else 3
                if path not in (*item.mask, *item.lq_mask) and self.infos[path].channels != wanted:
                    found, names = self._bands(path), bands_text(wanted, raw=True)
                    yield Fault(path, "wrong channels", f"{found}; expected {names}")
        for gt, lq in self._pairs(item, sound):
            if (
                not (self.layout.raw or self.is_grey_asked)
                and self.infos[gt].channels == 3
                and self.infos[lq].channels == 1
            ):
                yield Fault(lq, "wrong channels", f"grey; expected RGB like {gt}")

    def _frames(self, item: Item, sound: list[Path]) -> Iterator[Fault]:
        if self.layout.kind == "image":
            return
        for side in (item.gt, item.lq):
            frames = [path for path in side if path in sound]
            if len(frames) < 2:
                continue
            # The most frequent size and type are taken as the correct ones.
            sizes = Counter(self.infos[path].size for path in frames)
            forms = Counter((self.infos[path].channels, self.infos[path].dtype) for path in frames)
            size, form = sizes.most_common(1)[0][0], forms.most_common(1)[0][0]
            others = f"like the other frames of {item.key}"
            for path in frames:
                info = self.infos[path]
                if info.size != size:
                    text = f"{_size(info)}; expected {_shown(size)} {others}"
                    yield Fault(path, "mixed sizes", text)
                elif (info.channels, info.dtype) != form:
                    found = f"{info.dtype}, {self._bands(path)}"
                    wanted = f"{form[1]}, {bands_text(form[0], self.layout.raw)}"
                    yield Fault(path, "mixed types", f"{found}; expected {wanted} {others}")

    def _masks(self, item: Item, sound: list[Path]) -> Iterator[Fault]:
        for files, masks in ((item.gt, item.mask), (item.lq, item.lq_mask)):
            for path, mask in zip(files, masks, strict=False):
                if not {path, mask} <= {*sound}:
                    continue
                if self.infos[path].size != self.infos[mask].size:
                    found, wanted = _size(self.infos[mask]), _size(self.infos[path])
                    yield Fault(mask, "wrong size", f"{found}; expected {wanted} like {path}")

    def _bands(self, path: Path) -> str:
        return bands_text(self.infos[path].channels, self.layout.raw)

    def _scale(self, item: Item, sound: list[Path]) -> Iterator[Fault]:
        for gt, lq in self._pairs(item, sound):
            large, small = self.infos[gt], self.infos[lq]
            wanted = large.height // self.factor, large.width // self.factor
            if small.size != wanted:
                advice = f"; {self.layout.wrong_scale}" if self.layout.wrong_scale else ""
                yield Fault(
                    lq,
                    "wrong scale",
                    f"{_size(small)}; expected {_shown(wanted)}, because {gt} is {_size(large)} "
                    f"and the scale is {self.factor}{advice}",
                )

    def _min_size(self, item: Item, sound: list[Path]) -> Iterator[Fault]:
        side, factor = (item.gt, 1) if item.gt else (item.lq, self.factor)
        for path in side:
            if path not in sound:
                continue
            info = self.infos[path]
            usable = [length * factor // self.factor * self.factor for length in info.size]
            if not min(usable):
                yield Fault(path, "too small", f"{_size(info)}; smaller than scale {self.factor}")
            elif self.gt_size is not None and min(usable) < self.gt_size:
                wanted = self.gt_size // factor
                yield Fault(
                    path,
                    "too small",
                    f"{_size(info)}; expected at least {wanted}×{wanted} (gt_size "
                    f"{self.gt_size}); lower gt_size or leave it out",
                )

    def _pairs(self, item: Item, sound: list[Path]) -> list[tuple[Path, Path]]:
        """Returns matching HR and LR files; of a burst, one LR frame represents all others."""
        if len(item.gt) == len(item.lq):
            pairs = list(zip(item.gt, item.lq, strict=True))
            return [(gt, lq) for gt, lq in pairs if gt in sound and lq in sound]
        gt = next((path for path in item.gt if path in sound), None)
        lq = next((path for path in item.lq if path in sound), None)
        return [] if gt is None or lq is None else [(gt, lq)]


def _size(info: ImageInfo) -> str:
    return _shown(info.size)


def _shown(size: tuple[int, int]) -> str:
    """Returns width × height, the usual order in text."""
    return f"{size[1]}×{size[0]}"
