"""Small options for every registered network."""

from __future__ import annotations

from srtoolbox.archs.base import arch_info
from srtoolbox.registry import ARCH_REGISTRY

SMALL: dict[str, dict] = {
    "BIPNet": {
        "num_feat": 8,
        "num_frame": 3,
        "num_merge": 2,
        "num_group": 1,
        "num_block": 1,
        "num_unet_group": 1,
        "num_unet_block": 1,
        "deformable_groups": 2,
    },
    "Burstormer": {"num_feat": 8},
    "BasicVSR": {
        "num_feat": 8,
        "num_block": 1,
        "num_hr_feat": 8,
        "num_flow_level": 2,
        "num_flow_feat": 4,
    },
    "BasicVSRPlusPlus": {
        "num_feat": 8,
        "num_block": 1,
        "num_extract_block": 1,
        "num_reconstruct_block": 1,
        "deformable_groups": 2,
        "num_hr_feat": 8,
        "num_flow_level": 2,
        "num_flow_feat": 4,
    },
    "DSRNet": {"num_feat": 16},
    "DSTCSRNet": {"num_feat": 16},
    "DSTCSRNetPlus": {"num_feat": 8, "num_block": 1, "num_feat_fine": 8, "num_layer_fine": 1},
    "EDSR": {"num_feat": 8, "num_block": 2},
    "EDVR": {
        "num_feat": 8,
        "deformable_groups": 2,
        "num_extract_block": 1,
        "num_reconstruct_block": 1,
    },
    "FBANet": {"num_feat": 4, "num_frame": 3, "window_size": 2, "num_head": (1, 1, 2, 2, 1)},
    "ISR_RDN": {"num_feat": 8, "num_block": 2, "num_layer": 2, "num_grow_ch": 4},
    "ISR_RRDN": {
        "num_feat": 8,
        "num_block": 2,
        "num_dense_block": 2,
        "num_layer": 2,
        "num_grow_ch": 4,
    },
    "LGTD": {
        "num_feat": 8,
        "num_extract_block": 1,
        "num_block": 1,
        "deformable_groups": 2,
        "embed_dim": 12,
        "num_group": 1,
        "num_group_block": 2,
        "num_head": 2,
        "window_size": 4,
    },
    "MDSR": {"num_feat": 8, "num_block": 2},
    "MSDTGP": {
        "num_feat": 8,
        "num_wide_feat": 12,
        "num_extract_block": 1,
        "num_block": 1,
        "deformable_groups": 2,
    },
    "MSTTSTVSR": {
        "num_feat": 8,
        "num_extract_block": 1,
        "num_reconstruct_block": 1,
        "deformable_groups": 2,
        "patch_sizes": (4, 2),
    },
    "RCAN": {"num_feat": 8, "num_group": 2, "num_block": 1, "squeeze_factor": 2},
    "RDN": {"num_feat": 8, "num_block": 2, "num_layer": 2, "num_grow_ch": 4},
    "RRDBNet": {"num_feat": 8, "num_block": 1, "num_grow_ch": 4},
    "SRVGGNetCompact": {"num_feat": 8, "num_conv": 2},
    "SwinIR": {
        "img_size": 8,
        "embed_dim": 12,
        "depths": (2,),
        "num_heads": (3,),
        "window_size": 4,
    },
    "TDAN": {
        "num_feat": 8,
        "deformable_groups": 2,
        "num_extract_block": 1,
        "num_reconstruct_block": 1,
    },
    "TwoStage": {"network": {"type": "EDSR", "num_feat": 8, "num_block": 1}},
}


NAMES = [  # without those that are built from a weight file, which have no defaults
    name for name in ARCH_REGISTRY if not arch_info(ARCH_REGISTRY.get(name)).weight_option
]
NAMES_AND_SCALES = [(name, scale) for name in NAMES for scale in ARCH_REGISTRY.get(name).scales]


def outputs(net, lq):
    """Returns all output tensors of a network, by name."""
    output = net(lq)
    return output if isinstance(output, dict) else {"sr": output}
