"""Reflectances of a synthetic scene at any wavelength, mixed from the linear RGB of a photograph.

The mixes imitate three materials by their best-known features. Nothing is measured: the values are
not those of any sensor or place. They serve to exercise networks and code with correlated bands.

With the linear RGB ``r, g, b`` of a pixel in [0, 1]:

- **Fractions.** ``v = smooth((2g − r − b) / (r + g + b) / 0.25)`` for vegetation,
  ``w = (1 − v) · smooth((b − r) / (r + g + b) / 0.25)`` for water, the rest for soil and stone;
  ``smooth(x) = x²(3 − 2x)`` of x clipped to [0, 1].
- **Up to 665 nm** the reflectance is interpolated between ``b`` (492 nm), ``g`` (560 nm) and ``r``
  (665 nm); at 443 nm it is ``b (0.9 − 0.25 v + 0.1 w)``.
- **Beyond 665 nm**, with ``t = (λ − 665 nm) / 1000 nm``: soil is ``r`` to the power
  ``1 / (1 + soil · t)``, which brightens dark soils; vegetation is ``r`` plus a plateau
  ``plateau · (0.18 + 0.55 g)`` behind the red edge, a logistic step of 12 nm, absorbed by leaf
  water by ``exp(−moisture · ((λ − 900 nm) / 700 nm)^1.5)``; water is ``r exp(−8 t)``.
- **Air** absorbs at 940 nm (vapour) and 1380 nm, and adds ``haze · (443 nm / λ)^1.5``.

Up to 665 nm the bands are linear in RGB but for 443 nm; the others are not, even for grey images.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

ALBEDO = 0.36
"""Reflectance of a white pixel of the photograph, without haze."""

_WATER_FADING = 8.0  # per 1000 nm
_EDGE_WIDTH = 12.0  # nm


@dataclass(frozen=True)
class Band:
    """A spectral band.

    Args:
        name: Name of the band of Sentinel-2 at this wavelength.
        title: What it shows.
        wavelength: Central wavelength in nm.
    """

    name: str
    title: str
    wavelength: float


SENTINEL2 = (
    Band("B1", "coastal aerosol", 443),
    Band("B2", "blue", 492),
    Band("B3", "green", 560),
    Band("B4", "red", 665),
    Band("B5", "red edge 1", 704),
    Band("B6", "red edge 2", 741),
    Band("B7", "red edge 3", 783),
    Band("B8", "near infrared", 833),
    Band("B8A", "narrow near infrared", 865),
    Band("B9", "water vapour", 945),
    Band("B10", "cirrus", 1374),
    Band("B11", "short-wave infrared 1", 1610),
    Band("B12", "short-wave infrared 2", 2190),
)
"""Bands at the rounded central wavelengths of Sentinel-2's."""

_FIRST = ("B2", "B3", "B4", "B8", "B11", "B12", "B5", "B6", "B7", "B8A", "B1", "B9", "B10")
_FEW = {1: ("B4",), 2: ("B4", "B8")}


def choose_bands(count: int) -> tuple[Band, ...]:
    """Returns ``count`` bands in the order of their wavelengths.

    One: red; two: red and near infrared; three: blue, green, red; four: these and near infrared;
    then both short-wave bands, the red edge and the others; thirteen: all of Sentinel-2.

    Raises:
        ValueError: if ``count`` is not from 1 to 13.
    """
    if not 1 <= count <= len(SENTINEL2):
        raise ValueError(f"expected 1 to {len(SENTINEL2)} bands, got {count}")
    names = _FEW.get(count, _FIRST[:count])
    return tuple(band for band in SENTINEL2 if band.name in names)


@dataclass(frozen=True)
class Scene:
    """What differs between scenes; see the formulas above.

    Args:
        red_edge: Wavelength of the red edge in nm.
        plateau: Brightness of vegetation in the near infrared.
        moisture: Absorption by leaf water.
        soil: How much dark soils brighten with the wavelength.
        haze: Reflectance that the air adds at 443 nm.
    """

    red_edge: float = 717.0
    plateau: float = 1.0
    moisture: float = 0.6
    soil: float = 0.4
    haze: float = 0.015

    @classmethod
    def draw(cls, rng: np.random.Generator) -> Scene:
        """Draws a scene; every value is uniform in a range around its default."""
        return cls(
            red_edge=rng.uniform(709, 725),
            plateau=rng.uniform(0.8, 1.2),
            moisture=rng.uniform(0.3, 0.9),
            soil=rng.uniform(0.2, 0.6),
            haze=rng.uniform(0.005, 0.025),
        )

    def reflectance(self, linear: np.ndarray, wavelength: float) -> np.ndarray:
        """Returns the reflectance (H, W), float64, at a wavelength.

        Args:
            linear: (3, H, W), linear RGB in [0, 1].
            wavelength: In nm.
        """
        red, green, blue = linear.astype(np.float64)
        total = red + green + blue + 0.02  # no fractions of nearly black pixels
        leaves = _smooth((2 * green - red - blue) / total / 0.25)
        water = (1 - leaves) * _smooth((blue - red) / total / 0.25)
        t = (wavelength - 665) / 1000
        if t <= 0:
            known = (443, 492, 560, 665)
            coastal = blue * (0.9 - 0.25 * leaves + 0.1 * water)
            weights = [np.interp(wavelength, known, row) for row in np.eye(4)]
            planes = (coastal, blue, green, red)
            ground = np.sum([w * p for w, p in zip(weights, planes, strict=True)], axis=0)
        else:
            edge = 1 / (1 + np.exp((self.red_edge - wavelength) / _EDGE_WIDTH))
            dry = np.exp(-self.moisture * (max(wavelength - 900, 0) / 700) ** 1.5)
            vegetation = red + self.plateau * (0.18 + 0.55 * green) * edge * dry
            soil = red ** (1 / (1 + self.soil * t))
            ground = leaves * vegetation + water * red * np.exp(-_WATER_FADING * t)
            ground += (1 - leaves - water) * soil
        clear = 1 - 0.55 * _bell(wavelength, 940, 30) - 0.97 * _bell(wavelength, 1380, 40)
        return ALBEDO * clear * ground + self.haze * (443 / wavelength) ** 1.5


def srgb_to_linear(image: np.ndarray) -> np.ndarray:
    """Converts sRGB values in [0, 1] to linear light (IEC 61966-2-1), float64."""
    image = image.astype(np.float64)
    return np.where(image <= 0.04045, image / 12.92, ((image + 0.055) / 1.055) ** 2.4)


def _smooth(x: np.ndarray) -> np.ndarray:
    x = x.clip(0, 1)
    return x * x * (3 - 2 * x)


def _bell(x: float, centre: float, width: float) -> float:
    return float(np.exp(-0.5 * ((x - centre) / width) ** 2))
