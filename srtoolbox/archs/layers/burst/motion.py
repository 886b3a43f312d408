"""Estimates the global motion of a burst without labels, and warps with it.

The frames of a hand-held burst of a static scene differ mainly by a shift and a small rotation of
the camera. These three numbers per frame can be estimated from the images alone to a few hundredths
of a pixel, an accuracy for which a flow network needs ground truth.

Conventions: coordinates are (x, y) in pixels, (0, 0) is the centre of the top-left pixel. A motion
is a 2×3 matrix M that maps a point p of the reference to its position in a frame,
``p' = M·(p, 1)``.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from srtoolbox.archs.layers.basic import is_exporting

_MIN_LEVEL_SIZE = 10  # pixels; smaller images do not determine three parameters


@torch.no_grad()
def estimate_motion(
    frames: Tensor, reference: int = 0, num_level: int = 3, num_iter: int = 6
) -> Tensor:
    """Estimates the Euclidean motion of every frame relative to the reference frame.

    Coarse-to-fine inverse-compositional Gauss-Newton (Baker and Matthews, "Lucas-Kanade 20 Years
    On", IJCV 2004) with Geman-McClure weights, which reduce the influence of moving objects. An
    estimate is kept only if it lowers the photometric error, else the motion is the identity.
    Computed on the mean of all bands, in float32 without gradients, also under autocast; the cost
    is linear in the pixels.

    Args:
        frames: (N, T, C, h, w).
        reference: Index of the reference frame.
        num_level: Maximum number of pyramid levels; small images have fewer.
        num_iter: Iterations per level. Motion of more than about 4 pixels at the coarsest level
            needs more.

    Returns:
        (N, T, 2, 3), float32; the identity for the reference itself.
    """
    n, t, _, h, w = frames.shape
    others = [i for i in range(t) if i != reference]
    motion = torch.eye(2, 3, device=frames.device).repeat(n, t, 1, 1)
    if not others:
        return motion
    with torch.autocast(frames.device.type, enabled=False):
        gray = frames.detach().float().mean(2)  # (N, T, h, w)
        pyramid = [_smooth(gray.flatten(0, 1)[:, None])]
        while len(pyramid) < num_level and min(pyramid[-1].shape[-2:]) >= 2 * _MIN_LEVEL_SIZE:
            pyramid.append(F.avg_pool2d(_smooth(pyramid[-1]), 2))

        pose = gray.new_zeros(n * len(others), 3)  # shift x, shift y, angle about the centre
        for level in reversed(range(len(pyramid))):
            images = pyramid[level].unflatten(0, (n, t))
            template = images[:, reference].repeat_interleave(len(others), 0)
            aligner = _Aligner(images[:, others].flatten(0, 1), template, 2**level, (h, w))
            for _ in range(num_iter):
                pose = aligner.step(pose)

        # Compares the errors with and without the estimate at the finest level.
        still = torch.zeros_like(pose)
        better = aligner.error(pose) < aligner.error(still)
        pose = torch.where(better[:, None], pose, still)
        motion[:, others] = _pose_to_matrix(pose, (h, w)).unflatten(0, (n, len(others)))
    return motion


class _Aligner:
    """Gauss-Newton steps at one pyramid level; all coordinates in pixels of the full image."""

    def __init__(self, image: Tensor, template: Tensor, stride: int, full: tuple[int, int]) -> None:
        self.image, self.template = image, template
        height, width = image.shape[-2:]
        self.size = image.new_tensor([width, height])
        self.stride = stride
        self.centre = image.new_tensor([(full[1] - 1) / 2, (full[0] - 1) / 2])
        points = (
            (torch.stack(_coordinates((height, width), image), -1) + 0.5) * stride
            - 0.5
            - self.centre
        )
        self.points = points.view(1, height * width, 2)
        self.radius = self.points.norm(dim=-1).mean()  # converts the angle to pixels

        padded = F.pad(template, (1, 1, 1, 1), mode="replicate")
        gx = ((padded[..., 1:-1, 2:] - padded[..., 1:-1, :-2]) / (2 * stride)).flatten(1)
        gy = ((padded[..., 2:, 1:-1] - padded[..., :-2, 1:-1]) / (2 * stride)).flatten(1)
        x, y = self.points.unbind(-1)
        self.jacobian = torch.stack([gx, gy, (gy * x - gx * y) / self.radius], -1)  # (B, P, 3)

    def residual(self, pose: Tensor) -> tuple[Tensor, Tensor]:
        """Returns warped frame minus template, and the mask of valid pixels; both (B, P)."""
        rotation = _rotation(pose[:, 2])
        position = self.points @ rotation.transpose(1, 2) + pose[:, None, :2] + self.centre
        index = (position + 0.5) / self.stride - 0.5
        inside = (index >= 0) & (index <= self.size - 1)
        grid = ((2 * index + 1) / self.size - 1).view(len(pose), *self.image.shape[-2:], 2)
        warped = F.grid_sample(self.image, grid, padding_mode="border", align_corners=False)
        return (warped - self.template).flatten(1), inside.float().prod(-1)

    def step(self, pose: Tensor) -> Tensor:
        """Performs one iteration: (B, 3) to (B, 3)."""
        residual, inside = self.residual(pose)
        spread = (residual.abs() * inside).sum(1, keepdim=True) / (inside.sum(1, keepdim=True) + 1)
        weight = inside / (1 + (residual / (3 * spread + 1e-4)) ** 2) ** 2
        weighted = self.jacobian * weight[..., None]
        hessian = weighted.transpose(1, 2) @ self.jacobian
        # Damping: an image without structure gives no step.
        damping = 1e-3 * hessian.diagonal(dim1=1, dim2=2).mean(1) + 1e-6
        hessian = hessian + damping[:, None, None] * torch.eye(3, device=pose.device)
        target = weighted.transpose(1, 2) @ residual[..., None]
        delta = _solve(hessian, target[..., 0])
        # Inverse-compositional update: pose ∘ delta⁻¹.
        angle = pose[:, 2] - delta[:, 2] / self.radius
        shift = pose[:, :2] - (_rotation(angle) @ delta[:, :2, None])[..., 0]
        return torch.cat([shift, angle[:, None]], 1)

    def error(self, pose: Tensor) -> Tensor:
        """Returns the mean absolute difference of valid pixels, (B,); inf below 20 % overlap."""
        residual, inside = self.residual(pose)
        overlap = inside.mean(1)
        error = (residual.abs() * inside).mean(1) / overlap.clamp_min(1e-6)
        return torch.where(overlap > 0.2, error, torch.full_like(error, torch.inf))


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


def _solve(matrix: Tensor, target: Tensor) -> Tensor:
    """Solves linear systems: matrices (B, 3, 3), positive definite, and targets (B, 3) to (B, 3).

    ONNX has no solver, so while exporting the solution is written out by Cramer's rule. The three
    unknowns are in pixels, therefore the matrices have a good condition.
    """
    if not is_exporting():
        return torch.linalg.solve_ex(matrix, target[..., None])[0][..., 0]  # solve makes a GPU wait
    size = matrix.diagonal(dim1=1, dim2=2).mean(1)  # keeps products inside the range of float32
    a, b, c = (matrix / size[:, None, None]).unbind(2)
    inverse = torch.stack([_cross(b, c), _cross(c, a), _cross(a, b)], 1)
    determinant = (a * inverse[:, 0]).sum(1)
    return (inverse * (target / size[:, None])[:, None]).sum(2) / determinant[:, None]


def _cross(a: Tensor, b: Tensor) -> Tensor:
    """Returns cross products of vectors (B, 3)."""
    first = a[:, [1, 2, 0]] * b[:, [2, 0, 1]]
    return first - a[:, [2, 0, 1]] * b[:, [1, 2, 0]]


def _smooth(image: Tensor) -> Tensor:
    """Binomial 3×3 filter; reduces noise and aliasing, which do not follow the motion."""
    kernel = image.new_tensor([[1, 2, 1], [2, 4, 2], [1, 2, 1]])[None, None] / 16
    return F.conv2d(F.pad(image, (1, 1, 1, 1), mode="replicate"), kernel)


def _coordinates(size: tuple[int, int], like: Tensor) -> tuple[Tensor, Tensor]:
    """Returns x and y of every pixel, both (h, w), of the type and on the device of ``like``."""
    sides = (torch.arange(side, device=like.device, dtype=like.dtype) for side in size)
    ys, xs = torch.meshgrid(*sides, indexing="ij")
    return xs, ys


def _rotation(angle: Tensor) -> Tensor:
    """Converts angles (…) in radians to matrices (…, 2, 2)."""
    cos, sin = angle.cos(), angle.sin()
    return torch.stack([torch.stack([cos, -sin], -1), torch.stack([sin, cos], -1)], -2)


def _pose_to_matrix(pose: Tensor, size: tuple[int, int]) -> Tensor:
    """Converts (…, 3) about the image centre to (…, 2, 3) about the first pixel's centre."""
    centre = pose.new_tensor([(size[1] - 1) / 2, (size[0] - 1) / 2])
    rotation = _rotation(pose[..., 2])
    shift = pose[..., :2] + centre - rotation @ centre
    return torch.cat([rotation, shift[..., None]], -1)
