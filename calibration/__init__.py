"""Measured tables of a device in, a device that drops into a chip specification out.

    import calibration
    fit = calibration.fit_programming(calibration.ProgrammingTable.from_csv("array.csv"))
    print(fit.summary())
    spec = crossbar_sim.ChipSpec(device=fit.to_device())

Importing this package is light; SciPy, pandas and matplotlib are loaded when something needs them.
"""

from importlib import import_module
from typing import Any

from device_models.errors import nearest

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

__all__ = sorted(_LAZY)


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}{nearest(name, __all__)}")
    return getattr(import_module(_LAZY[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
