"""Layouts of bursts: RealBSR, BurstSR, SyntheticBurst, BSR, generated bursts, plain folders."""

from __future__ import annotations

from functools import partial

from srtoolbox.data.layouts.base import NOT_STATED, Layout, Split, arrangements

_BURSTSR_PAPER = "Bhat et al., DBSR, CVPR 2021"
_BSR_FRAME = "{clip}{-any}/lr_frame_{frame}"  # the burst's name ends at the first hyphen
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


_bsr_layout = partial(
    Layout,
    kind="burst",
    paper="DSTC-SRNet (known by its released code)",
    licence=NOT_STATED,
    gt_size=(384, 384),
    wrong_scale="the authors' code resizes such HR images to 384×384 by Lanczos: store them so",
)

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
            "'bsr' is our reading of the name BSR before we knew DSTC-SRNet's data, whose layouts "
            "are sbsr_official and rbsr."
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
        note=(
            "Frame 00 is the reference. These bursts follow our own rules; sbsr_official has those "
            "of the authors of DSTC-SRNet, who use the name SBSR."
        ),
    ),
    _bsr_layout(
        name="sbsr_official",
        title="SBSR-official, synthetic bursts of the authors of DSTC-SRNet",
        source=(
            "by https://github.com/MinjieWan/DTSC-SRNet; srtoolbox prepare sbsr_official makes "
            "bursts by the same rules"
        ),
        scales=(2, 3, 4, 8),
        splits={
            "train": arrangements(
                ("gtlarge384/{clip}", f"lr_output_v{{scale}}+/{_BSR_FRAME}"),
                ("gtlarge384/{clip}", f"lr_outputlarge384/{_BSR_FRAME}"),
            ),
            "val": arrangements(
                ("gtlargetest384/{clip}", f"lr_output_testv{{scale}}+/{_BSR_FRAME}"),
                ("gtlargetest384/{clip}", f"lrlarge384/{_BSR_FRAME}"),
            ),
            "all": arrangements(("gt/{clip}", f"lr/{_BSR_FRAME}")),
        },
        degradation=(
            "each frame except the first shifted, rotated, sheared and zoomed; blurred by a "
            "Gaussian of 3.2 HR pixels, reduced by area averaging, with Gaussian noise of 2.55 "
            "levels; truncated to 8 bits"
        ),
        note=(
            "Frame 00 is the reference. A burst may have any number of frames; the authors' have "
            "16. train and val have the authors' folder names: without a number for ×4, with v8+ "
            "for ×8; both scales have the same HR images. all is the form that prepare writes. "
            "Other files beside the frames are ignored."
        ),
    ),
    _bsr_layout(
        name="rbsr",
        title="RBSR, real bursts of the authors of DSTC-SRNet",
        source="by https://github.com/MinjieWan/DTSC-SRNet",
        scales=(4,),
        splits={
            part: arrangements((f"{part}/gt/{{clip}}", f"{part}/lr/{_BSR_FRAME}"))
            for part in ("train", "val")
        },
        degradation="none: bursts and HR images taken by cameras",
        note=(
            "Frame 00 is the reference. The authors train on four folders named 1, 3, 5 and 6: put "
            "their bursts into train/lr and their HR images into train/gt, with different names. "
            "These names of folders are ours; the files are as the authors' code reads them. RBSR "
            "is most likely RealBSR-RGB cut to this form; this is not proven."
        ),
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
