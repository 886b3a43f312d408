"""Draws docs/upscale.png: a photograph that the default weights were not trained on, enlarged ×4.

The photograph is matplotlib's sample image of Grace Hopper (US Navy, public domain). It is reduced
by MATLAB's bicubic, and enlarged by bicubic interpolation and by the default weights.

    python docs/draw_upscale.py
"""

from __future__ import annotations

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from matplotlib import cbook
from PIL import Image

import srtoolbox
from srtoolbox.data.resize.array import imresize

SCALE, TOP, LEFT, SIDE = 4, 120, 190, 160
TARGET = Path(__file__).with_name("upscale.png")


def main() -> None:
    with cbook.get_sample_data("grace_hopper.jpg") as file:
        photo = np.asarray(Image.open(file))
    height, width = (side // SCALE * SCALE for side in photo.shape[:2])
    photo = photo[:height, :width]
    small = np.clip(np.round(imresize(photo.astype(np.float64), 1 / SCALE)), 0, 255).astype(
        np.uint8
    )
    bicubic = Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC)
    panels = {
        "input": Image.fromarray(small).resize((width, height), Image.Resampling.NEAREST),
        "bicubic": bicubic,
        "srtoolbox upscale": srtoolbox.upscale(None, small),
        "original": photo,
    }
    figure, axes = plt.subplots(1, len(panels), figsize=(10, 2.8), layout="constrained")
    for axis, (title, image) in zip(axes, panels.items(), strict=True):
        axis.imshow(np.asarray(image)[TOP : TOP + SIDE, LEFT : LEFT + SIDE])
        axis.set_title(title, fontsize=10)
        axis.axis("off")
    figure.savefig(TARGET, dpi=110)
    print(TARGET)


if __name__ == "__main__":
    main()
