"""Everything that a set of measurements says about a device, as one device."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
from rich.console import Console
from rich.progress import Progress

import calibration
from calibration.fit import Fit, build_device, chosen_draws, shared_grid
from calibration.literature import Part, published_parts
from calibration.tables import (
    AbstractTable,
    DriftStatistics,
    IVTable,
    ProgrammingStatistics,
    ProgrammingTable,
    ReadTrace,
    RetentionTable,
)
from calibration.trap_share import traps_apart, with_trap_warning
from crossbar_sim.spec.device_file import device_to_yaml
from device_models.base import AbstractDevice
from device_models.errors import UsageError, nearest
from device_models.pcm_1m import Pcm1M
from device_models.reram_cmo import ReramCmo
from device_models.tabulated import Tabulated

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

OverTime = Literal["drift", "relaxation"]
_QUANTITIES = {
    "programming": "programming error",
    "drift": "drift",
    "relaxation": "relaxation",
    "read": "read noise",
    "telegraph": "telegraph noise",
    "iv": "current over voltage",
    "faults": "stuck devices",
    "temperature": "temperature",
}
"""Fields of device_models.tabulated.Tabulated by what has to be measured for them."""

TRIAL_CELLS = 1000
"""Cells on which power-law drift is tried before it is fitted to all of them."""


class Missing(NamedTuple):
    """A quantity that was not fitted: why, and what the device has in its place."""

    quantity: str
    reason: str
    instead: str


@dataclass(frozen=True, eq=False)
class DeviceFit:
    """The fits of one device, and what was taken from elsewhere.

    fits         in the order of their tables
    beside       fits whose part of the device another fit, of an earlier table, determines; the device is without them
    missing      what was not fitted, with what stands in its place
    literature   the published device of the parts that were not measured; none: they are off
    """

    fits: tuple[Fit, ...]
    missing: tuple[Missing, ...]
    literature: AbstractDevice | None
    beside: tuple[Fit, ...] = ()
    _published: tuple[str, ...] = field(default=())

    def __getitem__(self, quantity: str) -> Fit:
        """A fit by its quantity."""
        known = {fit.quantity: fit for fit in (*self.fits, *self.beside)}
        if quantity not in known:
            raise UsageError(f"quantity = {quantity!r}: was not fitted; has {', '.join(known)}")
        return known[quantity]

    def to_device(self, g_max_uS: float | None = None) -> Tabulated:
        """One device with all parts, in the window that all fits share; g_max_uS lowers its top.

        Read noise holds the variance of the traps of its trace; where telegraph noise is a part too, it is taken off.
        """
        return self._device(None, g_max_uS)

    def sample_devices(self, n: int, seed: int = 0, g_max_uS: float | None = None) -> list[Tabulated]:
        """`n` devices whose parameters are drawn from the uncertainty of each fit, independently of the others."""
        rows = [fit.draws[chosen_draws(len(fit.draws), n, (seed, k))] for k, fit in enumerate(self.fits)]
        return [self._device([own[i] for own in rows], g_max_uS) for i in range(n)]

    def _device(self, values: list[NDArray] | None, g_max_uS: float | None) -> Tabulated:
        others = {name: part.value for name, part in self._parts(g_max_uS).items()}
        sources = sorted({part.source for part in self._parts(g_max_uS).values()})
        text = "fitted; not measured: " + "; ".join(sources) if sources else "fitted"
        device = build_device(list(self.fits), values, g_max_uS=g_max_uS, others={**others, "source": text})
        apart = traps_apart(self.fits, device)
        return device if apart is None else apart.device

    def _parts(self, g_max_uS: float | None) -> dict[str, Part]:
        if self.literature is None:
            return {}
        parts = published_parts(self.literature, shared_grid(self.fits, g_max_uS))
        return {name: part for name, part in parts.items() if name in self._published}

    def summary(self) -> str:
        """The summaries of all fits, and what is missing."""
        lines = [fit.summary() for fit in self.fits]
        lines += [f"not in the device, which has another law for it: {fit.summary()}" for fit in self.beside]
        lines += [f"{m.quantity}: not fitted ({m.reason}): {m.instead}" for m in self.missing]
        return "\n\n".join(lines)

    def plot(self, path: str | Path | None = None) -> Figure:
        """The pictures of all fits below each other."""
        from calibration.plots import plot_fits  # matplotlib is loaded only where something is drawn

        return plot_fits([fit for fit in (*self.fits, *self.beside) if fit.picture is not None], path)

    def to_yaml(self, path: str | Path | None = None) -> str:
        """The device as YAML, with parameters, intervals and files in its fit_record; for `sweep --device`."""
        return device_to_yaml(self.to_device(), path)


def fit_device(
    *tables: AbstractTable,
    seed: int = 0,
    over_time: OverTime | None = None,
    options: Mapping[str, Mapping[str, Any]] | None = None,
    literature: AbstractDevice | Literal["nearest"] | None = "nearest",
    progress: bool = True,
) -> DeviceFit:
    """Run every fit that the tables allow and put the laws together.

    Arguments
        tables      one or more; each kind once, but a RetentionTable at one temperature, which is drift or relaxation,
                    and one at several, which is a bake
        over_time   which of the two; none: power-law drift where no test rejects it or it predicts cells left out as
                    well as a relaxation law
        options     arguments of single fitters by name, e.g. {"fit_drift": {"t0_s": 20.0}}
        literature  published device for programming error, drift and read noise that were not measured; "nearest":
                    pcm_1m where the device drifts, reram_cmo where it relaxes; none: they are off
        progress    a bar on terminals
    Errors  UsageError: no table, a kind given twice, or nothing could be fitted. A fit that refuses its table is listed
            in `missing` with its message
    """
    _check(tables, over_time)
    fits: list[Fit] = []
    missing: list[Missing] = []
    tasks = list(_tasks(tables, over_time, dict(options or {}), seed))
    with Progress(console=Console(stderr=True), transient=True, disable=not (progress and sys.stderr.isatty())) as bar:
        task = bar.add_task("fit", total=len(tasks))
        for name, run in tasks:
            bar.update(task, description=name)
            try:
                fits.append(run())
            except UsageError as error:
                missing.append(Missing(name, str(error), "off"))
            bar.advance(task)
    if not fits:
        raise UsageError("nothing could be fitted: " + "; ".join(f"{m.quantity}: {m.reason}" for m in missing))
    fits, beside, own, refused = _assembled(fits)
    missing += refused
    if not fits:
        raise UsageError("no device could be made: " + "; ".join(m.reason for m in missing))
    published = _nearest(own) if literature == "nearest" else literature
    over_times = {"drift", "relaxation"}  # a device has one of them
    absent = [part for part in _QUANTITIES if part not in own and not (part in over_times and own & over_times)]
    offered = published_parts(published, shared_grid(fits, None)) if published is not None else {}
    reasons = {m.quantity: m.reason for m in missing}
    instead = {part: f"that of {published.kind} ({offered[part].source})" for part in offered} if published else {}
    listed = [
        Missing(name, reasons.pop(name, "not measured"), instead.get(part, "off"))
        for part, name in _QUANTITIES.items()
        if part in absent
    ]
    rest = [Missing(quantity, reason, "off") for quantity, reason in reasons.items()]
    used = tuple(part for part in absent if part in offered)
    return DeviceFit(with_trap_warning(fits), (*listed, *rest), published, tuple(beside), used)


def _assembled(fits: list[Fit]) -> tuple[list[Fit], list[Fit], set[str], list[Missing]]:
    """Fits that go into the device, those whose part an earlier one has, all parts, and those that do not fit in."""
    taken: list[Fit] = []
    beside: list[Fit] = []
    own: set[str] = set()
    refused: list[Missing] = []
    over_time = {"drift", "relaxation"}  # a device has one of them
    for fit in fits:
        try:
            parts = set(fit.device_parts(shared_grid([*taken, fit], None)))
        except UsageError as error:  # no conductance in common, or a law that does not hold there
            refused.append(Missing(fit.quantity, f"fitted, but not for the window of the others: {error}", "off"))
            continue
        if parts & own or (parts & over_time and own & over_time):
            beside.append(fit)
        else:
            taken.append(fit)
            own |= parts
    return taken, beside, own, refused


def _check(tables: tuple[AbstractTable, ...], over_time: OverTime | None) -> None:
    if over_time not in (None, "drift", "relaxation"):
        raise UsageError(f"over_time = {over_time!r}: must be drift, relaxation or None")
    if not tables:
        raise UsageError("tables: give at least one")
    for table in tables:
        if not isinstance(table, AbstractTable):
            raise UsageError(f"tables: {type(table).__name__} is no table of calibration.tables")
    kinds = [f"{type(table).__name__}{' of a bake' if _is_bake(table) else ''}" for table in tables]
    for kind in kinds:
        if kinds.count(kind) > 1:
            raise UsageError(f"tables: {kind} is given {kinds.count(kind)} times: each kind once")


def _is_bake(table: AbstractTable) -> bool:
    return isinstance(table, RetentionTable) and table.temperature_C is not None and bool(np.ptp(table.temperature_C))


def _nearest(own: set[str]) -> AbstractDevice | None:
    if "drift" in own:
        return Pcm1M()
    return ReramCmo() if "relaxation" in own else None


def _tasks(
    tables: Iterable[AbstractTable], over_time: OverTime | None, options: dict[str, Mapping[str, Any]], seed: int
) -> Iterable[tuple[str, Callable[[], Fit]]]:
    """Name and call of each fit."""
    fitters = [(table, name, function) for table in tables for name, function in _fitters(table, over_time)]
    called = [function.__name__ for _, _, function in fitters]
    for name in options:
        if name not in called:
            raise UsageError(
                f"options[{name!r}]: cannot act: these tables call {', '.join(called)}{nearest(name, called)}"
            )
    for table, name, function in fitters:
        yield name, partial(function, table, seed=seed, **options.get(function.__name__, {}))


def _fitters(table: AbstractTable, over_time: OverTime | None) -> list[tuple[str, Callable[..., Fit]]]:
    """The fits that a table allows."""
    match table:
        case ProgrammingTable():
            return [("programming error", calibration.fit_programming), ("stuck devices", calibration.fit_stuck)]
        case ProgrammingStatistics():
            return [("programming error", calibration.fit_programming)]
        case DriftStatistics():
            return [("drift", calibration.fit_drift)]
        case RetentionTable() if _is_bake(table):
            return [("retention", calibration.fit_retention)]
        case RetentionTable() if over_time == "drift":
            return [("drift", calibration.fit_drift)]
        case RetentionTable() if over_time == "relaxation":
            return [("relaxation", calibration.fit_relaxation)]
        case RetentionTable():
            return [("drift or relaxation", _drift_or_relaxation)]
        case ReadTrace():
            return [("read noise", calibration.fit_read_noise), ("telegraph noise", calibration.fit_telegraph)]
        case IVTable():
            return [("current over voltage", calibration.fit_iv)]
    raise UsageError(f"tables: {type(table).__name__} says nothing about a device; fit it by itself")


def _drift_or_relaxation(table: RetentionTable, *, seed: int) -> Fit:
    """Power-law drift where no test rejects it or it predicts cells left out as well as relaxation, else relaxation."""
    part = _part(table, seed)
    try:
        trial: Fit = calibration.fit_drift(part, seed=seed)
    except UsageError:
        return calibration.fit_relaxation(table, seed=seed)
    if any(test.rejected for test in trial.goodness):
        try:
            relaxation: Fit = calibration.fit_relaxation(table, seed=seed)
        except UsageError:  # too few reads for a distribution at each conductance: the power law has to do
            relaxation = trial
        if relaxation is not trial and not any("use fit_drift" in warning for warning in relaxation.warnings):
            return relaxation
    return trial if part is table else calibration.fit_drift(table, seed=seed)


def _part(table: RetentionTable, seed: int) -> RetentionTable:
    """Some of the cells, enough to reject a law that is wrong."""
    cells = np.unique(table.cell)
    if len(cells) <= TRIAL_CELLS:
        return table
    some = np.random.default_rng(seed).permutation(cells)[:TRIAL_CELLS]
    keep = np.isin(table.cell, some)
    columns = {name: getattr(table, name) for name in ("cell", "t_s", "g_uS", "g_target_uS", "temperature_C")}
    return replace(table, **{name: values[keep] for name, values in columns.items() if values is not None})
