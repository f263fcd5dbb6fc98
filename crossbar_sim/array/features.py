"""Devices whose current is not conductance times input: products of several drives with matrices of their own.

A column sum is then sum over features f of drive_f @ effective_f^T, which one ADC converts: inputs of each sign meet
conductances of their own, or each power of an input voltage its own coefficient.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from crossbar_sim.spec import ChipSpec
from crossbar_sim.spec.dac import AmplitudeEncoding
from device_models.effects import PolarityAsymmetry, SinhIV
from device_models.effects.iv_curve import AbstractPolynomialIV

Floats = NDArray[np.floating]


class AbstractFeatures(ABC):
    """What takes the place of conductance times input."""

    @abstractmethod
    def factors(self, g_uS: Floats, normals: Callable[[], Floats]) -> list[Floats | None]:
        """Conductance of each feature relative to g, for devices with conductance g [uS], or that of all; None where 1.

        `normals` draws standard normals for each device, one for each name in `self.normals`.
        """

    @abstractmethod
    def drives(self, codes: torch.Tensor, levels: int) -> Sequence[torch.Tensor]:
        """What each feature's matrix is multiplied with; codes are whole at `levels`."""

    def squares(self, drive: torch.Tensor, squares: torch.Tensor) -> torch.Tensor:
        """What the variances of a feature with this drive are multiplied with; `squares` are those of the codes."""
        return drive.square().to(squares.dtype)

    normals: tuple[str, ...] = ()
    """Keys (of DeviceKeys) of the standard normals by which devices differ."""
    noise_features: int = 1
    """How many of the features, the first ones, carry read noise of the devices."""


class PolarityFeatures(AbstractFeatures):
    """Positive and negative inputs meet different conductances."""

    noise_features = 2

    def __init__(self, polarity: PolarityAsymmetry):
        self.polarity = polarity
        self.normals = ("polarity",) if polarity.is_per_device else ()

    def factors(self, g_uS: Floats, normals: Callable[[], Floats]) -> list[Floats | None]:
        return [None, self.negative_factor(g_uS, normals).astype(g_uS.dtype)]

    def negative_factor(self, g_uS: Floats, normals: Callable[[], Floats]) -> NDArray[np.float64]:
        """Conductance for negative inputs relative to g."""
        return self.polarity.negative_factor(g_uS, normals()[0] if self.normals else 0.0)

    def drives(self, codes: torch.Tensor, levels: int) -> Sequence[torch.Tensor]:
        return codes.clamp(min=0), codes.clamp(max=0)

    def squares(self, drive: torch.Tensor, squares: torch.Tensor) -> torch.Tensor:
        return squares * (drive != 0)  # of several passes they are no square of the drive


class PolynomialFeatures(AbstractFeatures):
    """I = g V + n2 V^2 + n3 V^3: one product for each power there is. Read noise is that of the linear term."""

    def __init__(self, iv: AbstractPolynomialIV, v_read_V: float):
        self.iv, self.v_read_V = iv, v_read_V
        self.normals = ("curvature", "cubic")[: iv.n_normals]

    def factors(self, g_uS: Floats, normals: Callable[[], Floats]) -> list[Floats | None]:
        if self.iv.is_proportional and g_uS.min(initial=0.0) >= 0:
            g_uS = np.ones((1,) * g_uS.ndim, g_uS.dtype)  # one device stands for all
        carries = g_uS > 0  # a device on a broken line has no curve
        held = np.where(carries, g_uS, 1.0)
        current = self.iv.polynomial(held, normals() if self.normals else None)

        def factor(power: int) -> Floats:
            part = current[power - 1] * self.v_read_V ** (power - 1)
            part /= held
            return np.where(carries, part.astype(g_uS.dtype), g_uS.dtype.type(0))

        return [factor(1) if self.normals else None, *map(factor, self.iv.powers)]

    def drives(self, codes: torch.Tensor, levels: int) -> Sequence[torch.Tensor]:
        return codes, *(codes**power / levels ** (power - 1) for power in self.iv.powers)


class SinhFeature(AbstractFeatures):
    """I = g V0 sinh(V / V0): the input is bent, the matrix stays."""

    def __init__(self, iv: SinhIV, v_read_V: float):
        self.ratio = v_read_V / iv.v0_V

    def factors(self, g_uS: Floats, normals: Callable[[], Floats]) -> list[Floats | None]:
        return [None]

    def drives(self, codes: torch.Tensor, levels: int) -> Sequence[torch.Tensor]:
        return (torch.sinh(codes * (self.ratio / levels)) * (levels / self.ratio),)


def features_of(spec: ChipSpec) -> AbstractFeatures | None:
    """The features of a chip's devices; None where a current is conductance times input."""
    device, dac = spec.device, spec.dac
    if device.polarity is not None and device.polarity.acts_on_inputs:
        return PolarityFeatures(device.polarity)
    if device.iv is None or device.iv.is_ideal or dac is None or not isinstance(dac.encoding, AmplitudeEncoding):
        return None
    if isinstance(device.iv, SinhIV):
        return SinhFeature(device.iv, dac.encoding.v_read_V)
    return PolynomialFeatures(device.iv, dac.encoding.v_read_V)
