"""Power spectra of read noise: 1/f, white, and Lorentzians of single traps."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

MOST_TRAPS = 3
_EXPONENT = (0.0, 3.0)


@dataclass(frozen=True)
class SpectrumLaw:
    """Relative power spectral density S / g^2 [1/Hz] over frequency; theta holds logarithms, but of the exponent.

    Equation   a / f^alpha + w + sum over traps of v 2 / fs (1 - r^2) / (1 - 2 r cos(2 pi f / fs) + r^2),
               r = exp(-2 pi corner / fs): the Lorentzian of a trap with relative variance v as it is sampled.
               With knots: the logarithm is linear in ln f between them, and nothing else
    a: density at 1 Hz. Frequencies of the sampled 1/f part above fs / 2 are not folded back
    """

    name: str
    fs_Hz: float
    has_flicker: bool = False
    has_exponent: bool = False
    has_white: bool = False
    n_traps: int = 0
    knots_Hz: tuple[float, ...] = ()

    def names(self) -> tuple[str, ...]:
        parts = [
            ("flicker_at_1Hz", self.has_flicker),
            ("flicker_exponent", self.has_exponent),
            ("white", self.has_white),
        ]
        traps = [f"trap{i + 1}_{part}" for i in range(self.n_traps) for part in ("variance", "corner")]
        return (*(name for name, there in parts if there), *traps, *(f"psd_at_{f:.3g}Hz" for f in self.knots_Hz))

    def units(self) -> tuple[str, ...]:
        ends = {"exponent": "1", "variance": "1", "corner": "Hz"}
        return tuple(ends.get(name.rpartition("_")[2], "1/Hz") for name in self.names())

    def natural(self, theta: Floats) -> Floats:
        """Parameters as they are reported, from theta of shape (..., p)."""
        logs = np.array([name != "flicker_exponent" for name in self.names()])
        return np.where(logs, np.exp(np.clip(theta, -300, 300)), theta)

    def density(self, f_Hz: Floats, natural: Floats) -> Floats:
        """Relative density [1/Hz] at frequencies, for parameters as they are reported."""
        f = np.asarray(f_Hz, float)
        if self.knots_Hz:
            return np.exp(np.interp(np.log(f), np.log(self.knots_Hz), np.log(natural)))
        values = list(natural)
        total = np.zeros_like(f)
        if self.has_flicker:
            level = values.pop(0)
            total += level * f ** -(values.pop(0) if self.has_exponent else 1.0)
        if self.has_white:
            total += values.pop(0)
        for variance, corner in zip(values[::2], values[1::2], strict=True):
            memory = np.exp(-2 * np.pi * corner / self.fs_Hz)
            shape = (1 - memory**2) / (1 - 2 * memory * np.cos(2 * np.pi * f / self.fs_Hz) + memory**2)
            total += 2 * variance / self.fs_Hz * shape
        return total

    def bounds(self, f_Hz: Floats, psd: Floats) -> list[tuple[float, float]]:
        """Of theta; parts far below the smallest density cannot be told from none."""
        least, most = np.log(psd.min()) - 7, np.log(psd.max()) + 3
        corners = (float(np.log(f_Hz[0]) - 1), float(np.log(self.fs_Hz / 2)))
        limits = {"exponent": _EXPONENT, "corner": corners, "variance": (least + corners[0], most + corners[1])}
        amplitude = (float(least - 3 * abs(np.log(f_Hz[-1]))), float(most + 3 * abs(np.log(f_Hz[0]))))
        limits |= {"1Hz": amplitude, "white": (float(least), float(most))}
        knot = (float(least), float(most))
        return [limits.get(name.rpartition("_")[2], knot) for name in self.names()]

    def starts(self, f_Hz: Floats, psd: Floats) -> list[Floats]:
        """Values of theta to begin with, from a measured density."""
        x, y = np.log(f_Hz), np.log(psd)
        if self.knots_Hz:
            return [np.interp(np.log(self.knots_Hz), x, y)]
        low = x < x.mean()
        slope, level = np.polyfit(x[low], y[low], 1) if low.sum() > 2 else (-1.0, float(y[0]))
        exponent = float(np.clip(-slope, 0.6, 2.0)) if self.has_exponent else 1.0
        level = float(np.mean((y + exponent * x)[low]))
        theta = [level] if self.has_flicker else []
        theta += [exponent] if self.has_exponent else []
        theta += [float(y[-1]) - (0.7 if self.has_flicker else 0.0)] if self.has_white else []
        found = []
        for shift in (-1.5, 0.0, 1.5) if self.n_traps else (0.0,):
            traps = []
            for i in range(self.n_traps):
                corner = x[0] + (i + 1) / (self.n_traps + 1) * (x[-1] - x[0]) + shift
                traps += [float(np.interp(corner, x, y) + corner), float(corner)]
            found.append(np.array([*theta, *traps]))
        return found


def spectrum_laws(f_Hz: Floats, fs_Hz: float) -> dict[str, SpectrumLaw]:
    """The laws that are tried, by name, the plainest first."""
    laws = [
        SpectrumLaw("white", fs_Hz, has_white=True),
        SpectrumLaw("1/f", fs_Hz, has_flicker=True),
        SpectrumLaw("1/f + white", fs_Hz, has_flicker=True, has_white=True),
        SpectrumLaw("1/f^a + white", fs_Hz, has_flicker=True, has_exponent=True, has_white=True),
    ]
    for n in range(1, MOST_TRAPS + 1):
        name = f"1/f^a + white + {n} trap{'s' if n > 1 else ''}"
        laws.append(SpectrumLaw(name, fs_Hz, has_flicker=True, has_exponent=True, has_white=True, n_traps=n))
    laws.append(tabulated_law(fs_Hz, octave_knots(f_Hz)))
    return {law.name: law for law in laws}


def tabulated_law(fs_Hz: float, knots_Hz: tuple[float, ...]) -> SpectrumLaw:
    return SpectrumLaw("tabulated in octaves", fs_Hz, knots_Hz=knots_Hz)


def octave_knots(f_Hz: Floats) -> tuple[float, ...]:
    """Frequencies about an octave apart, from the lowest to the highest."""
    n = max(2, round(float(np.log2(f_Hz[-1] / f_Hz[0]))) + 1)
    return tuple(map(float, np.geomspace(f_Hz[0], f_Hz[-1], n)))
