"""Estimates the global motion of a burst without labels, and warps with it.

The frames of a hand-held burst of a static scene differ mainly by a shift and a small rotation of
the camera; a lens or a generator may add zoom and shear. These few numbers per frame can be
estimated from the images alone to a few hundredths of a pixel, an accuracy for which a flow network
needs ground truth.

Conventions: coordinates are (x, y) in pixels, (0, 0) is the centre of the top-left pixel. A motion
is a 2×3 matrix M that maps a point p of the reference to its position in a frame,
``p' = M·(p, 1)``.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from srtoolbox.archs.layers.basic import is_exporting
from srtoolbox.errors import UserError

Motion = Literal["auto", "euclidean", "similarity", "affine"]

# The six parameters are shift x, shift y, rotation, zoom and two shears, in this order. A model
# uses the first of them; without any, the motion is the identity.
_NUM_PARAMETER: dict[str, tuple[int, ...]] = {
    "auto": (0, 3, 4, 6),
    "euclidean": (3,),
    "similarity": (4,),
    "affine": (6,),
}

_MIN_LEVEL_SIZE = 10  # pixels; smaller images do not determine three parameters
_PIXELS_PER_VALUE = 10  # smoothing and aliasing correlate the residuals of neighbours
_CONTRAST = 0.2  # standard deviation of scaled references, as of an ordinary photograph
_MIN_DEVIATION = 0.01  # of a reference before; what is lower may be noise or rounding to 8 bits
_VISIBLE_VARIANCE = 1e-7  # of residuals of scaled frames
_RIM = 1 / 40  # of the shorter side is not compared at each border, if this is at least two pixels
_MIN_OVERLAP = 0.2  # of the valid pixels, of a kept estimate
_MIN_CORRELATION = 0.25  # of a kept estimate; interpolation alone makes noise this similar


@torch.no_grad()
def estimate_motion(
    frames: Tensor,
    reference: int = 0,
    num_level: int = 3,
    num_iter: int = 5,
    model: Motion = "auto",
) -> Tensor:
    """Estimates the motion of every frame relative to the reference frame.

    Coarse-to-fine Gauss-Newton with the gradients of the reference (Baker and Matthews,
    "Lucas-Kanade 20 Years On", IJCV 2004) and Geman-McClure weights, which reduce the influence of
    moving objects. Computed on the mean of all bands, in float32 without gradients, also under
    autocast; the cost is linear in the pixels. The result of a frame does not depend on other
    frames of the batch, and hardly on the unit of the values: frames are scaled by the standard
    deviation of their reference.

    ``"auto"`` chooses for each frame among no motion, shift and rotation, these with zoom, and all
    affine motions, by the Bayesian information criterion (Schwarz, "Estimating the Dimension of a
    Model", 1978). Of n values (a tenth of the compared pixels, because neighbours are correlated),
    a further parameter has to lower the weighted squared error by the factor
    ``(n + e) ** (-1 / n)``, which is 12 % for 16×16 pixels, 2.3 % for 48×48 and 0.7 % for 96×96.

    With every model, a motion is the identity if it does not lower the photometric error, or if
    frame and reference are too dissimilar for one scene, as two images of noise.

    Args:
        frames: (N, T, C, h, w) in any unit.
        reference: Index of the reference frame.
        num_level: Maximum number of pyramid levels; small images have fewer.
        num_iter: Iterations at the finest level, at least 1; the coarsest level has one more,
            others one less. Motion of more than about 4 pixels at the coarsest level needs more.
        model: ``"euclidean"`` has shift and rotation, ``"similarity"`` also zoom, ``"affine"`` also
            shear; ``"auto"`` chooses for each frame.

    Returns:
        (N, T, 2, 3), float32; the identity for the reference itself.

    Raises:
        UserError: if there is no such model.
    """
    if model not in _NUM_PARAMETER:
        raise UserError(
            f"estimate_motion: model must be one of {', '.join(_NUM_PARAMETER)}, got {model!r}"
        )
    n, t, _, h, w = frames.shape
    reference = range(t)[reference]
    still = torch.eye(2, 3, device=frames.device)
    if t == 1:
        return still.expand(n, 1, 2, 3).clone()
    with torch.autocast(frames.device.type, enabled=False):
        gray = frames.detach().float().mean(2)  # (N, T, h, w)
        if reference != 0:
            before, first, after = gray.split([reference, 1, t - reference - 1], 1)
            gray = torch.cat([first, before, after], 1)
        gray = smooth(gray)
        pyramid = [gray * contrast_factor(gray[:, :1])]
        while len(pyramid) < num_level and min(pyramid[-1].shape[-2:]) >= 2 * _MIN_LEVEL_SIZE:
            pyramid.append(F.avg_pool2d(smooth(pyramid[-1]), 2))

        tangents = _Tangents((h + w) / 6, gray)
        pose = gray.new_zeros(n * (t - 1), 6)
        counts = _NUM_PARAMETER[model]
        for level in reversed(range(len(pyramid))):
            aligner = _Aligner(pyramid[level], 2**level, (h, w), tangents)
            finest, coarsest = level == 0, level == len(pyramid) - 1
            steps = num_iter if finest else num_iter + 1 if coarsest else num_iter - 1
            for i in range(steps):
                if i % 2:
                    pose = aligner.step(pose)
                    continue
                allowed = counts
                if len(counts) > 1:  # many parameters only near the solution, none at the end
                    last = 2 if coarsest and i == 0 else 3 if not finest or i == 0 else 4
                    allowed = counts if finest and i + 2 >= steps else counts[1:last]
                pose = aligner.restart(pose, allowed)
        rows = tangents.rows(aligner.keep(pose)).unflatten(0, (n, t - 1))

        linear, shift = rows[..., :2] / tangents.radius + still[:, :2], rows[..., 2]
        # From positions relative to the centre of the image to those relative to its first pixel.
        centre = torch.stack([still.new_full((), (w - 1) / 2), still.new_full((), (h - 1) / 2)])
        shift = shift + centre - (linear * centre).sum(-1)
        motion = torch.cat([linear, shift[..., None]], -1)
    still = still.expand(n, 1, 2, 3)
    return torch.cat([motion[:, :reference], still, motion[:, reference:]], 1)


class _Tangents:
    """The six parameters of a pose, all in pixels, and their sums over an image.

    They are shift x, shift y, rotation, zoom and two shears. A point p of the reference, relative
    to the centre of the image, moves by ``R·(p / radius, 1)`` pixels, where the rows R depend
    linearly on the parameters. With all other parameters 0, a rotation has the zoom 0, and its
    rows are those of an exact rotation up to the third order.

    Args:
        radius: Distance from the centre at which rotation, zoom and shears of 1 move by one pixel.
        like: Gives type and device.
    """

    def __init__(self, radius: float, like: Tensor) -> None:
        self.radius = radius
        eye = torch.eye(6, dtype=like.dtype, device=like.device)
        xx, xy, x, yx, yy, y = eye.unbind()
        self.basis = torch.stack([x, y, yx - xy, xx + yy, xx - yy, xy + yx])
        self.eye, self.bend = eye, eye[3] / (2 * radius)
        # A model has the row with as many ones as it has parameters.
        self.models = torch.ones(7, 6, dtype=like.dtype, device=like.device).tril(-1)
        # Sums and products of sums are linear in the moments, so their matrices are the results
        # for unit vectors.
        unit = torch.eye(8, dtype=like.dtype, device=like.device).view(8, 2, 2, 2)
        descent = torch.stack([unit[..., 1, 0], unit[..., 0, 1], unit[..., 0, 0]], -1)
        self.descent = self.basis @ descent.flatten(1).mT  # (6, 8)
        unit = torch.eye(27, dtype=like.dtype, device=like.device).view(27, 3, 3, 3)
        one, x, xx = unit[..., 0, 0], unit[..., 1, 0], unit[..., 2, 0]
        y, yy, xy = unit[..., 0, 1], unit[..., 0, 2], unit[..., 1, 1]
        blocks = torch.stack([xx, xy, x, xy, yy, y, x, y, one], -1).view(27, 3, 3, 3)
        a, b, c = blocks.unbind(1)
        matrix = torch.cat([torch.cat([a, b], 2), torch.cat([b, c], 2)], 1)
        self.matrix = (self.basis @ matrix @ self.basis.mT).flatten(1).mT  # (36, 27)

    def rows(self, pose: Tensor) -> Tensor:
        """Returns the rows of poses (B, 6) that have an exact rotation: (B, 2, 3)."""
        return ((pose - self.bent(pose)) @ self.basis).view(-1, 2, 3)

    def bent(self, pose: Tensor) -> Tensor:
        """Returns the zoom of the tangent of a rotation, to subtract from it: (B, 6)."""
        return pose[:, 2:3].square() * self.bend


class _Aligner:
    """Gauss-Newton steps at one pyramid level, for all frames but the reference at once.

    All operations on images are elementwise or sums along axes: products with small matrices are
    several times as slow.

    Args:
        images: (N, T, h, w), the reference first.
        stride: Pixels of the full image per pixel.
        full: Height and width of the full image.
        tangents: The parameters of a pose.
    """

    def __init__(
        self, images: Tensor, stride: int, full: tuple[int, int], tangents: _Tangents
    ) -> None:
        height, width = images.shape[2:]
        self.tangents = tangents
        self.template, self.others = images[:, :1], images[:, 1:].contiguous()
        padded = F.pad(self.template, (1, 1, 1, 1), mode="replicate")
        gx = (padded[..., 1:-1, 2:] - padded[..., 1:-1, :-2]) / (2 * stride)
        gy = (padded[..., 2:, 1:-1] - padded[..., :-2, 1:-1]) / (2 * stride)
        self.gradient = torch.stack([gx, gy], 2)  # (N, 1, 2, h, w)
        self.products = torch.stack([gx * gx, gx * gy, gy * gy], 2)

        # Pixels nearer to the border of the full image than the margin are not compared: filters
        # have repeated border values, and some cameras and generators leave a dark rim.
        rim = _RIM * min(full)
        margin = max(stride / 2, rim if rim >= 2 else 0)
        axes = []
        for size, whole in ((width, full[1]), (height, full[0])):
            index = torch.arange(size, dtype=images.dtype, device=images.device)
            axes.append((index + 0.5) * stride - whole / 2)
        x, y = axes
        wide, high = (
            axis.abs() <= whole / 2 - margin for axis, whole in zip(axes, full[::-1], strict=True)
        )
        self.window = (high[:, None] & wide).to(images.dtype)
        x, y = x / tangents.radius, y / tangents.radius
        one = torch.ones_like
        self.powers_x = torch.stack([one(x), x, x * x])
        self.powers_y = torch.stack([one(y), y, y * y])

        # Positions for grid_sample: -1 and 1 are the edges of this level's image.
        unit = torch.stack([x.new_full((1,), 2 / (stride * side)) for side in (width, height)])
        half = torch.stack([x.new_full((1,), whole / 2) for whole in full[::-1]])
        self.centre = half * unit - 1
        still = tangents.radius * torch.eye(2, dtype=x.dtype, device=x.device) * unit
        self.still = torch.cat([still, self.centre], 1).flatten()
        self.moves = tangents.basis * unit.expand(2, 3).flatten()
        self.centre, self.limit = self.centre[..., None], ((half - margin) * unit)[..., None] + 1e-5

    def step(self, pose: Tensor) -> Tensor:
        """Performs one iteration with the weights, the matrix and the models of `restart`."""
        moments = self._moments(self.weighted * self._residual(pose)[0][:, :, None], 2)
        return torch.baddbmm(pose[..., None], self.inverse, moments[..., None], alpha=-1)[..., 0]

    def restart(self, pose: Tensor, allowed: tuple[int, ...]) -> Tensor:
        """Renews weights and matrix, and performs one iteration with the best allowed model.

        A model fixes the last parameters to 0. With the Cholesky factor L of the matrix and the
        solution p of all six parameters, the squared error grows by the squares of the last values
        of Lᵀp if these parameters are fixed, and with zeros in their place Lᵀp belongs to the
        solution of the model. So one factor gives the errors and solutions of all models.

        Args:
            pose: (B, 6).
            allowed: Numbers of parameters to choose from.
        """
        tangents = self.tangents
        residual, position = self._residual(pose)
        inside = self._inside(position)
        spread = (residual.abs() * inside).sum((2, 3), keepdim=True)
        spread = spread / (inside.sum((2, 3), keepdim=True) + 1)
        weight = inside / (1 + (residual / (3 * spread + 1e-4)).square()).square()
        self.weighted = weight[:, :, None] * self.gradient

        matrix = self._moments(self.products * weight[:, :, None], 3)
        matrix = F.linear(matrix, tangents.matrix).view(-1, 6, 6)
        # Damping: an image without structure gives no step.
        damping = 1e-3 * matrix.diagonal(dim1=1, dim2=2).mean(1) + 1e-6
        matrix = torch.addcmul(matrix, damping[:, None, None], tangents.eye)
        upper, lower_inverse = _cholesky(matrix, tangents.eye)
        moments = self._moments(self.weighted * residual[:, :, None], 2)
        projected = lower_inverse @ F.linear(moments, tangents.descent)[..., None]
        solution = (pose + tangents.bent(pose))[..., None] - lower_inverse.mT @ projected
        rotated = (upper @ solution)[..., 0]

        models = torch.stack([tangents.models[used] for used in allowed])
        used = models
        if len(allowed) > 1:
            count = weight.sum((2, 3)).flatten()
            error = (weight * residual.square()).sum((2, 3)).flatten()
            error = (error - projected.square().sum((1, 2))).clamp_min(0)
            growth = F.linear(rotated.square(), 1 - models)
            error = (error + _VISIBLE_VARIANCE * count)[:, None] + growth
            values = (count / _PIXELS_PER_VALUE)[:, None]
            criterion = values * error.log() + (values + math.e).log() * models.sum(1)
            used = models[criterion.argmin(1)]
        self.used = used  # (B, 6) or (1, 6)
        self.inverse = lower_inverse.mT @ (used[..., None] * (lower_inverse @ tangents.descent))
        pose = (lower_inverse.mT @ (used * rotated)[..., None])[..., 0]
        return pose - tangents.bent(pose)

    def keep(self, pose: Tensor) -> Tensor:
        """Replaces poses by zeros, the identity, that do not make the images more similar.

        Poses that stay have an exact rotation, for `_Tangents.rows`.
        """
        residual, position = self._residual(pose)
        inside = self._inside(position)
        overlap = inside.mean((2, 3))
        error = (residual.abs() * inside).mean((2, 3)) / overlap.clamp_min(1e-6)
        better = error < (self.others - self.template).abs().mean((2, 3))
        # The mean absolute difference of normal values is sqrt(2 / pi) standard deviations.
        variance = math.pi / 2 * error.square()
        values = overlap * math.prod(inside.shape[2:]) / _PIXELS_PER_VALUE
        similar = 1 - _MIN_CORRELATION - (values + 1 / _PIXELS_PER_VALUE).rsqrt()
        own = self.template.var((2, 3), correction=0) + self.others.var((2, 3), correction=0)
        better = better & (overlap > _MIN_OVERLAP) & (variance < similar * own)
        exact = (pose + self.tangents.bent(pose)) * self.used
        return torch.where(better.flatten()[:, None], exact, torch.zeros_like(exact))

    def _residual(self, pose: Tensor) -> tuple[Tensor, Tensor]:
        """Returns warped frames minus the template, and positions (B, 2, h, w) of `grid_sample`."""
        n, t, height, width = self.others.shape
        rows = torch.addmm(self.still, pose, self.moves).view(-1, 2, 3)
        x = rows[:, :, :1] * self.powers_x[1]
        y = torch.addcmul(rows[:, :, 2:], rows[:, :, 1:2], self.powers_y[1])
        position = x[:, :, None] + y[..., None]
        images = self.others.view(n * t, 1, height, width)
        # A permuted view: writing x beside y takes longer than the sampling.
        grid = position.permute(0, 2, 3, 1)
        warped = F.grid_sample(images, grid, padding_mode="border", align_corners=False)
        return warped.view(n, t, height, width) - self.template, position

    def _inside(self, position: Tensor) -> Tensor:
        """Returns 1 for pixels to compare, else 0: (N, T - 1, h, w)."""
        within = (position - self.centre).abs() <= self.limit
        within = (within[:, 0] & within[:, 1]).view(self.others.shape)
        return within.to(position.dtype) * self.window

    def _moments(self, images: Tensor, num_power: int) -> Tensor:
        """Returns sums of images (N, T - 1, K, h, w) times powers of x and y: (B, K·D·D)."""
        along_x = F.linear(images, self.powers_x[:num_power])
        sums = F.linear(along_x.transpose(-1, -2), self.powers_y[:num_power])
        return sums.flatten(0, 1).flatten(1)


def motion_to_flow(motion: Tensor, size: tuple[int, int], stride: int = 1) -> Tensor:
    """Converts motions to displacements at every ``stride``-th pixel, in units of ``stride``.

    Args:
        motion: (N, T, 2, 3), in pixels of the full image.
        size: (h, w) of the field.
        stride: Stride of the features for this field: their pixel i is at pixel i·stride.

    Returns:
        (N, T, 2, h, w), x before y.
    """
    x, y = _coordinates(size, motion)
    # No matrix product: autocast, or TF32 on a GPU, would round it to whole tenths of a pixel.
    along_x, along_y, shift = motion[..., None, None].unbind(3)
    return along_x * x + along_y * y + shift / stride - torch.stack([x, y])


def warp(features: Tensor, flow: Tensor, beyond: Literal["border", "zeros"] = "border") -> Tensor:
    """Warps features to the reference: ``out(p) = features(p + flow(p))``, bilinear.

    Computed in float32, as half precision is too coarse for sub-pixel positions.

    Args:
        features: (B, C, h, w).
        flow: (B, 2, h, w) in pixels, x before y.
        beyond: Whether border values are repeated beyond the border, or all values are zero there.

    Returns:
        (B, C, h, w), of the type of ``features``.
    """
    height, width = flow.shape[-2:]
    x = torch.arange(width, device=flow.device) + flow[:, 0].float()
    y = torch.arange(height, device=flow.device)[:, None] + flow[:, 1].float()
    grid = torch.stack([(2 * x + 1) / width - 1, (2 * y + 1) / height - 1], -1)
    with torch.autocast(features.device.type, enabled=False):
        out = F.grid_sample(features.float(), grid, padding_mode=beyond, align_corners=False)
    return out.to(features.dtype)


def inside(flow: Tensor) -> Tensor:
    """Returns 1 where ``flow`` (B, 2, h, w) points into the image, else 0: (B, 1, h, w)."""
    height, width = flow.shape[-2:]
    x = torch.arange(width, device=flow.device) + flow[:, 0]
    y = torch.arange(height, device=flow.device)[:, None] + flow[:, 1]
    within = (x >= -0.5) & (x <= width - 0.5) & (y >= -0.5) & (y <= height - 0.5)
    return within[:, None].to(flow.dtype)


def smooth(image: Tensor) -> Tensor:
    """Binomial 3×3 filter of (N, T, h, w); reduces noise and aliasing, which do not follow motion.

    Sums of shifted images are several times as fast as a convolution of one channel.
    """
    padded = F.pad(image, (1, 1, 1, 1), mode="replicate")
    rows = torch.add(padded[..., :-2, :] + padded[..., 2:, :], padded[..., 1:-1, :], alpha=2)
    return torch.add(rows[..., :-2] + rows[..., 2:], rows[..., 1:-1], alpha=2) / 16


def contrast_factor(reference: Tensor) -> Tensor:
    """Returns the factor that gives references the standard deviation of an ordinary photograph.

    It is at most 20: the deviation of a reference without structure is noise.

    Args:
        reference: (N, 1, h, w), smoothed.

    Returns:
        (N, 1, 1, 1), near 1 for photographs in [0, 1].
    """
    deviation = reference.std((2, 3), correction=0, keepdim=True)
    return _CONTRAST / deviation.clamp_min(_MIN_DEVIATION)


def _cholesky(matrix: Tensor, eye: Tensor) -> tuple[Tensor, Tensor]:
    """Returns Lᵀ and L⁻¹ of positive definite matrices ``L·Lᵀ``, all (B, K, K); ``eye`` is (K, K).

    ONNX has no such operator, so while exporting the elimination is written out. The unknowns are
    in pixels, therefore the matrices have a good condition.
    """
    if not is_exporting():
        lower = torch.linalg.cholesky_ex(matrix)[0]  # cholesky makes a GPU wait
        return lower.mT, torch.linalg.solve_triangular(lower, eye.expand_as(lower), upper=False)
    rows = torch.cat([matrix, eye.expand_as(matrix)], 2)
    for i in range(1, len(eye)):
        pivot = rows[:, i - 1 : i]
        factor = rows[:, i:, i - 1 : i] / pivot[:, :, i - 1 : i]
        rows = torch.cat([rows[:, :i], rows[:, i:] - factor * pivot], 1)
    upper, lower_inverse = rows.split(len(eye), 2)
    scale = upper.diagonal(dim1=1, dim2=2).rsqrt()[..., None]
    return upper * scale, lower_inverse * scale


def _coordinates(size: tuple[int, int], like: Tensor) -> tuple[Tensor, Tensor]:
    """Returns x and y of every pixel, both (h, w), of the type and on the device of ``like``."""
    sides = (torch.arange(side, device=like.device, dtype=like.dtype) for side in size)
    ys, xs = torch.meshgrid(*sides, indexing="ij")
    return xs, ys
