"""Layouts of single images: training sets, the benchmark sets, and plain folders."""

from __future__ import annotations

from srtoolbox.data.layouts.base import NOT_STATED, Layout, Split, arrangements

_MATLAB = (
    "MATLAB imresize, bicubic with antialiasing, from HR cut to a multiple of the scale; height "
    "first, rounded to 8 bits after each pass, edges replicated"
)
_MATLAB_UNMEASURED = (
    "MATLAB imresize, bicubic with antialiasing; its rounding and edges are not stated and assumed "
    "to be those of Set5"
)
_SELFEXSR = "https://github.com/jbhuang0604/SelfExSR"


def _benchmark(
    name: str,
    title: str,
    paper: str,
    count: int,
    *,
    licence: str = NOT_STATED,
    source: str = _SELFEXSR,
    degradation: str = f"{_MATLAB} (measured: no pixel differs)",
    note: str = "",
) -> Layout:
    """Returns the layout of a benchmark set, with the arrangements of its common distributions."""
    splits = arrangements(
        ("HR/{stem}", "LR_bicubic/X{scale}/{stem}x{scale}"),
        ("HR/{stem}", "LR_bicubic/X{scale}/{stem}"),
        ("GTmod12/{stem}", "LRbicx{scale}/{stem}"),
        ("image_SRF_{scale}/{stem}_SRF_{scale}_HR", "image_SRF_{scale}/{stem}_SRF_{scale}_LR"),
        ("HR/{stem}", None),
        ("GTmod12/{stem}", None),
        ("{stem}", None),
        num_item=count,
    )
    return Layout(
        name=name,
        kind="image",
        title=title,
        paper=paper,
        licence=licence,
        source=source,
        scales=(2, 3, 4),
        splits={"test": splits},
        degradation=degradation,
        note=note,
    )


def _pairs(hr: str, lr: str, count: int) -> tuple[Split, ...]:
    """Returns the arrangements of sets whose LR images have names that end in x2, x3, …"""
    gt = f"{hr}/{{stem}}"
    lqs = (
        f"{lr}_bicubic/X{{scale}}/{{stem}}x{{scale}}",
        f"{lr}_x{{scale}}/{{stem}}x{{scale}}",
        None,
    )
    return arrangements(*((gt, lq) for lq in lqs), num_item=count)


IMAGES = (
    Layout(
        name="div2k",
        kind="image",
        title="DIV2K",
        paper="Agustsson and Timofte, CVPRW 2017",
        licence="academic research only; the images belong to their owners",
        source="https://data.vision.ee.ethz.ch/cvl/DIV2K/",
        scales=(2, 3, 4, 8),
        splits={
            "train": (
                *_pairs("DIV2K_train_HR", "DIV2K_train_LR", 800),
                Split("DIV2K_train_HR_sub/{stem}", "DIV2K_train_LR_bicubic/X{scale}_sub/{stem}"),
            ),
            "val": _pairs("DIV2K_valid_HR", "DIV2K_valid_LR", 100),
        },
        degradation=_MATLAB_UNMEASURED,
        note=(
            "0001 to 0800 are for training, 0801 to 0900 for validation; the HR images of the test "
            "set are not published. The folders _sub are BasicSR's sub-images; with a cache of "
            "decoded images they are not needed."
        ),
    ),
    Layout(
        name="flickr2k",
        kind="image",
        title="Flickr2K",
        paper="Lim et al., CVPRW 2017; Timofte et al., CVPRW 2017",
        licence=NOT_STATED,
        source="https://github.com/LimBee/NTIRE2017",
        scales=(2, 3, 4),
        splits={"train": _pairs("Flickr2K_HR", "Flickr2K_LR", 2650)},
        degradation=_MATLAB_UNMEASURED,
        note="Names of the folders are recalled, not checked.",
    ),
    _benchmark("set5", "Set5", "Bevilacqua et al., BMVC 2012", 5),
    _benchmark(
        "set14", "Set14", "Zeyde et al., Curves and Surfaces 2010", 14, note="img_003 is grey."
    ),
    _benchmark(
        "bsd100",
        "BSD100 (B100, BSDS100)",
        "Martin et al., ICCV 2001",
        100,
        licence="non-commercial research and education (recalled)",
        note="The 100 test images of BSDS300.",
    ),
    _benchmark(
        "urban100",
        "Urban100",
        "Huang et al., CVPR 2015",
        100,
        note="Re-uploads state licences that disagree; the authors' repository was not asked.",
    ),
    _benchmark(
        "manga109",
        "Manga109",
        "Matsui et al., Multimedia Tools and Applications 2017",
        109,
        licence="academic use only, on application",
        source="http://www.manga109.org/en/",
        degradation=_MATLAB_UNMEASURED,
        note="For super-resolution, one page of each of the 109 volumes.",
    ),
    Layout(
        name="folder",
        kind="image",
        title="any folders of images",
        splits={
            "all": arrangements(
                ("GT/{stem}", "LR/{stem}"),
                ("GT/{stem}", "LQ/{stem}"),
                ("gt/{stem}", "lq/{stem}"),
                ("HR/{stem}", "LR/{stem}"),
                ("HR/{stem}", "LR_bicubic/X{scale}/{stem}x{scale}"),
                ("HR/{stem}", "LR_bicubic/X{scale}/{stem}"),
                ("HR/{stem}", "X{scale}/{stem}"),
                ("GT/{stem}", None),
                ("gt/{stem}", None),
                ("HR/{stem}", None),
                ("{stem}", None),
            )
        },
        degradation=f"missing LR is made: {_MATLAB}",
    ),
)
