"""How FLOPs are counted, in words."""

COUNTING = (
    "FLOPs are 2 per multiply-add of convolutions, matrix products, attention, sampling "
    "(4 multiply-adds per bilinear value, 16 per bicubic one) and deformable convolution "
    "(sampling, then a convolution); element-wise work is not counted"
)
