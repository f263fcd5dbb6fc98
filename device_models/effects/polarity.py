"""Currents that depend on the sign of the read voltage.

Source: G. S. Syed et al., Adv. Mater. 35, 2201238 (2023), DOI 10.1002/adma.202201238; the state-dependent ratio as
fitted in the non-idealities notebook of aihwkit.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import Field, model_validator

from device_models.effects.checks import checked
from device_models.errors import UsageError
from device_models.strict import KindOf, Number, Positive, StrictModel, Text

Floats = NDArray[np.float64]


class AbstractPolarityAsymmetry(StrictModel, ABC):
    """Factor on a device's conductance where its input is negative: Y = X+ G + X- (G o factor), X = X+ + X-."""

    @property
    @abstractmethod
    def is_ideal(self) -> bool: ...

    @property
    def acts_on_inputs(self) -> bool:
        """Whether `negative_factor` differs from 1 for some device."""
        return not self.is_ideal

    @property
    def output_factor(self) -> float:
        """Factor on a negative column sum [1]."""
        return 1.0

    is_per_device: ClassVar[bool] = False
    """Whether devices of the same conductance differ: where not, their normals are of no meaning."""

    @abstractmethod
    def negative_factor(self, g_uS: ArrayLike, z: ArrayLike) -> Floats:
        """Factor |I(-V)| / I(V) of devices with conductance g [uS] and standard normals z, broadcast together [1]."""

    def check_window(self, g_max_uS: float) -> None:
        """UsageError where the law does not hold up to the top of a device's window."""
        checked("g_max_uS", g_max_uS, 0.0, above_low=True)


class DeviceAsymmetry(AbstractPolarityAsymmetry):
    """A ratio that differs from device to device: factor = 1 - sigma z, fixed for each device."""

    kind: Literal["device"] = "device"
    is_per_device: ClassVar[bool] = True
    sigma: Positive = Field(description="Standard deviation of the asymmetry, per device")

    @property
    def is_ideal(self) -> bool:
        return False

    def negative_factor(self, g_uS: ArrayLike, z: ArrayLike) -> Floats:
        _, z = np.broadcast_arrays(checked("g_uS", g_uS, 0.0), checked("z", z))
        return np.asarray(1 - self.sigma * z)


class StateAsymmetry(AbstractPolarityAsymmetry):
    """A ratio that depends on the conductance, the same for all devices of a state.

    Equation   factor = polynomial below_uS(g) for g <= split, polynomial above_uS(g) beyond
    Valid      0 <= g <= valid_to_uS; noise may carry a device a little beyond, where the polynomial goes on
    Test       tests/oracles/test_effects_oracles.py::test_state_dependent_polarity
    """

    kind: Literal["state"] = "state"
    source: Text = "Syed 2023, DOI 10.1002/adma.202201238, as fitted in the non-idealities notebook of aihwkit"
    split_uS: Positive = Field(0.9, description="Conductance that separates the two polynomials")
    below_uS: tuple[Number, ...] = Field(
        (1.1144, -0.6312, 0.2555), description="Coefficients up to the split in powers of g in uS, lowest first"
    )
    above_uS: tuple[Number, ...] = Field(
        (0.7681, -0.0138, 0.0013, -2.124e-05), description="Coefficients beyond the split, lowest power first"
    )
    valid_to_uS: Positive = Field(15.0, description="Top of the conductances that the ratio was fitted to")

    @model_validator(mode="after")
    def _has_coefficients(self) -> Self:
        if not self.below_uS or not self.above_uS:
            raise ValueError("below_uS and above_uS need at least one coefficient each")
        return self

    @property
    def is_ideal(self) -> bool:
        return self.below_uS == self.above_uS == (1.0,)

    def negative_factor(self, g_uS: ArrayLike, z: ArrayLike) -> Floats:
        g, _ = np.broadcast_arrays(checked("g_uS", g_uS, 0.0), checked("z", z))
        below, factor = _polynomial(g, self.below_uS), _polynomial(g, self.above_uS)
        is_below = g <= self.split_uS
        below *= is_below  # a choice between the two takes several times as long
        factor *= ~is_below
        factor += below
        return factor

    def check_window(self, g_max_uS: float) -> None:
        if checked("g_max_uS", g_max_uS, 0.0, above_low=True) > self.valid_to_uS:
            raise UsageError(
                f"g_max_uS = {g_max_uS:g}: must be at most {self.valid_to_uS:g} uS, where the polarity ratio ends"
            )


class GlobalAsymmetry(AbstractPolarityAsymmetry):
    """One factor on all negative inputs, 1 - a_in, and one on all negative column sums, 1 - a_out."""

    kind: Literal["global"] = "global"
    a_in: Annotated[float, Field(strict=True, allow_inf_nan=False, gt=-1, lt=1)] = Field(
        0.0, description="Negative inputs count 1 - a_in"
    )
    a_out: Annotated[float, Field(strict=True, allow_inf_nan=False, gt=-1, lt=1)] = Field(
        0.0, description="Negative column sums count 1 - a_out"
    )

    @property
    def is_ideal(self) -> bool:
        return self.a_in == self.a_out == 0

    @property
    def acts_on_inputs(self) -> bool:
        return self.a_in != 0

    @property
    def output_factor(self) -> float:
        return 1 - self.a_out

    def negative_factor(self, g_uS: ArrayLike, z: ArrayLike) -> Floats:
        g, _ = np.broadcast_arrays(checked("g_uS", g_uS, 0.0), checked("z", z))
        return np.full(g.shape, 1 - self.a_in)


def _polynomial(x: Floats, coefficients: tuple[float, ...]) -> Floats:
    """The polynomial with coefficients from the constant on, in place: new arrays cost more than their arithmetic."""
    value = np.full_like(x, coefficients[-1])
    for each in reversed(coefficients[:-1]):
        value *= x
        value += each
    return value


def _kinds() -> Mapping[str, type[StrictModel]]:
    return {"device": DeviceAsymmetry, "state": StateAsymmetry, "global": GlobalAsymmetry}


PolarityAsymmetry = Annotated[DeviceAsymmetry | StateAsymmetry | GlobalAsymmetry, KindOf(_kinds)]
