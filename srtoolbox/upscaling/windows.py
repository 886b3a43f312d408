"""Restores the frames of a clip, one after the other, by any network.

A single-image network gets the frames in batches. A network that restores one of several frames
gets a window around each frame. A network that restores all frames gets chunks of frames; they
begin at multiples of their length, counted from the first frame of the clip, so that a result does
not depend on where a long job was interrupted.

Windows and chunks never cross a scene cut. Frames beyond a cut or beyond the ends of the clip are
replaced in a window by the frame to restore (``missing_neighbours: centre``, the default of the
toolbox's clips), and in a chunk by the nearest frame of the scene. A network that takes any number
of frames gets only those that exist.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from srtoolbox.data.datasets.window import window_indices
from srtoolbox.errors import UserError
from srtoolbox.media.picture import as_type, bicubic, fill_colours
from srtoolbox.upscaling.options import UpscaleOptions
from srtoolbox.upscaling.scene_cuts import AUTO, REACH, Look, is_cut, look_of
from srtoolbox.upscaling.upscaler import Upscaler


@dataclass(frozen=True)
class ClipFrame:
    """A frame of a clip.

    Args:
        pixels: (C, H, W), C = 1 (grey) or 3 (RGB); uint8, uint16, or float32 in [0, 1].
        index: Number of the frame in the clip, from 0.
        alpha: (1, H, W), 0 where transparent; None: opaque.
        wanted: False for a frame that others need in their windows, and that is not restored.
    """

    pixels: np.ndarray
    index: int
    alpha: np.ndarray | None = None
    wanted: bool = True


@dataclass(frozen=True)
class Restored:
    """A restored frame.

    Args:
        pixels: (C, H·scale, W·scale), float32; values are not clipped.
        alpha: (1, H·scale, W·scale), float32 in [0, 1]; None: opaque.
    """

    pixels: np.ndarray
    alpha: np.ndarray | None = None


class ClipRestorer:
    """Restores clips with the same networks and options.

    Args:
        upscaler: The networks.
        options: ``scene_cut``, ``alpha`` and ``batch``.

    Attributes:
        context: Number of frames before and after a frame on which its result depends.

    Raises:
        UserError: if a network that makes frames between two frames would see only one.
    """

    def __init__(self, upscaler: Upscaler, options: UpscaleOptions) -> None:
        self._upscaler, self._batch = upscaler, options.batch
        self._by_network = options.alpha == "model"
        self._size, self._step = upscaler.num_frame, upscaler.num_frame
        cut = options.scene_cut
        self._threshold = None if cut == "off" else AUTO if cut == "auto" else float(cut)
        if upscaler.time_scale > 1:
            if self._size < 2:
                raise UserError(
                    f"frames: {upscaler.describe()} makes frames between two frames; it needs at "
                    "least 2 at a time, got 1"
                )
            self._step = self._size - 1  # the last frame of a chunk is the first of the next
        self._is_single = self._size == 1 and not upscaler.restores_all
        reach = 0 if self._threshold is None or self._size == 1 else REACH
        radius = self._size - 1 if upscaler.restores_all else self._size // 2
        self.context = radius + reach

    def restore(self, frames: Iterable[ClipFrame]) -> Iterator[Restored | None]:
        """Yields ``time_scale`` results for each frame, in order; None for unwanted frames.

        The first result of a frame is the frame itself; the others lie between it and the next. The
        last frame of a scene has nothing after it, and is repeated.

        Args:
            frames: Frames with consecutive numbers, all of one size. They may be a part of a clip,
                if ``context`` frames before and after each wanted frame are there or beyond the
                clip's ends.
        """
        if self._is_single:
            yield from self._in_batches(frames)
            return
        ring = _Ring(frames, self._threshold)
        chunk = _Chunk()
        index = ring.first()
        while index is not None and ring.has(index):
            if not ring[index].wanted:
                yield from [None] * self._upscaler.time_scale
            elif self._upscaler.restores_all:
                chunk = self._chunk_around(ring, index, chunk)
                yield from chunk.of(index, self._upscaler.time_scale, ring.ends(index))
            else:
                yield self._from_window(ring, index)
            index += 1
            ring.forget(index - self.context)

    def _in_batches(self, frames: Iterable[ClipFrame]) -> Iterator[Restored | None]:
        batch: list[ClipFrame] = []
        for frame in map(_filled, frames):
            if batch and _form(frame) != _form(batch[0]):
                yield from self._from_batch(batch)
                batch = []
            batch.append(frame)
            if len(batch) == self._batch:
                yield from self._from_batch(batch)
                batch = []
        yield from self._from_batch(batch)

    def _from_batch(self, batch: Sequence[ClipFrame]) -> Iterator[Restored | None]:
        wanted = [frame.pixels for frame in batch if frame.wanted]
        results = iter(self._upscaler.images(wanted) if wanted else [])
        for frame in batch:
            if not frame.wanted:
                yield None
                continue
            pixels = next(results)
            mattes = self._mattes([frame], 0, pixels)
            yield Restored(pixels, mattes[0] if mattes else None)

    def _from_window(self, ring: _Ring, index: int) -> Restored:
        upscaler, before = self._upscaler, self._upscaler.reference
        first, last = ring.scene(index, before, self._size - 1 - before)
        if upscaler.takes_any_number:
            indices, reference = list(range(first, last + 1)), index - first
        else:
            within = window_indices(index - first, self._size, last - first + 1, "centre")
            indices, reference = [first + place for place in within], before
        frames = [ring[place] for place in indices]
        pixels = upscaler.frames(_alike([frame.pixels for frame in frames]), reference)
        mattes = self._mattes(frames, reference, pixels)
        return Restored(pixels, mattes[0] if mattes else None)

    def _chunk_around(self, ring: _Ring, index: int, current: _Chunk) -> _Chunk:
        """Returns the chunk with the results of a frame; ``current`` if that has them."""
        time_scale, start = self._upscaler.time_scale, index - index % self._step
        if time_scale > 1 and index == start and ring.ends(index) and not ring.begins(index):
            start -= self._step  # as the last frame of that chunk it is seen with its neighbours
        first, last = ring.scene(index, index - start, start + self._size - 1 - index)
        place = (start, first, last)
        if current.place == place:
            return current
        if not self._upscaler.takes_any_number:
            indices = [min(max(number, first), last) for number in range(start, start + self._size)]
        elif first == last and time_scale > 1:
            start, indices = first, [first, first]
        else:
            start, indices = first, list(range(first, last + 1))
        frames = [ring[number] for number in indices]
        pixels = self._upscaler.frames(_alike([frame.pixels for frame in frames]), None)
        mattes = self._mattes(frames, None, pixels[0])
        return _Chunk(place, start, pixels, mattes)

    def _mattes(
        self, frames: Sequence[ClipFrame], reference: int | None, like: np.ndarray
    ) -> list[np.ndarray] | None:
        """Returns the transparency of the results, as ``with_alpha`` does; None: all are opaque.

        Args:
            frames: Frames that the network gets.
            reference: Index of the frame to restore; None: all.
            like: The pixels of a result.
        """
        upscaler, time_scale = self._upscaler, self._upscaler.time_scale
        restored = frames if reference is None else [frames[reference]]
        if all(frame.alpha is None for frame in restored):
            return None
        given = [_matte(frame) for frame in frames]
        kept = [_constant(_matte(frame)) for frame in restored]
        height, width = like.shape[1:]
        if all(value is not None and value == kept[0] for value in kept):
            results = [like[:1]] * ((len(restored) - 1) * time_scale + 1)  # replaced below
            kept = [kept[0]] * len(results)
            step = 1
        elif self._by_network and len(frames) == 1 and reference is not None:
            results, step = [upscaler.image(given[0])], time_scale
        elif self._by_network and reference is not None:
            results, step = [upscaler.frames(given, reference)], time_scale
        elif self._by_network:
            results, step = list(upscaler.frames(given, None)), time_scale
        else:
            mattes = [given[reference]] if reference is not None else _between(given, time_scale)
            results, step = [bicubic(matte, width, height) for matte in mattes], time_scale
        for place, value in enumerate(kept):
            if value is not None:
                results[place * step] = np.full((1, height, width), value, np.float32)
        return [matte.clip(0, 1) for matte in results]


@dataclass(frozen=True)
class _Chunk:
    """Results of frames that were restored together.

    Args:
        place: Start of the chunk, and first and last frame of the scene in it.
        start: Number of the frame of the first result.
        pixels: (T', C, H, W).
        mattes: For each result (1, H, W); None: all are opaque.
    """

    place: tuple[int, int, int] | None = None
    start: int = 0
    pixels: np.ndarray | None = None
    mattes: list[np.ndarray] | None = None

    def of(self, index: int, time_scale: int, is_last: bool) -> Iterator[Restored]:
        """Yields the results of a frame; the frame itself again if it is the last of its scene."""
        assert self.pixels is not None
        own = (index - self.start) * time_scale
        for part in range(time_scale):
            place = own if is_last else own + part
            yield Restored(self.pixels[place], self.mattes[place] if self.mattes else None)


class _Ring:
    """The frames of a clip around the current one, and where its scenes end.

    Args:
        frames: The clip, or a part of it.
        threshold: Smallest difference at a cut; None: there are no cuts.
    """

    def __init__(self, frames: Iterable[ClipFrame], threshold: float | None) -> None:
        self._source, self._threshold = iter(frames), threshold
        self._frames: dict[int, ClipFrame] = {}
        self._looks: dict[int, Look] = {}
        self._cuts: dict[int, bool] = {}
        self._next: int | None = None  # number of the frame that is read next

    def __getitem__(self, index: int) -> ClipFrame:
        return self._frames[index]

    def first(self) -> int | None:
        """Returns the number of the first frame; None: there is no frame."""
        return min(self._frames, default=None) if self._read() else None

    def has(self, index: int) -> bool:
        """Returns whether there is a frame; reads up to it."""
        while self._next is not None and self._next <= index:
            self._read()
        return index in self._frames

    def forget(self, before: int) -> None:
        """Removes all frames before one."""
        for kept in (self._frames, self._looks, self._cuts):
            for index in [index for index in kept if index < before]:
                del kept[index]

    def begins(self, index: int) -> bool:
        """Returns whether a scene begins with a frame."""
        return index - 1 not in self._frames or self._is_cut(index - 1)

    def ends(self, index: int) -> bool:
        """Returns whether a scene ends with a frame."""
        return not self.has(index + 1) or self._is_cut(index)

    def scene(self, index: int, before: int, after: int) -> tuple[int, int]:
        """Returns the first and the last frame of the scene, within so many frames of ``index``."""
        first = last = index
        while index - first < before and not self.begins(first):
            first -= 1
        while last - index < after and not self.ends(last):
            last += 1
        return first, last

    def _is_cut(self, index: int) -> bool:
        if self._threshold is None:
            return False
        if index not in self._cuts:
            self.has(index + 1 + REACH)
            self._cuts[index] = is_cut(self._looks, index, self._threshold)
        return self._cuts[index]

    def _read(self) -> bool:
        frame = next(self._source, None)
        if frame is None:
            self._next = None
            return False
        frame = _filled(frame)
        self._frames[frame.index] = frame
        if self._threshold is not None:
            self._looks[frame.index] = look_of(frame.pixels)
        self._next = frame.index + 1
        return True


def _filled(frame: ClipFrame) -> ClipFrame:
    """Replaces colours that are not seen, which a network would mix into the edges."""
    if frame.alpha is None:
        return frame
    return replace(frame, pixels=fill_colours(frame.pixels, frame.alpha[0] > 0))


def _form(frame: ClipFrame) -> tuple[tuple[int, ...], np.dtype]:
    return frame.pixels.shape, frame.pixels.dtype


def _alike(frames: list[np.ndarray]) -> list[np.ndarray]:
    """Returns frames of one type and number of channels: the largest of any frame."""
    dtype = max((frame.dtype for frame in frames), key=lambda kind: kind.itemsize)
    channels = max(len(frame) for frame in frames)
    return [
        as_type(frame if len(frame) == channels else frame.repeat(channels, 0), dtype)
        for frame in frames
    ]


def _matte(frame: ClipFrame) -> np.ndarray:
    if frame.alpha is None:
        return np.ones((1, *frame.pixels.shape[1:]), np.float32)
    return as_type(frame.alpha, np.float32)


def _constant(matte: np.ndarray) -> float | None:
    """Returns the only value of a matte; None: it has several."""
    low, high = matte.min(), matte.max()
    return float(low) if low == high else None


def _between(mattes: Sequence[np.ndarray], time_scale: int) -> list[np.ndarray]:
    """Returns mattes and the linear interpolation between each two."""
    found = []
    for first, second in pairwise(mattes):
        for part in range(time_scale):
            share = np.float32(part / time_scale)
            found.append((1 - share) * first + share * second)
    return [*found, mattes[-1]]
