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
_PIXELS_PER_VALUE = 10  # smoothing and aliasing correlate the residuals of so many pixels
_VISIBLE_VARIANCE = 1e-7  # of residuals; a tenth of the rounding to 8 bits
_RIM = 1 / 40  # of the shorter side is not compared at each border, if this is at least a pixel
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
    frames of the batch.

    ``"auto"`` chooses for each frame among no motion, shift and rotation, these with zoom, and all
    affine motions, by the Bayesian information criterion (Schwarz, "Estimating the Dimension of a
    Model", 1978): of n values (a sixth of the valid pixels, because neighbours are correlated) a
    further parameter has to lower the squared error by the factor ``(n + e) ** (-1 / n)``, which is
    9 % for 16×16 pixels, 1.7 % for 48×48 and 0.5 % for 96×96.

    With every model, a motion is the identity if it does not lower the photometric error, or if
    frame and reference are too dissimilar for one scene, as two images of noise.

    Args:
        frames: (N, T, C, h, w) in [0, 1].
        reference: Index of the reference frame.
        num_level: Maximum number of pyramid levels; small images have fewer.
        num_iter: Iterations at the finest level; the coarsest has one more, others one less. Motion
            of more than about 4 pixels at the coarsest level needs more.
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
    still = torch.eye(2, 3, device=frames.device)
    if t == 1:
        return still.expand(n, 1, 2, 3).clone()
    with torch.autocast(frames.device.type, enabled=False):
        gray = _smooth(frames.detach().float().mean(2))  # (N, T, h, w)
        pyramid = [gray]
        while len(pyramid) < num_level and min(pyramid[-1].shape[-2:]) >= 2 * _MIN_LEVEL_SIZE:
            pyramid.append(F.avg_pool2d(_smooth(pyramid[-1]), 2))

        radius = (h + w) / 6  # about the mean distance from the centre; makes parameters pixels
        pose = gray.new_zeros(n * (t - 1), 6)
        counts = _NUM_PARAMETER[model]
        for level in reversed(range(len(pyramid))):
            aligner = _Aligner(pyramid[level], reference, 2**level, (h, w), radius)
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
        pose = aligner.keep(pose)

        linear = pose.view(n, t - 1, 2, 3)[..., :2] / radius + still[:, :2]
        shift = pose.view(n, t - 1, 2, 3)[..., 2]
        # From positions relative to the centre of the image to those relative to its first pixel.
        centre = torch.stack([still.new_full((), (w - 1) / 2), still.new_full((), (h - 1) / 2)])
        shift = shift + centre - (linear * centre).sum(-1)
        motion = torch.cat([linear, shift[..., None]], -1)
    still = still.expand(n, 1, 2, 3)
    return torch.cat([motion[:, :reference], still, motion[:, reference:]], 1)


class _Aligner:
    """Gauss-Newton steps at one pyramid level, for all frames but the reference at once.

    A pose (B, 6) has the rows of a 2×3 matrix P: a point p of the reference, relative to the centre
    of the image, moves by ``P·(p / radius, 1)`` pixels of the full image. All operations on images
    are elementwise or sums along axes: products with small matrices are several times as slow.
    """

    def __init__(
        self, images: Tensor, reference: int, stride: int, full: tuple[int, int], radius: float
    ) -> None:
        height, width = images.shape[2:]
        self.radius = radius
        self.template = images[:, reference, None]
        self.others = torch.cat([images[:, :reference], images[:, reference + 1 :]], 1)
        padded = F.pad(self.template, (1, 1, 1, 1), mode="replicate")
        gx = (padded[..., 1:-1, 2:] - padded[..., 1:-1, :-2]) / (2 * stride)
        gy = (padded[..., 2:, 1:-1] - padded[..., :-2, 1:-1]) / (2 * stride)
        self.gradient = torch.stack([gx, gy], 2)  # (N, 1, 2, h, w)
        self.products = torch.stack([gx * gx, gx * gy, gy * gy], 2)
        self.basis = _basis(images)

        # Pixels nearer to the border of the full image than the margin are not compared: filters
        # have repeated border values, and some cameras and generators leave a dark rim.
        rim = _RIM * min(full)
        margin = max(stride / 2, rim if rim >= 1 else 0)
        axes = []
        for size, whole in ((width, full[1]), (height, full[0])):
            index = torch.arange(size, dtype=images.dtype, device=images.device)
            axes.append((index + 0.5) * stride - whole / 2)
        x, y = axes
        compared = [
            axis.abs() <= whole / 2 - margin for axis, whole in zip(axes, full[::-1], strict=True)
        ]
        self.window = (compared[1][:, None] & compared[0]).to(images.dtype)
        self.powers = [
            torch.stack([torch.ones_like(axis), axis, axis * axis])
            for axis in (x / radius, y / radius)
        ]

        # Positions for grid_sample: -1 and 1 are the edges of this level's image.
        unit = torch.stack([x.new_full((1,), 2 / (stride * side)) for side in (width, height)])
        half = torch.stack([x.new_full((1,), whole / 2) for whole in (full[1], full[0])])
        still = radius * torch.eye(2, device=x.device)
        self.unit, self.still = unit, torch.cat([still * unit, half * unit - 1], 1)
        self.centre, self.limit = self.still[:, 2:, None], ((half - margin) * unit)[..., None]

    def step(self, pose: Tensor) -> Tensor:
        """Performs one iteration with the weights, the matrix and the models of `restart`."""
        descent = self._descent(self._residual(pose)[0])
        return torch.baddbmm(pose[..., None], self.inverse, descent[..., None], alpha=-1)[..., 0]

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
        residual, position = self._residual(pose)
        inside = self._inside(position)
        spread = (residual.abs() * inside).sum((2, 3), keepdim=True)
        spread = spread / (inside.sum((2, 3), keepdim=True) + 1)
        relative = residual / (3 * spread + 1e-4)
        weight = inside / (1 + relative * relative).square()
        self.weighted = weight[:, :, None] * self.gradient

        matrix = self.basis @ self._matrix(weight) @ self.basis.mT
        # Damping: an image without structure gives no step.
        damping = 1e-3 * matrix.diagonal(dim1=1, dim2=2).mean(1) + 1e-6
        eye = torch.eye(6, device=pose.device)
        upper, lower_inverse = _cholesky(matrix + damping[:, None, None] * eye)
        projected = lower_inverse @ (self._descent(residual) @ self.basis.mT)[..., None]
        solution = self._parameters(pose)[..., None] - lower_inverse.mT @ projected
        rotated = (upper @ solution)[..., 0]

        count = weight.sum((2, 3)).flatten()
        error = (weight * residual * residual).sum((2, 3)).flatten()
        error = (error - projected.square().sum((1, 2))).clamp_min(0) + _VISIBLE_VARIANCE * count
        values = count / _PIXELS_PER_VALUE
        penalty = (values + math.e).log()
        squares = rotated.square()
        criteria = [
            values * (error + squares[:, used:].sum(1)).log() + used * penalty for used in allowed
        ]
        order = torch.arange(6, device=pose.device)
        models = torch.stack([(order < used).to(pose.dtype) for used in allowed])
        self.used = models[torch.stack(criteria, 1).argmin(1)]  # (B, 6)
        self.inverse = (lower_inverse @ self.basis).mT @ (
            self.used[..., None] * (lower_inverse @ self.basis)
        )
        solution = (lower_inverse.mT @ (self.used * rotated)[..., None])[..., 0]
        return self._pose(solution)

    def keep(self, pose: Tensor) -> Tensor:
        """Replaces poses by zeros, the identity, that do not make the images more similar."""
        residual, position = self._residual(pose)
        inside = self._inside(position)
        overlap = inside.mean((2, 3))
        error = (residual.abs() * inside).mean((2, 3)) / overlap.clamp_min(1e-6)
        better = error < (self.others - self.template).abs().mean((2, 3))
        # The mean absolute difference of normal values is sqrt(2 / pi) standard deviations.
        variance = math.pi / 2 * error.square()
        values = overlap * inside[0, 0].numel() / _PIXELS_PER_VALUE
        similar = 1 - _MIN_CORRELATION - (values + 1 / _PIXELS_PER_VALUE).rsqrt()
        own = self.template.var((2, 3), correction=0) + self.others.var((2, 3), correction=0)
        better = better & (overlap > _MIN_OVERLAP) & (variance < similar * own)
        # Steps are along tangents, so rotations have enlarged the image a little.
        exact = self._pose(self._parameters(pose) * self.used)
        return torch.where(better.flatten()[:, None], exact, torch.zeros_like(exact))

    def _residual(self, pose: Tensor) -> tuple[Tensor, Tensor]:
        """Returns warped frames minus the template, and positions (B, 2, h, w) of `grid_sample`."""
        n, t, height, width = self.others.shape
        rows = torch.addcmul(self.still, pose.view(-1, 2, 3), self.unit)
        x = rows[:, :, :1] * self.powers[0][1]
        y = torch.addcmul(rows[:, :, 2:], rows[:, :, 1:2], self.powers[1][1])
        position = x[:, :, None] + y[..., None]
        images = self.others.view(n * t, 1, height, width)
        # A permuted view: writing x beside y takes longer than the sampling.
        grid = position.permute(0, 2, 3, 1)
        warped = F.grid_sample(images, grid, padding_mode="border", align_corners=False)
        return warped.view(n, t, height, width) - self.template, position

    def _inside(self, position: Tensor) -> Tensor:
        """Returns 1 for pixels to compare, else 0: (N, T - 1, h, w)."""
        within = (position - self.centre).abs() <= self.limit + 1e-5
        within = (within[:, 0] & within[:, 1]).view(self.others.shape)
        return within.to(position.dtype) * self.window

    def _descent(self, residual: Tensor) -> Tensor:
        """Returns half the gradient of the weighted squared error by a pose, (B, 6)."""
        forces = self.weighted * residual[:, :, None]  # (N, T - 1, 2, h, w)
        sums = self._moments(forces, 1)
        return torch.stack([sums[..., 1, 0], sums[..., 0, 1], sums[..., 0, 0]], -1).flatten(1)

    def _matrix(self, weight: Tensor) -> Tensor:
        """Returns the matrix of the normal equations for poses, (B, 6, 6)."""
        sums = self._moments(self.products * weight[:, :, None], 2)
        first, x, xx = sums[..., 0, 0], sums[..., 1, 0], sums[..., 2, 0]
        y, yy, xy = sums[..., 0, 1], sums[..., 0, 2], sums[..., 1, 1]
        blocks = torch.stack([xx, xy, x, xy, yy, y, x, y, first], -1).unflatten(-1, (3, 3))
        a, b, c = blocks.unbind(1)
        return torch.cat([torch.cat([a, b], 2), torch.cat([b, c], 2)], 1)

    def _moments(self, images: Tensor, degree: int) -> Tensor:
        """Returns sums of images times powers of x and y: (N, T, K, h, w) to (N·T, K, D, D)."""
        along_x = F.linear(images, self.powers[0][: degree + 1])
        sums = F.linear(along_x.transpose(-1, -2), self.powers[1][: degree + 1])
        return sums.flatten(0, 1)

    def _parameters(self, pose: Tensor) -> Tensor:
        """Converts poses to the six parameters; both (B, 6)."""
        x, y, turn, along, *shears = (
            pose @ (self.basis / self.basis.square().sum(1)[:, None]).mT
        ).unbind(1)
        zoom = ((self.radius + along).square() + turn.square()).sqrt() - self.radius
        return torch.stack([x, y, turn, zoom, *shears], 1)

    def _pose(self, parameters: Tensor) -> Tensor:
        """Converts the six parameters to poses; both (B, 6)."""
        x, y, turn, zoom, *shears = parameters.unbind(1)
        along = ((self.radius + zoom).square() - turn.square()).clamp_min(0).sqrt() - self.radius
        return torch.stack([x, y, turn, along, *shears], 1) @ self.basis


def motion_to_flow(motion: Tensor, size: tuple[int, int], stride: int = 1) -> Tensor:
    """Converts motions to displacements at every ``stride``-th pixel, in units of ``stride``.

    Args:
        motion: (N, T, 2, 3), in pixels of the full image.
        size: (h, w) of the field.
        stride: Stride of the features for this field: their pixel i is at pixel i·stride.

    Returns:
        (N, T, 2, h, w), x before y.
    """
    points = torch.stack(_coordinates(size, motion)).flatten(1)
    moved = motion[..., :2] @ points + motion[..., 2:] / stride
    return (moved - points).unflatten(-1, size)


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


def _basis(like: Tensor) -> Tensor:
    """Returns (6, 6): for each parameter the change of a pose, row by row."""
    xx, xy, x, yx, yy, y = torch.eye(6, dtype=like.dtype, device=like.device).unbind()
    return torch.stack([x, y, yx - xy, xx + yy, xx - yy, xy + yx])


def _cholesky(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """Returns Lᵀ and L⁻¹ of positive definite matrices ``L·Lᵀ``, all (B, K, K).

    ONNX has no such operator, so while exporting the elimination is written out. The unknowns are
    in pixels, therefore the matrices have a good condition.
    """
    eye = torch.eye(matrix.shape[1], dtype=matrix.dtype, device=matrix.device)
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


def _smooth(image: Tensor) -> Tensor:
    """Binomial 3×3 filter of (N, T, h, w); reduces noise and aliasing, which do not follow motion.

    Sums of shifted images are several times as fast as a convolution of one channel.
    """
    padded = F.pad(image, (1, 1, 1, 1), mode="replicate")
    rows = torch.add(padded[..., :-2, :] + padded[..., 2:, :], padded[..., 1:-1, :], alpha=2)
    return torch.add(rows[..., :-2] + rows[..., 2:], rows[..., 1:-1], alpha=2) / 16


def _coordinates(size: tuple[int, int], like: Tensor) -> tuple[Tensor, Tensor]:
    """Returns x and y of every pixel, both (h, w), of the type and on the device of ``like``."""
    sides = (torch.arange(side, device=like.device, dtype=like.dtype) for side in size)
    ys, xs = torch.meshgrid(*sides, indexing="ij")
    return xs, ys
