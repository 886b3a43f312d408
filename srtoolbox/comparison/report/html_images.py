"""The images of an HTML report: slider, crops, error maps, temporal profiles."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from html import escape

import cv2
import numpy as np

from srtoolbox.comparison.report.crops import Picture, Profile
from srtoolbox.comparison.report.image_figures import ERROR_COLORS

_STAGE, _WHOLE, _MAP = 640, 720, 320  # pixels of the longer side, at most


def before_after(pictures: Sequence[Picture]) -> str:
    """Two versions of a picture with a line between them that can be moved."""
    if not pictures:
        return ""
    names = list(dict.fromkeys(name for picture in pictures for name in picture.cells))
    titles = [f"{picture.dataset}: {picture.key}" for picture in pictures]
    best = names[-2] if len(names) > 1 else names[0]
    choices = (("Picture", titles, titles[0]), ("Left", names, names[0]), ("Right", names, best))
    controls = "".join(
        f"<label>{label}<select>"
        + "".join(
            f"<option{' selected' if name == chosen else ''}>{escape(name)}</option>"
            for name in options
        )
        + "</select></label>"
        for label, options, chosen in choices
    )
    return f'<div class="controls">{controls}</div>' + "".join(
        _stage(picture, title) for picture, title in zip(pictures, titles, strict=True)
    )


def crops(picture: Picture) -> str:
    """The whole picture with a frame, and the framed part of every version of it."""
    y, x, side = picture.region
    height, width = picture.gt.shape[:2]
    frame = (
        f"left:{100 * x / width:.3f}%;top:{100 * y / height:.3f}%;"
        f"width:{100 * side / width:.3f}%;height:{100 * side / height:.3f}%"
    )
    cells = "".join(
        _cell(picture.crop(image), name, picture.captions.get(name, ""))
        for name, image in picture.cells.items()
    )
    whole = _image(_shrunk(picture.gt, _WHOLE), picture.key)
    return _titled(
        picture,
        f'<div class="crops"><div class="whole">{whole}<i style="{frame}"></i></div>'
        f'<div class="cells">{cells}</div></div>',
    )


def error_maps(picture: Picture) -> str:
    """The absolute error of every method on one scale."""
    from matplotlib import colormaps  # heavy, and only reports draw

    maps, level = picture.errors()
    colors = colormaps[ERROR_COLORS]
    cells = "".join(
        _cell(_colored(_shrunk(error, _MAP) / level, colors), name, picture.captions[name])
        for name, error in maps.items()
    )
    ramp = _image(_colored(np.linspace(0, 1, 256)[None], colors), "colour scale")
    scale = f'<div class="scale">0{ramp}{level:.0f} of 255, mean over the channels</div>'
    return _titled(picture, f'<div class="cells">{cells}</div>{scale}')


def profile_rows(profile: Profile) -> str:
    """One line of pixels from frame to frame, time running downwards."""
    rows = "".join(
        f"<span>{escape(name)}</span>{_image(rows, name)}" for name, rows in profile.slices.items()
    )
    height = profile.picture.shape[0]
    text = f"row {profile.row} of {height}, {len(profile.slices['GT'])} frames, time downwards"
    about = f'data-dataset="{escape(profile.dataset, quote=True)}"'
    return (
        f'<div class="picture" {about}><h3>{escape(profile.clip)} <span>{text}</span></h3>'
        f'<div class="rows">{rows}</div></div>'
    )


def data_uri(content: bytes, kind: str) -> str:
    """The content as an address that needs no file."""
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def _stage(picture: Picture, title: str) -> str:
    window = _window(picture)
    images = "".join(_image(image[window], name) for name, image in picture.cells.items())
    name = escape(title, quote=True)
    return (
        f'<div class="stage" data-picture="{name}">{images}<hr>'
        '<span class="left"></span><span class="right"></span>'
        f'<input type="range" min="0" max="100" step="0.5" value="50" aria-label="{name}"></div>'
    )


def _window(picture: Picture) -> tuple[slice, slice]:
    """As much around the region as is shown in full resolution."""
    y, x, side = picture.region
    place = []
    for start, whole in ((y, picture.gt.shape[0]), (x, picture.gt.shape[1])):
        length = min(whole, max(_STAGE, side))
        first = min(max(0, start + side // 2 - length // 2), whole - length)
        place.append(slice(first, first + length))
    return place[0], place[1]


def _titled(picture: Picture, body: str) -> str:
    about = f'data-dataset="{escape(picture.dataset, quote=True)}"'
    title = f"{escape(picture.key)} <span>{escape(picture.dataset)}</span>"
    return f'<div class="picture" {about}><h3>{title}</h3>{body}</div>'


def _cell(image: np.ndarray, name: str, caption: str) -> str:
    text = f"<b>{escape(name)}</b><span>{escape(caption)}</span>"
    return f"<figure>{_image(image, name)}<figcaption>{text}</figcaption></figure>"


def _image(image: np.ndarray, name: str) -> str:
    """An ``img`` with the pixels (H, W, 3) uint8 in it, lossless."""
    pixels = cv2.cvtColor(np.ascontiguousarray(image), cv2.COLOR_RGB2BGR)
    _, content = cv2.imencode(".webp", pixels, [cv2.IMWRITE_WEBP_QUALITY, 101])
    height, width = image.shape[:2]
    source = data_uri(content.tobytes(), "image/webp")
    return (
        f'<img width="{width}" height="{height}" alt="{escape(name, quote=True)}" src="{source}">'
    )


def _colored(values: np.ndarray, colors: object) -> np.ndarray:
    return (colors(np.clip(values, 0, 1))[..., :3] * 255).round().astype(np.uint8)


def _shrunk(image: np.ndarray, most: int) -> np.ndarray:
    """The image, smaller if its longer side exceeds ``most`` pixels."""
    height, width = image.shape[:2]
    factor = most / max(height, width)
    if factor >= 1:
        return image
    size = max(1, round(width * factor)), max(1, round(height * factor))
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA)
