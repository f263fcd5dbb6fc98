"""Measured tables of a device in, a device that drops into a chip specification out.

    import calibration
    fit = calibration.fit_programming(calibration.ProgrammingTable.from_csv("array.csv"))
    print(fit.summary())
    spec = crossbar_sim.ChipSpec(device=fit.to_device())

Importing this package is light; SciPy, pandas and matplotlib are loaded when something needs them.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from device_models.errors import nearest

if TYPE_CHECKING:
    from calibration.adc_table import measured_adc
    from calibration.converters import ConverterFit, adc_spread, fit_converter
    from calibration.device import DeviceFit, fit_device
    from calibration.drift import DriftFit, fit_drift
    from calibration.fit import Candidate, Fit, Goodness, LeftOut, Parameter, Provenance
    from calibration.iv import IVFit, fit_iv
    from calibration.mvm import MVMFit, fit_mvm
    from calibration.picture import FitPicture
    from calibration.programming import ProgrammingFit, fit_programming
    from calibration.pulses import PulseFit, fit_pulses
    from calibration.read_noise import ReadNoiseFit, fit_read_noise
    from calibration.relaxation import RelaxationFit, fit_relaxation
    from calibration.retention import RetentionFit, fit_retention
    from calibration.stuck import StuckFit, fit_stuck
    from calibration.tables import (
        ConverterHistogram,
        ConverterTable,
        DriftStatistics,
        IVTable,
        MVMTable,
        ProgrammingStatistics,
        ProgrammingTable,
        PulseTable,
        ReadTrace,
        RetentionTable,
        ThresholdTable,
        WriteVerifyTable,
    )
    from calibration.telegraph import TelegraphFit, fit_telegraph
    from calibration.threshold import ThresholdFit, fit_threshold
    from calibration.write_verify import WriteVerifyFit, fit_write_verify

_LAZY = {
    "Candidate": "calibration.fit",
    "ConverterFit": "calibration.converters",
    "ConverterHistogram": "calibration.tables",
    "ConverterTable": "calibration.tables",
    "DeviceFit": "calibration.device",
    "DriftFit": "calibration.drift",
    "DriftStatistics": "calibration.tables",
    "Fit": "calibration.fit",
    "FitPicture": "calibration.picture",
    "Goodness": "calibration.fit",
    "IVFit": "calibration.iv",
    "IVTable": "calibration.tables",
    "LeftOut": "calibration.fit",
    "MVMFit": "calibration.mvm",
    "MVMTable": "calibration.tables",
    "Parameter": "calibration.fit",
    "ProgrammingFit": "calibration.programming",
    "ProgrammingStatistics": "calibration.tables",
    "ProgrammingTable": "calibration.tables",
    "Provenance": "calibration.fit",
    "PulseFit": "calibration.pulses",
    "PulseTable": "calibration.tables",
    "ReadNoiseFit": "calibration.read_noise",
    "ReadTrace": "calibration.tables",
    "RelaxationFit": "calibration.relaxation",
    "RetentionFit": "calibration.retention",
    "RetentionTable": "calibration.tables",
    "StuckFit": "calibration.stuck",
    "TelegraphFit": "calibration.telegraph",
    "ThresholdFit": "calibration.threshold",
    "ThresholdTable": "calibration.tables",
    "WriteVerifyFit": "calibration.write_verify",
    "WriteVerifyTable": "calibration.tables",
    "adc_spread": "calibration.converters",
    "fit_converter": "calibration.converters",
    "fit_device": "calibration.device",
    "fit_drift": "calibration.drift",
    "fit_iv": "calibration.iv",
    "fit_mvm": "calibration.mvm",
    "fit_programming": "calibration.programming",
    "fit_pulses": "calibration.pulses",
    "fit_read_noise": "calibration.read_noise",
    "fit_relaxation": "calibration.relaxation",
    "fit_retention": "calibration.retention",
    "fit_stuck": "calibration.stuck",
    "fit_telegraph": "calibration.telegraph",
    "fit_threshold": "calibration.threshold",
    "fit_write_verify": "calibration.write_verify",
    "measured_adc": "calibration.adc_table",
}

__all__ = [
    "Candidate",
    "ConverterFit",
    "ConverterHistogram",
    "ConverterTable",
    "DeviceFit",
    "DriftFit",
    "DriftStatistics",
    "Fit",
    "FitPicture",
    "Goodness",
    "IVFit",
    "IVTable",
    "LeftOut",
    "MVMFit",
    "MVMTable",
    "Parameter",
    "ProgrammingFit",
    "ProgrammingStatistics",
    "ProgrammingTable",
    "Provenance",
    "PulseFit",
    "PulseTable",
    "ReadNoiseFit",
    "ReadTrace",
    "RelaxationFit",
    "RetentionFit",
    "RetentionTable",
    "StuckFit",
    "TelegraphFit",
    "ThresholdFit",
    "ThresholdTable",
    "WriteVerifyFit",
    "WriteVerifyTable",
    "adc_spread",
    "fit_converter",
    "fit_device",
    "fit_drift",
    "fit_iv",
    "fit_mvm",
    "fit_programming",
    "fit_pulses",
    "fit_read_noise",
    "fit_relaxation",
    "fit_retention",
    "fit_stuck",
    "fit_telegraph",
    "fit_threshold",
    "fit_write_verify",
    "measured_adc",
]


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}{nearest(name, __all__)}")
    return getattr(import_module(_LAZY[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
