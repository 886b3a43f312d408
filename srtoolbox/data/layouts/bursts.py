"""Layouts of bursts: RealBSR, BurstSR, SyntheticBurst, bursts made here, and plain folders."""

from __future__ import annotations

from srtoolbox.data.layouts.base import NOT_STATED, Files, Layout, Split

_REALBSR_PAPER = "Wei et al., FBANet, ICCV 2023"
_REALBSR_SOURCE = "by https://github.com/yjsunnn/FBANet"
_BURSTSR_PAPER = "Bhat et al., DBSR, CVPR 2021"


def _realbsr(part: str, patches: str, count: int) -> tuple[Split, ...]:
    """Cropped RealBSR-RGB; the aligned frames are preferred to those as taken."""
    lr = "{any}_x1_{frame}"
    found = []
    for frames in ("LR_aligned", "LR"):
        lq = Files(f"{part}/{frames}/{{clip}}", lr)
        truths = [Files(f"{part}/{folder}/{{clip}}", "{any}_x4") for folder in ("GT", "HR")]
        # The archives hold the HR images among the patches, and the aligned frames apart.
        truths += [Files(f"{part}/{patches}/{{clip}}", f"{{any}}{end}") for end in _REWARPED]
        found += [(gt, lq) for gt in truths]
    for folder in (patches, f"{part}/{patches}", part):
        found += [
            (Files(f"{folder}/{{clip}}", f"{{any}}{end}"), Files(f"{folder}/{{clip}}", lr))
            for end in _REWARPED
        ]
    return tuple(Split(gt, lq, num_item=count, num_frame=14) for gt, lq in found)


_REWARPED = ("_x4warp", "rewarp")


def _realbsr_raw(part: str, count: int) -> tuple[Split, ...]:
    return tuple(
        Split(
            Files(f"{folder}/{{clip}}_RAW", "{any}_x4_rgb"),
            Files(f"{folder}/{{clip}}_RAW", "{any}_x1_{frame}"),
            num_item=count,
            num_frame=14,
        )
        for folder in (f"RealBSR_RAW_{part}patch", f"{part}patch", part)
    )


def _burstsr(part: str, count: int, has_gt: bool = True) -> tuple[Split, ...]:
    gt = Files(f"{part}/{{clip}}/canon", "im_raw") if has_gt else None
    lq = Files(f"{part}/{{clip}}/samsung_{{frame}}", "im_raw")
    return (Split(gt, lq, num_item=count, num_frame=14),)


BURSTS = (
    Layout(
        name="realbsr_rgb",
        kind="burst",
        title="RealBSR-RGB",
        paper=_REALBSR_PAPER,
        licence=NOT_STATED,
        source=_REALBSR_SOURCE,
        scales=(4,),
        splits={
            "train": _realbsr("train", "trainpatch", 19509),
            "test": _realbsr("test", "testpatch", 2224),
        },
        gt_size=(640, 640),
        lq_size=(160, 160),
        degradation="none: bursts of 14 and an HR image taken at two focal lengths by one camera",
        note=(
            "Frame 00 is the reference. LR_aligned was aligned to it by the authors; LR is as "
            "taken. Counts are recalled, not checked. The full-size release is not read. The alias "
            "'bsr' is our reading of the name BSR in a paper whose data could not be identified."
        ),
    ),
    Layout(
        name="realbsr_raw",
        kind="burst",
        title="RealBSR-RAW",
        paper=_REALBSR_PAPER,
        licence=NOT_STATED,
        source=_REALBSR_SOURCE,
        scales=(4,),
        splits={"train": _realbsr_raw("train", 20842), "test": _realbsr_raw("test", 2377)},
        gt_size=(640, 640),
        lq_size=(80, 80),
        bit_depth=14,
        raw=True,
        white_level=16383,
        gt_white_level=16383,
        black_level=512,
        degradation="none: bursts of 14 and an HR image taken at two focal lengths by one camera",
        note=(
            "LR is packed RGGB in 16-bit files. Known at second hand only: the levels (of both LR "
            "and HR), the sizes and the counts. The .pkl beside each burst, which may say that the "
            "black level is already subtracted, is not read."
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
        degradation="none: bursts of 14 by a telephone, HR by another camera and not aligned",
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
            "val": (
                Split(
                    Files("gt/{clip}", "im_rgb"),
                    Files("bursts/{clip}", "im_raw_{frame}"),
                    num_item=300,
                    num_frame=14,
                ),
                Split(None, Files("{clip}", "im_raw_{frame}"), num_item=300, num_frame=14),
            )
        },
        gt_size=(384, 384),
        lq_size=(48, 48),
        bit_depth=14,
        raw=True,
        white_level=16384,
        gt_white_level=16384,
        degradation=(
            "sRGB turned to linear sensor values; each frame shifted and turned, reduced by "
            "bilinear sampling without antialiasing, mosaicked, given shot and read noise"
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
        paper="",
        licence="that of the photographs",
        source="srtoolbox prepare sbsr",
        scales=(2, 3, 4, 8),
        splits={
            "all": (
                Split(
                    Files("HR/{clip}", "{clip}_x{scale}"), Files("LR/{clip}", "{clip}_x1_{frame}")
                ),
            )
        },
        degradation=(
            "each frame but the reference shifted and turned, optionally blurred, reduced, given "
            "noise and rounded to 8 bits; the options of the generator say how"
        ),
        note="Frame 00 is the reference. The name is our reading of SBSR in a paper.",
    ),
    Layout(
        name="bursts",
        kind="burst",
        title="any folders of bursts",
        paper="",
        licence="",
        source="your own",
        scales=(),
        splits={
            "all": (
                *(
                    Split(gt, Files(f"{lq}/{{clip}}", "{frame}"))
                    for hr, lq in (("GT", "LR"), ("HR", "LR"), ("gt", "lq"))
                    for gt in (Files(f"{hr}/{{clip}}", "{any}"), Files(hr, "{clip}"))
                ),
                *(
                    Split(Files(f"{{clip}}/{gt}", "{any}"), Files(f"{{clip}}/{lq}", "{frame}"))
                    for gt, lq in (("GT", "LR"), ("HR", "LR"), ("gt", "lq"))
                ),
                *(
                    Split(Files("{clip}", gt), Files(f"{{clip}}/{lq}", "{frame}"))
                    for gt, lq in (("GT", "LR"), ("HR", "LR"), ("gt", "lq"))
                ),
                Split(None, Files("LR/{clip}", "{frame}")),
                Split(None, Files("{clip}", "{frame}")),
            )
        },
        note="The first frame by name is the reference.",
    ),
)
