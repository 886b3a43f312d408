"""Layouts of bursts: RealBSR, BurstSR, SyntheticBurst, generated bursts, and plain folders."""

from __future__ import annotations

from functools import partial

from srtoolbox.data.layouts.base import NOT_STATED, Layout, Split, arrangements

_BURSTSR_PAPER = "Bhat et al., DBSR, CVPR 2021"
_REWARPED = ("_x4warp", "rewarp")  # endings of the names of HR images


def _realbsr(part: str, patches: str, count: int) -> tuple[Split, ...]:
    """Returns the arrangements of cropped RealBSR-RGB; aligned frames come before original ones."""
    lr = "{clip}/{any}_x1_{frame}"
    found = []
    for frames in ("LR_aligned", "LR"):
        truths = [f"{part}/{folder}/{{clip}}/{{any}}_x4" for folder in ("GT", "HR")]
        # In the archives, HR images are among the patches; the aligned frames are separate.
        truths += [f"{part}/{patches}/{{clip}}/{{any}}{end}" for end in _REWARPED]
        found += [(gt, f"{part}/{frames}/{lr}") for gt in truths]
    for folder in (patches, f"{part}/{patches}", part):
        found += [(f"{folder}/{{clip}}/{{any}}{end}", f"{folder}/{lr}") for end in _REWARPED]
    return arrangements(*found, num_item=count, num_frame=14)


def _realbsr_raw(part: str, count: int) -> tuple[Split, ...]:
    folders = (f"RealBSR_RAW_{part}patch", f"{part}patch", part)
    gt, lq = "{clip}_RAW/{any}_x4_rgb", "{clip}_RAW/{any}_x1_{frame}"
    pairs = ((f"{folder}/{gt}", f"{folder}/{lq}") for folder in folders)
    return arrangements(*pairs, num_item=count, num_frame=14)


def _burstsr(part: str, count: int, has_gt: bool = True) -> tuple[Split, ...]:
    gt = f"{part}/{{clip}}/canon/im_raw" if has_gt else None
    lq = f"{part}/{{clip}}/samsung_{{frame}}/im_raw"
    return (Split(gt, lq, num_item=count, num_frame=14),)


_realbsr_layout = partial(
    Layout,
    kind="burst",
    paper="Wei et al., FBANet, ICCV 2023",
    licence=NOT_STATED,
    source="by https://github.com/yjsunnn/FBANet",
    scales=(4,),
    gt_size=(640, 640),
    degradation="none: bursts of 14 and an HR image taken at two focal lengths by one camera",
)

BURSTS = (
    _realbsr_layout(
        name="realbsr_rgb",
        title="RealBSR-RGB",
        splits={
            "train": _realbsr("train", "trainpatch", 19509),
            "test": _realbsr("test", "testpatch", 2224),
        },
        lq_size=(160, 160),
        note=(
            "Frame 00 is the reference. LR_aligned was aligned to it by the authors; LR is as "
            "taken. Counts are recalled, not checked. The full-size release is not read. The alias "
            "'bsr' is our reading of the name BSR in a paper whose data could not be identified."
        ),
    ),
    _realbsr_layout(
        name="realbsr_raw",
        title="RealBSR-RAW",
        splits={"train": _realbsr_raw("train", 20842), "test": _realbsr_raw("test", 2377)},
        lq_size=(80, 80),
        bit_depth=14,
        raw=True,
        white_level=16383,
        gt_white_level=16383,
        black_level=512,
        note=(
            "LR is packed RGGB in 16-bit files. Known only from secondary sources: the "
            "levels (of both LR and HR), the sizes and the counts. The .pkl beside each burst, "
            "which may say that the black level is already subtracted, is not read."
        ),
    ),
    Layout(
        name="burstsr",
        kind="burst",
        title="BurstSR",
        paper=_BURSTSR_PAPER,
        licence="not stated for the data (the code is CC BY-NC-SA 4.0)",
        source="https://github.com/goutamgmb/NTIRE21_BURSTSR (burstsr_links.md)",
        scales=(4,),
        splits={
            "train": _burstsr("train", 5405),
            "val": _burstsr("val", 882),
            "test": _burstsr("test", 639, has_gt=False),
        },
        gt_size=(640, 640),
        lq_size=(80, 80),
        bit_depth=10,
        raw=True,
        white_level=1023,
        gt_white_level=16383,
        degradation="none: bursts of 14 by a phone, HR by another camera and not aligned",
        note=(
            "LR is packed RGGB of 160×160 sensor pixels with the black level subtracted and no "
            "white balance; HR has other colours. Frame 00 is the reference. No ground truth is "
            "published for test, whose arrangement is assumed to be that of val."
        ),
    ),
    Layout(
        name="syntheticburst",
        kind="burst",
        title="SyntheticBurst (validation)",
        paper=_BURSTSR_PAPER,
        licence=NOT_STATED,
        source="https://github.com/goutamgmb/deep-burst-sr",
        scales=(4,),
        splits={
            "val": arrangements(
                ("gt/{clip}/im_rgb", "bursts/{clip}/im_raw_{frame}"),
                (None, "{clip}/im_raw_{frame}"),
                num_item=300,
                num_frame=14,
            )
        },
        gt_size=(384, 384),
        lq_size=(48, 48),
        bit_depth=14,
        raw=True,
        white_level=16384,
        gt_white_level=16384,
        degradation=(
            "sRGB converted to linear sensor values; each frame shifted and rotated, reduced by "
            "bilinear sampling without antialiasing, mosaicked, with shot and read noise added"
        ),
        note=(
            "Scored in linear sensor space. Pixel i of the reference frame lies on HR pixel 4i, "
            "1.5 HR pixels off the usual centre. Training bursts are drawn from photographs."
        ),
    ),
    Layout(
        name="sbsr",
        kind="burst",
        title="SBSR, bursts made from photographs",
        licence="that of the photographs",
        source="srtoolbox prepare sbsr",
        scales=(2, 3, 4, 8),
        splits={"all": arrangements(("HR/{clip}/{clip}_x{scale}", "LR/{clip}/{clip}_x1_{frame}"))},
        degradation=(
            "each frame except the reference shifted and rotated, optionally blurred, reduced, "
            "with noise added and rounded to 8 bits; the options of the generator say how"
        ),
        note="Frame 00 is the reference. The name is our reading of SBSR in a paper.",
    ),
    Layout(
        name="bursts",
        kind="burst",
        title="any folders of bursts",
        splits={
            "all": arrangements(
                ("GT/{clip}/{any}", "LR/{clip}/{frame}"),
                ("GT/{clip}", "LR/{clip}/{frame}"),
                ("HR/{clip}/{any}", "LR/{clip}/{frame}"),
                ("HR/{clip}", "LR/{clip}/{frame}"),
                ("gt/{clip}/{any}", "lq/{clip}/{frame}"),
                ("gt/{clip}", "lq/{clip}/{frame}"),
                ("{clip}/GT/{any}", "{clip}/LR/{frame}"),
                ("{clip}/HR/{any}", "{clip}/LR/{frame}"),
                ("{clip}/gt/{any}", "{clip}/lq/{frame}"),
                ("{clip}/GT", "{clip}/LR/{frame}"),
                ("{clip}/HR", "{clip}/LR/{frame}"),
                ("{clip}/gt", "{clip}/lq/{frame}"),
                (None, "LR/{clip}/{frame}"),
                (None, "{clip}/{frame}"),
            )
        },
        note="The first frame by name is the reference.",
    ),
)
