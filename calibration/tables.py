"""Typed tables of measurements: what each fitter takes."""

from calibration.abstract_table import AbstractTable
from calibration.cell_tables import IVTable, ProgrammingTable, RetentionTable
from calibration.circuit_tables import ConverterHistogram, ConverterTable, MVMTable, PulseTable, ReadTrace
from calibration.statistics_tables import DriftStatistics, ProgrammingStatistics
from calibration.threshold_table import ThresholdTable
from calibration.write_table import WriteVerifyTable

__all__ = [
    "AbstractTable",
    "ConverterHistogram",
    "ConverterTable",
    "DriftStatistics",
    "IVTable",
    "MVMTable",
    "ProgrammingStatistics",
    "ProgrammingTable",
    "PulseTable",
    "ReadTrace",
    "RetentionTable",
    "ThresholdTable",
    "WriteVerifyTable",
]
