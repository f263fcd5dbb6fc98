"""Effects that any device may have besides its own laws; each is a value, off where it is absent."""

from device_models.effects.faults import StuckFaults
from device_models.effects.iv_curve import AbstractIVCurve, CubicIV, IVCurve, LinearIV, MiloIV, ScatteredIV, SinhIV
from device_models.effects.polarity import (
    AbstractPolarityAsymmetry,
    DeviceAsymmetry,
    GlobalAsymmetry,
    PolarityAsymmetry,
    StateAsymmetry,
)
from device_models.effects.telegraph import AbsoluteAmplitude, RelativeAmplitude, TelegraphNoise, TrapAmplitude
from device_models.effects.temperature import Temperature, activation_factor, annealed_exponent, equivalent_time_s

__all__ = [
    "AbsoluteAmplitude",
    "AbstractIVCurve",
    "AbstractPolarityAsymmetry",
    "CubicIV",
    "DeviceAsymmetry",
    "GlobalAsymmetry",
    "IVCurve",
    "LinearIV",
    "MiloIV",
    "PolarityAsymmetry",
    "RelativeAmplitude",
    "ScatteredIV",
    "SinhIV",
    "StateAsymmetry",
    "StuckFaults",
    "TelegraphNoise",
    "Temperature",
    "TrapAmplitude",
    "activation_factor",
    "annealed_exponent",
    "equivalent_time_s",
]
