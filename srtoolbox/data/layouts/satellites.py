"""Layouts of multi-band satellite images: PROBA-V, SEN2VENµS, WorldStrat, generated images.

``white_level`` of these layouts is that of HR and LR files.
"""

from __future__ import annotations

from srtoolbox.data.layouts.base import Layout, Split, arrangements


def _probav(part: str, count: int | None) -> dict[str, tuple[Split, ...]]:
    """Returns the splits of a folder of PROBA-V: both bands together, and each band."""
    has_gt = part != "test"
    splits = {}
    for band in ("", "RED", "NIR"):
        folder = f"{part}/{band}/{{clip}}" if band else f"{part}/{{clip}}/{{clip}}"
        splits[f"{part}_{band}".rstrip("_")] = (
            Split(
                f"{folder}/HR" if has_gt else None,
                f"{folder}/LR{{frame}}",
                num_item=None if band else count,
                mask=f"{folder}/SM" if has_gt else None,
                lq_mask=f"{folder}/QM{{frame}}",
            ),
        )
    return splits


SATELLITES = (
    Layout(
        name="probav",
        kind="burst",
        title="PROBA-V super resolution",
        paper="Märtens et al., Astrodynamics 2019 (arXiv 1907.01821)",
        licence="CC BY-NC-SA 3.0 IGO (recalled, not checked)",
        source="https://kelvins.esa.int/proba-v-super-resolution/data/",
        scales=(3,),
        splits={**_probav("train", 1160), **_probav("val", None), **_probav("test", 290)},
        gt_size=(384, 384),
        lq_size=(128, 128),
        bit_depth=14,
        channels=1,
        white_level=16383,
        degradation=(
            "none: 9 or more images at 300 m and one at 100 m within 30 days, one band (red or "
            "near infrared), not registered"
        ),
        note=(
            "One grey band in 16-bit files. Frames are taken in the order of their clear pixels, "
            "given by the status maps QM; SM marks the clear pixels of HR. train and val read both "
            "bands; train_RED, train_NIR, … one. val is not published: move folders imgset#### "
            "from train/RED and train/NIR to val/RED and val/NIR. No HR images are published for "
            "test. norm.csv has the name of each scene and a reference cPSNR, for the metric "
            "ProbaVScore. Names, sizes, depth and numbers are checked against the page of the "
            "competition and published code that reads the files."
        ),
    ),
    Layout(
        name="sen2venus",
        kind="image",
        title="SEN2VENuS (SEN2VENµS)",
        paper="Michel et al., Data 7(7):96, 2022",
        licence="open, other terms for each sensor; see the file LICENCE of the archive",
        source="https://zenodo.org/record/6514159",
        scales=(2, 4),
        splits={"all": arrangements(("GT_x{scale}/{any}/{stem}", "LR_x{scale}/{any}/{stem}"))},
        gt_size=(256, 256),
        bit_depth=14,
        channels=4,
        white_level=10000,
        degradation="none: Sentinel-2 and VENµS of the same day, registered by the authors",
        note=(
            "The archive holds tensors (.pt) of many patches; srtoolbox prepare sen2venus writes "
            "each patch as a TIFF file of four bands, surface reflectance × 10000, negative values "
            "as 0. ×2: B2, B3, B4, B8 from 10 m to 5 m. ×4: the four bands of 20 m to 5 m. The "
            "names and shapes of the tensors are known from published code that reads them; the "
            "type int16 is recalled, not checked. There is no official split: prepare sites into "
            "different folders, because patches of one site overlap in content."
        ),
    ),
    Layout(
        name="worldstrat",
        kind="burst",
        title="WorldStrat",
        paper="Cornebise et al., NeurIPS 2022 Datasets and Benchmarks (arXiv 2207.06418)",
        licence="HR (Airbus SPOT) CC BY-NC; Sentinel-2 and labels CC BY",
        source="https://zenodo.org/record/6810792",
        scales=(2, 3, 4),
        splits={
            part: arrangements(
                (f"{part}/HR_x{{scale}}/{{clip}}", f"{part}/LR/{{clip}}/{{frame}}"),
                lq_mask=f"{part}/QM/{{clip}}/{{frame}}",
            )
            for part in ("train", "val", "test")
        },
        bit_depth=14,
        bands=(4, 3, 2, 8),
        bands_gt=(1, 2, 3, 4),
        white_level=10000,
        degradation=(
            "none: Sentinel-2 (10 m) on several days, and SPOT 6 or 7 pansharpened (1.5 m), which "
            "srtoolbox prepare worldstrat reduces to 10 m divided by the scale"
        ),
        note=(
            "srtoolbox prepare worldstrat puts the 12 bands of the L2A images of a place on one "
            "grid, as uint16 reflectance × 10000, and the 4 bands of SPOT on the same grid, finer "
            "by the scale (extra geo). Bands 4, 3, 2, 8 of LR and 1, 2, 3, 4 of HR are used unless "
            "the options bands and bands_gt say otherwise. The names of the files and the table of "
            "splits are known from the authors' code and TorchGeo; that 10000 is white for SPOT is "
            "from the authors' code; that the order of SPOT's bands is red, green, blue, near "
            "infrared and that L2A has no band B10 is recalled, not checked."
        ),
    ),
    Layout(
        name="multiband",
        kind="image",
        title="Multiband, multi-band images made from photographs",
        licence="that of the photographs",
        source="srtoolbox prepare multiband",
        scales=(2, 3, 4, 8),
        splits={"all": arrangements(("HR/{stem}", None))},
        bit_depth=12,
        white_level=4095,
        degradation="made when read, as of the layout folder",
        note=(
            "1 to 13 bands at the wavelengths of Sentinel-2, uint16, reflectance × 10000 of at "
            "most 0.4095. The bands are synthetic mixes of the photograph's colours: correlated "
            "like those of satellite images, but not radiometrically real."
        ),
    ),
)
