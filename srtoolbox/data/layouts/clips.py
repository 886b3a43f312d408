"""Layouts of clips: Jilin-189, Vid4, REDS, Vimeo-90K, and plain folders of frames."""

from __future__ import annotations

from typing import Any

from srtoolbox.data.layouts.base import NOT_STATED, Layout, Split, arrangements

_REDS4 = ("000", "011", "015", "020")
# BasicSR's regrouping appends the 30 validation clips to the 240 training clips.
_REDS_REGROUPED_VAL = tuple(f"{clip:03d}" for clip in range(240, 270))


def _jilin(part: str, count: int) -> tuple[Split, ...]:
    gt, lq = f"{part}/GT/{{clip}}/{{frame}}", f"{part}/LR{{scale}}x/{{clip}}/{{frame}}"
    return arrangements((gt, lq), (gt, None), num_item=count, num_frame=100)


def _reds(part: str, count: int, *roots: str, **items: tuple[str, ...]) -> tuple[Split, ...]:
    pairs: list[tuple[str, str | None]] = []
    for root in roots:
        gt = f"{root}{part}_sharp/{{clip}}/{{frame}}"
        pairs += [(gt, f"{root}{part}_sharp_bicubic/X{{scale}}/{{clip}}/{{frame}}"), (gt, None)]
    if part == "train":
        pairs.append(("{clip}/{frame}", None))  # an LMDB folder, or the folder of the clips itself
    return arrangements(*pairs, num_item=count, num_frame=100, **items)


def _vimeo(listing: str, count: int) -> tuple[Split, ...]:
    gt, frame = "vimeo_septuplet/sequences/{clip}/{clip}/im{frame}", "{clip}/{clip}/im{frame}"
    lq = f"vimeo_septuplet_matlabLRx{{scale}}/sequences/{frame}"
    facts: dict[str, Any] = {"num_item": count, "num_frame": 7, "middle_only": True}
    # The listing is next to the folder `sequences` of the HR frames.
    return (
        *arrangements((gt, lq), (gt, None), listing=f"vimeo_septuplet/{listing}", **facts),
        Split(f"sequences/{frame}", None, listing=listing, **facts),
    )


CLIPS = (
    Layout(
        name="jilin189",
        kind="clip",
        title="Jilin-189",
        paper="Xiao et al., MSDTGP, IEEE TGRS 2022",
        licence=NOT_STATED,
        source="https://zenodo.org/record/6969604 (or by https://github.com/XY-boy/MSDTGP)",
        scales=(4,),
        splits={
            "train": (
                *_jilin("train", 189),
                *_jilin("training_set", 189),
                Split("{clip}/im{frame}", None, num_frame=7),
            ),
            "test": (
                *_jilin("eval", 12),
                *_jilin("test_set", 12),
                *arrangements(
                    ("GT/{clip}/{frame}", "LR{scale}x/{clip}/{frame}"),
                    ("{clip}/truth/{frame}", "{clip}/input4/{frame}"),
                    ("{clip}/GT/{frame}", "{clip}/LR/{frame}"),
                    num_item=12,
                    num_frame=100,
                ),
            ),
        },
        gt_size=(640, 640),
        lq_size=(160, 160),
        round_between_passes=False,
        degradation=(
            "bicubic with antialiasing, rounded to 8 bits once at the end, edges replicated "
            "(measured on 7 frames of clip 001: no pixel differs)"
        ),
        note=(
            "Satellite video of Jilin-1; frames 00000000 to 00000099. Folders train and eval are "
            "MSDTGP's, training_set and test_set LGTD's, truth and input4 MSTT-STVSR's, whose "
            "training folder holds septuplets im1 to im7 without LR. The published tables use 10 "
            "of the 12 test clips. Counts are those of the author's logs. The licence may be "
            "stated at the source."
        ),
    ),
    Layout(
        name="vid4",
        kind="clip",
        title="Vid4",
        paper="Liu and Sun, CVPR 2011",
        licence=NOT_STATED,
        source="by https://github.com/open-mmlab/mmagic (its preparation of Vid4)",
        scales=(2, 3, 4),
        splits={
            "test": arrangements(
                ("GT/{clip}/{frame}", "BIx{scale}/{clip}/{frame}"),
                ("{clip}/truth/{frame}", "{clip}/input{scale}/{frame}"),
                ("GT/{clip}/{frame}", None),
                ("{clip}/GT/{frame}", None),
                num_item=4,
            )
        },
        edge="symmetric",
        round_between_passes=False,
        degradation=(
            "bicubic with antialiasing, rounded once at the end, edges mirrored (measured on "
            "TDAN's LR of calendar: no pixel differs; other copies may differ at the edge)"
        ),
        note=(
            "calendar 41 frames of 720×576, city 34 of 704×576, foliage 49 and walk 47 of "
            "720×480. The folder BDx4 holds another degradation (Gaussian blur) and is not read."
        ),
    ),
    Layout(
        name="reds",
        kind="clip",
        title="REDS",
        paper="Nah et al., CVPRW 2019",
        licence="CC BY 4.0",
        source="https://seungjunnah.github.io/Datasets/reds.html",
        scales=(4,),
        splits={
            "train": _reds("train", 236, "", "train/", without=(*_REDS4, *_REDS_REGROUPED_VAL)),
            "test": (
                *_reds("train", 4, "", "train/", only=_REDS4),
                *arrangements(
                    ("GT/{clip}/{frame}", "sharp_bicubic/{clip}/{frame}"), num_item=4, num_frame=100
                ),
            ),
            "val": (
                *_reds("val", 30, "val/", ""),
                *_reds("train", 30, "", only=_REDS_REGROUPED_VAL),
            ),
        },
        gt_size=(720, 1280),
        lq_size=(180, 320),
        degradation=(
            "MATLAB imresize, bicubic (recalled); rounding and edges are not stated and assumed "
            "to be those of Set5"
        ),
        note=(
            "The split test is REDS4: clips 000, 011, 015 and 020 of the training set, which train "
            "leaves out. In BasicSR's regrouped folder, clips 240 to 269 are val; BasicSR trains "
            "on them too, train here does not."
        ),
    ),
    Layout(
        name="vimeo90k",
        kind="clip",
        title="Vimeo-90K septuplets",
        paper="Xue et al., IJCV 2019",
        licence=NOT_STATED,
        source="http://toflow.csail.mit.edu/",
        scales=(4,),
        splits={
            "train": _vimeo("sep_trainlist.txt", 64612),
            "test": (
                *_vimeo("sep_testlist.txt", 7824),
                Split(
                    "target/{clip}/{clip}/im4",
                    "low_resolution/{clip}/{clip}/im{frame}",
                    listing="sep_testlist.txt",
                    num_item=7824,
                    num_frame=7,
                ),
            ),
        },
        gt_size=(256, 448),
        lq_size=(64, 112),
        degradation=(
            "MATLAB imresize, bicubic; rounding and edges are not stated and assumed to be those "
            "of Set5"
        ),
        note=(
            "The published scores are of im4. The root is the folder with sequences, or its "
            "parent, where BasicSR keeps LR frames as vimeo_septuplet_matlabLRx4/sequences; or the "
            "test set for super-resolution (target, low_resolution). Counts and that last "
            "arrangement are recalled, not checked."
        ),
    ),
    Layout(
        name="satellite_clips",
        kind="clip",
        title="SatelliteClips, satellite-like clips made from photographs",
        licence="that of the photographs",
        source="srtoolbox prepare satellite_clips",
        scales=(2, 3, 4, 8),
        splits={"all": (Split("GT/{clip}/{frame}", "LR{scale}x/{clip}/{frame}"),)},
        round_between_passes=False,
        degradation=(
            "bicubic with antialiasing, rounded to 8 bits once at the end, edges replicated, as "
            "Jilin-189's"
        ),
        note=(
            "A slowly drifting view of a photograph, over which small objects move along straight "
            "lines. Photographs are not satellite images: use these clips for training, or to "
            "measure alignment with the true motion, but not to compare methods for satellite "
            "video."
        ),
    ),
    Layout(
        name="clips",
        kind="clip",
        title="any folders of frames",
        splits={
            "all": arrangements(
                ("GT/{clip}/{frame}", "LR{scale}x/{clip}/{frame}"),
                ("GT/{clip}/{frame}", "BIx{scale}/{clip}/{frame}"),
                ("GT/{clip}/{frame}", "LR/{clip}/{frame}"),
                ("GT/{clip}/{frame}", "LQ/{clip}/{frame}"),
                ("gt/{clip}/{frame}", "lq/{clip}/{frame}"),
                ("HR/{clip}/{frame}", "LR/{clip}/{frame}"),
                ("{clip}/GT/{frame}", "{clip}/LR/{frame}"),
                ("{clip}/gt/{frame}", "{clip}/lq/{frame}"),
                ("{clip}/HR/{frame}", "{clip}/LR/{frame}"),
                ("{clip}/truth/{frame}", "{clip}/input{scale}/{frame}"),
                *((f"{gt}/{{clip}}/{{frame}}", None) for gt in ("GT", "gt", "HR")),
                *((f"{{clip}}/{gt}/{{frame}}", None) for gt in ("GT", "gt", "HR", "truth")),
                ("{clip}/{frame}", None),
                middle_only=True,  # GT_only4th.lmdb of Vimeo-90K
            )
        },
        degradation="missing LR is made by the rule of Set5",
    ),
)
