"""Levels of a capacitive DAC (CDAC) whose capacitors do not quite match.

Capacitor i has 2^i units, and as the sum of its units a mismatch that grows with the root of their number:

    C_i = 2^i + sigma 2^(i/2) z_i,   z_i standard normals of one CDAC

Source: M. Spear et al., IEEE JXCDC 2023.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def _capacitors(units: NDArray, sigma: float, z: NDArray) -> Floats:
    return units + sigma * np.sqrt(units) * z


def _digits(numbers: NDArray, first: int, stop: int) -> Floats:
    """(len(numbers), stop - first): bits `first` to `stop` - 1 of numbers that are not negative."""
    return (numbers[:, None] >> np.arange(first, stop) & 1).astype(float)


def _sign_magnitude(bits: int, sigma: float, z: NDArray, gain: float) -> tuple[Floats, Floats]:
    """Level (n, 2^bits) of code k - 2^(bits-1) relative to the reference, and the factor of the amplifier.

    T = sum of the selected C_i; level = sign T / C_ref; factor = 1 / (1 + 1 / (A beta)), beta = C_ref / (C_ref + T)
    """
    code = np.arange(2**bits) - 2 ** (bits - 1)
    caps = _capacitors(2.0 ** np.append(np.arange(bits), bits - 1), sigma, z)
    reference = caps[:, -1:]
    selected = caps[:, :-1] @ _digits(abs(code), 0, bits).T
    beta = reference / (reference + selected)
    return np.sign(code) * selected / reference, 1 / (1 + 1 / (gain * beta))


def ramp_levels(bits: int, sigma: float, z: NDArray, gain: float = np.inf) -> Floats:
    """Levels of a ramp relative to its reference; ideal: (2k - (2^b - 1)) / 2^b.

    Equation   V_k = (sign(m) T(|m|) / C_ref + 2^-b) / (1 + 1 / (A beta)), m = k - 2^(b-1), T the sum of the selected
               capacitors, C_ref of 2^(b-1) units, beta = C_ref / (C_ref + T)
    Arguments  sigma of a unit capacitor, relative; z (n, bits + 1) normals, the last of C_ref; gain A of the amplifier
    Returns    (n, 2^bits), one row per CDAC
    """
    level, factor = _sign_magnitude(bits, sigma, z, gain)
    return (level + 2.0**-bits) * factor


def sar_thresholds(bits: int, sigma: float, z: NDArray, gain: float = np.inf) -> Floats:
    """Thresholds of a SAR with one capacitor array, relative to its reference; ideal: m / 2^(b-1).

    Equation   V_k = sign(m) T(|m|) / C_ref / (1 + 1 / (A beta)), symbols as in `ramp_levels`
    Arguments  as in `ramp_levels`
    Returns    (n, 2^bits); threshold k separates codes k - 1 and k, the first has no meaning
    """
    level, factor = _sign_magnitude(bits, sigma, z, gain)
    return level * factor


def split_sar_thresholds(bits: int, sigma: float, z: NDArray, gain: float = np.inf) -> Floats:
    """Thresholds of a SAR whose low bits act through a bridge capacitor, relative to its reference; ideal m / 2^(b-1).

    Equation   V_k = sign(m) (S_L C_B + S_H (C_L + C_B)) / ((C_L + C_B) (C_H + C_B) - C_B^2) / (1 + 1 / A)
               with h = floor(b/2) low bits; S_L, S_H selected and C_L, C_H all capacitors of the two halves, C_L with
               one unit that is never selected; bridge C_B = 2^h / (2^h - 1)
    Arguments  z (n, bits + 1) normals: b - 1 selectable capacitors, the one never selected, the bridge
    Returns    (n, 2^bits); threshold k separates codes k - 1 and k, the first has no meaning
    """
    code = np.arange(2**bits) - 2 ** (bits - 1)
    low = bits // 2
    units = 2.0 ** np.append(np.arange(low), np.arange(bits - 1 - low))
    caps = _capacitors(np.append(units, (1.0, 2.0**low / (2.0**low - 1))), sigma, z)
    c_low, c_high, rest, bridge = np.split(caps, (low, bits - 1, bits), axis=1)
    all_low = rest + c_low.sum(axis=1, keepdims=True)
    all_high = c_high.sum(axis=1, keepdims=True)
    selected_low = c_low @ _digits(abs(code), 0, low).T
    selected_high = c_high @ _digits(abs(code), low, bits - 1).T
    level = (selected_low * bridge + selected_high * (all_low + bridge)) / (
        (all_low + bridge) * (all_high + bridge) - bridge**2
    )
    return np.sign(code) * level / (1 + 1 / gain)
