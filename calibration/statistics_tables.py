"""Tables of statistics over many devices, as papers publish them, where single devices are not given."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from calibration.abstract_table import AbstractTable
from calibration.columns import Choice, Columns, Floats
from device_models.fit_record import SourceFile


@dataclass(frozen=True, eq=False, kw_only=True)
class ProgrammingStatistics(AbstractTable):
    """Programming error over many devices, one row for each target: g_target_uS, sigma_uS, [mean_uS], [n_cells].

    mean_uS    mean conductance after programming; none: the error was published without its mean
    n_cells    devices in each row; none: not known
    """

    g_target_uS: Floats
    sigma_uS: Floats
    mean_uS: Floats | None = None
    n_cells: Floats | None = None

    @classmethod
    def _take(cls, columns: Columns, source: tuple[SourceFile, ...], negative: Choice) -> Self:
        target = columns.numbers("g_target_uS", low=0.0)
        sigma = columns.numbers("sigma_uS", low=0.0)
        mean = columns.numbers("mean_uS") if columns.has("mean_uS") else None
        n_cells = columns.numbers("n_cells", low=2.0) if columns.has("n_cells") else None
        left_out, keep = columns.counts(), columns.keep
        columns.unique({"g_target_uS": target})
        return cls(
            g_target_uS=target[keep],
            sigma_uS=sigma[keep],
            mean_uS=None if mean is None else mean[keep],
            n_cells=None if n_cells is None else n_cells[keep],
            source=source,
            left_out=left_out,
        )


@dataclass(frozen=True, eq=False, kw_only=True)
class DriftStatistics(AbstractTable):
    """Drift exponents over many devices, one row for each conductance: g_uS, nu_mean, nu_sigma, [n_cells]."""

    g_uS: Floats
    nu_mean: Floats
    nu_sigma: Floats
    n_cells: Floats | None = None

    @classmethod
    def _take(cls, columns: Columns, source: tuple[SourceFile, ...], negative: Choice) -> Self:
        g, mean = columns.numbers("g_uS", low=0.0, negative=negative), columns.numbers("nu_mean")
        sigma = columns.numbers("nu_sigma", low=0.0)
        n_cells = columns.numbers("n_cells", low=2.0) if columns.has("n_cells") else None
        left_out, keep = columns.counts(), columns.keep
        columns.unique({"g_uS": g})
        return cls(
            g_uS=g[keep],
            nu_mean=mean[keep],
            nu_sigma=sigma[keep],
            n_cells=None if n_cells is None else n_cells[keep],
            source=source,
            left_out=left_out,
        )
