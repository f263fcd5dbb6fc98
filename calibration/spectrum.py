"""Power spectra of read traces, and the steps of the instrument in them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import signal

Floats = NDArray[np.float64]

SEGMENT = 0.4
"""Length of a Welch segment in parts of the trace: four segments that overlap by half."""
BINS_PER_OCTAVE = 6
_NEIGHBOURS = 1 + 2 * (4 / 9 + 1 / 36)
"""Inflation of the variance of a sum over frequencies by the correlation of neighbours under a Hann window."""


class Spectrum(NamedTuple):
    """One-sided power spectral density of cells in bins of frequency.

    f_Hz      (bins,) mean frequency
    psd       (cells, bins) mean density, unit^2 / Hz
    weight    (bins,) n: a value is distributed as its expectation times gamma(n) / n
    """

    f_Hz: Floats
    psd: Floats
    weight: Floats


def welch_spectrum(samples: Floats, fs_Hz: float) -> Spectrum:
    """Welch's estimate with Hann windows that overlap by half, in bins of even width in ln f.

    Arguments  samples (cells, n)
    Valid      spectra that fall no faster than f^-3; the lowest frequency is one period of a segment
    Source     P. D. Welch, IEEE Trans. Audio Electroacoust. 15, 70 (1967), DOI 10.1109/TAU.1967.1161901
    """
    n = samples.shape[1]
    length = int(SEGMENT * n)
    f, density = signal.welch(samples, fs_Hz, window="hann", nperseg=length, noverlap=length // 2, detrend="constant")
    segments = 1 + (n - length) // (length - length // 2)
    independent = segments / (1 + 2 * (1 - 1 / segments) / 36)  # overlap by half correlates neighbours by 1/36
    last = len(f) - 1 if length % 2 == 0 else len(f)  # the Nyquist frequency has half the degrees of freedom
    f, density = f[1:last], density[:, 1:last]
    index = np.floor(BINS_PER_OCTAVE * np.log2(f / f[0]) + 1e-9).astype(int)
    _, start, count = np.unique(index, return_index=True, return_counts=True)
    return Spectrum(
        f_Hz=np.add.reduceat(f, start) / count,
        psd=np.add.reduceat(density, start, axis=1) / count,
        weight=count * independent / _NEIGHBOURS,
    )


def quantisation_step(samples: Floats) -> float | None:
    """The step of the reader [unit of the samples], where nearly all differences are multiples of one; else none.

    Equation   variance step^2 / 12, white up to half the sampling rate
    Valid      at least four different values
    """
    values = np.unique(samples)
    gaps = np.diff(values)
    resolution = 4 * float(np.spacing(np.float32(np.abs(values).max()))) if len(values) else 0.0
    gaps = gaps[gaps > resolution]
    if len(gaps) < 3:
        return None
    step = float(gaps.min())
    for _ in range(3):
        multiples = np.round(gaps / step)
        step = float(gaps.sum() / multiples.sum())
    if step < 10 * resolution:
        return None
    off = np.abs(gaps / step - np.round(gaps / step))
    return step if np.mean(off < 0.05 + resolution / step) > 0.99 else None


def settled_from(samples: Floats) -> int:
    """The first sample of a trace that lies where the rest of it does: within its central 99 %.

    A cell that was just programmed relaxes before it fluctuates; that is no read noise.
    """
    low, high = np.quantile(samples[len(samples) // 10 :], [0.005, 0.995])
    inside = (samples >= low) & (samples <= high)
    return int(np.argmax(inside)) if inside.any() else 0


def count_jumps(samples: Floats) -> int:
    """Changes from one sample to the next beyond eight robust standard deviations of such changes."""
    steps = np.diff(samples)
    scale = 1.4826 * float(np.median(np.abs(steps - np.median(steps))))
    return int(np.sum(np.abs(steps) > 8 * scale)) if scale > 0 else 0
