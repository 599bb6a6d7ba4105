"""Image metrics as pure functions of tensors: PSNR, SSIM, Frechet distance."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

SSIM_WINDOW = 11
SSIM_SIGMA = 1.5
SSIM_K1, SSIM_K2 = 0.01, 0.03
DATA_RANGE = 2.0  # of images in [-1, 1]: it stands for the 255 of 8-bit images


def psnr(a: Tensor, b: Tensor) -> Tensor:
    """Peak signal-to-noise ratio of each pair of images, in dB.

    The peak is that of 8-bit images: 255 on ``127.5 * (x + 1)``, which is 2 on [-1, 1]. Nothing is rounded.

    Args:
        a, b: float ``(B, 3, H, W)`` in [-1, 1].

    Returns:
        Float64 ``(B,)``; infinity for equal images.

    Raises:
        ValueError: shapes that differ or are not ``(B, C, H, W)``, integer images.
    """
    _check_pair(a, b)
    error = (a.double() - b.double()).square().mean(dim=(1, 2, 3))
    return 10 * torch.log10(DATA_RANGE**2 / error)


def ssim(a: Tensor, b: Tensor) -> Tensor:
    """Structural similarity of each pair of images: the mean over channels and over all full windows.

    Wang, Bovik, Sheikh, Simoncelli, "Image quality assessment: from error visibility to structural similarity",
    2004: a Gaussian window of 11 x 11 with sigma 1.5, K1 = 0.01, K2 = 0.03, no padding, population covariances.

    Args:
        a, b: float ``(B, 3, H, W)`` in [-1, 1], H and W at least 11.

    Returns:
        Float64 ``(B,)`` in [-1, 1]; 1 for equal images.

    Raises:
        ValueError: shapes that differ, are not ``(B, C, H, W)`` or are smaller than the window; integer images.
    """
    _check_pair(a, b)
    return ssim_of(a.double(), b.double())


def ssim_of(a: Tensor, b: Tensor) -> Tensor:
    """As :func:`ssim`, in the dtype of the images: differentiable, for losses.

    Raises:
        ValueError: see :func:`ssim`.
    """
    _check_pair(a, b)
    if min(a.shape[-2:]) < SSIM_WINDOW:
        raise ValueError(f"SSIM needs images of at least {SSIM_WINDOW} x {SSIM_WINDOW}, got {tuple(a.shape)}")
    mean_a, mean_b = _gaussian_mean(a), _gaussian_mean(b)
    variance_a = _gaussian_mean(a * a) - mean_a**2
    variance_b = _gaussian_mean(b * b) - mean_b**2
    covariance = _gaussian_mean(a * b) - mean_a * mean_b
    # the constants below depend on the data range, while the offset of [-1, 1] against [0, 2] enters the means
    mean_a, mean_b = mean_a + 1, mean_b + 1
    c1, c2 = (SSIM_K1 * DATA_RANGE) ** 2, (SSIM_K2 * DATA_RANGE) ** 2
    luminance = (2 * mean_a * mean_b + c1) / (mean_a**2 + mean_b**2 + c1)
    structure = (2 * covariance + c2) / (variance_a + variance_b + c2)
    return (luminance * structure).mean(dim=(1, 2, 3))


def frechet_distance(features_a: Tensor, features_b: Tensor) -> float:
    """Frechet distance between the Gaussians fitted to two sets of features, in float64.

    ``|m_a - m_b|^2 + tr(S_a) + tr(S_b) - 2 tr((S_a S_b)^(1/2))`` (Dowson and Landau, 1982), with sample
    covariances (divided by N - 1). The last trace is the sum of singular values of ``S_a^(1/2) S_b^(1/2)``, whose
    roots come from eigenvalues. There is no regularisation: eigenvalues that rounding makes negative count as zero,
    and singular covariances (fewer rows than dimensions) are exact. The distance is biased upwards for few rows,
    so only numbers from equally many rows of the same features compare.

    Args:
        features_a, features_b: float ``(N, D)`` and ``(M, D)``; N and M at least 2.

    Returns:
        The squared distance, at least 0.

    Raises:
        ValueError: shapes that do not fit, fewer than two rows, NaN or infinite features.
    """
    for name, features in (("features_a", features_a), ("features_b", features_b)):
        if features.ndim != 2 or features.shape[0] < 2:
            raise ValueError(f"{name} must be (N, D) with N >= 2, got {tuple(features.shape)}")
        if not torch.isfinite(features).all():
            raise ValueError(f"{name} holds NaN or infinite values")
    if features_a.shape[1] != features_b.shape[1]:
        raise ValueError(f"features differ in dimension: {features_a.shape[1]} and {features_b.shape[1]}")
    a, b = features_a.double(), features_b.double()
    shift = (a.mean(0) - b.mean(0)).square().sum()
    covariance_a, covariance_b = a.T.cov().reshape(a.shape[1], -1), b.T.cov().reshape(b.shape[1], -1)
    overlap = torch.linalg.svdvals(_matrix_root(covariance_a) @ _matrix_root(covariance_b)).sum()
    return max(0.0, (shift + covariance_a.trace() + covariance_b.trace() - 2 * overlap).item())


def _matrix_root(matrix: Tensor) -> Tensor:
    """The symmetric square root of a positive semi-definite matrix ``(D, D)``."""
    values, vectors = torch.linalg.eigh(matrix)
    return (vectors * values.clamp(min=0).sqrt()) @ vectors.T


def _gaussian_mean(images: Tensor) -> Tensor:
    """Local Gaussian means of ``(B, C, H, W)`` -> ``(B, C, H - 10, W - 10)``."""
    channels = images.shape[1]
    position = torch.arange(SSIM_WINDOW, dtype=images.dtype, device=images.device) - SSIM_WINDOW // 2
    window = torch.exp(-0.5 * (position / SSIM_SIGMA) ** 2)
    window = (window / window.sum()).expand(channels, 1, SSIM_WINDOW)
    rows = F.conv2d(images, window[:, :, :, None], groups=channels)
    return F.conv2d(rows, window[:, :, None, :], groups=channels)


def _check_pair(a: Tensor, b: Tensor) -> None:
    if a.ndim != 4 or a.shape != b.shape:
        raise ValueError(f"images must be two equal shapes (B, C, H, W), got {tuple(a.shape)} and {tuple(b.shape)}")
    if not (a.is_floating_point() and b.is_floating_point()):
        raise ValueError(f"images must be float in [-1, 1], got {a.dtype} and {b.dtype}: x / 127.5 - 1 for 8 bits")
