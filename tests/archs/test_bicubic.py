from __future__ import annotations

import pytest
import torch

from srtoolbox.archs.bicubic import Bicubic
from srtoolbox.archs.layers.upsample import bicubic_upsample


@pytest.mark.parametrize("scale", Bicubic.scales)
def test_is_bicubic_enlargement_without_parameters(scale):
    net = Bicubic(scale)
    lq = torch.rand(2, 3, 5, 6)
    assert not net.state_dict()
    assert torch.equal(net(lq), bicubic_upsample(lq, scale))
