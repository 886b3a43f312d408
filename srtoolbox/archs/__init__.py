"""The networks, one module per method; importing this package registers them all."""

from srtoolbox.archs.basicvsr import BasicVSR
from srtoolbox.archs.basicvsrpp import BasicVSRPlusPlus
from srtoolbox.archs.bicubic import Bicubic
from srtoolbox.archs.bipnet import BIPNet
from srtoolbox.archs.burstormer import Burstormer
from srtoolbox.archs.discriminators import (
    ISRDiscriminator,
    UNetDiscriminatorSN,
    VGGStyleDiscriminator,
)
from srtoolbox.archs.dsrnet import DSRNet
from srtoolbox.archs.dstcsrnet import DSTCSRNet
from srtoolbox.archs.dstcsrnet_plus import DSTCSRNetPlus
from srtoolbox.archs.edsr import EDSR
from srtoolbox.archs.edvr import EDVR
from srtoolbox.archs.fbanet import FBANet
from srtoolbox.archs.isr import ISR_RDN, ISR_RRDN
from srtoolbox.archs.lgtd import LGTD
from srtoolbox.archs.mdsr import MDSR
from srtoolbox.archs.msdtgp import MSDTGP
from srtoolbox.archs.msttstvsr import MSTTSTVSR
from srtoolbox.archs.rcan import RCAN
from srtoolbox.archs.rdn import RDN
from srtoolbox.archs.rrdbnet import RRDBNet
from srtoolbox.archs.srvgg import SRVGGNetCompact
from srtoolbox.archs.swinir import SwinIR
from srtoolbox.archs.tdan import TDAN
from srtoolbox.archs.two_stage import TwoStage
from srtoolbox.archs.upconv7 import UpConv7

__all__ = [
    "EDSR",
    "EDVR",
    "ISR_RDN",
    "ISR_RRDN",
    "LGTD",
    "MDSR",
    "MSDTGP",
    "MSTTSTVSR",
    "RCAN",
    "RDN",
    "TDAN",
    "BIPNet",
    "BasicVSR",
    "BasicVSRPlusPlus",
    "Bicubic",
    "Burstormer",
    "DSRNet",
    "DSTCSRNet",
    "DSTCSRNetPlus",
    "FBANet",
    "ISRDiscriminator",
    "RRDBNet",
    "SRVGGNetCompact",
    "SwinIR",
    "TwoStage",
    "UNetDiscriminatorSN",
    "UpConv7",
    "VGGStyleDiscriminator",
]
