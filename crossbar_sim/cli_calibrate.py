"""crossbar-sim calibrate: from a file of measurements to a device."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from crossbar_sim.cli_values import typed_value
from device_models.errors import UsageError, nearest


class Quantity(StrEnum):
    """What the command line fits."""

    programming = "programming"
    drift = "drift"
    relaxation = "relaxation"
    retention = "retention"
    read_noise = "read-noise"
    telegraph = "telegraph"
    iv = "iv"
    stuck = "stuck"
    write_verify = "write-verify"
    threshold = "threshold"
    pulses = "pulses"
    converter = "converter"
    mvm = "mvm"


_TABLES = {
    Quantity.programming: "ProgrammingTable",
    Quantity.drift: "RetentionTable",
    Quantity.relaxation: "RetentionTable",
    Quantity.retention: "RetentionTable",
    Quantity.read_noise: "ReadTrace",
    Quantity.telegraph: "ReadTrace",
    Quantity.iv: "IVTable",
    Quantity.stuck: "ProgrammingTable",
    Quantity.write_verify: "WriteVerifyTable",
    Quantity.threshold: "ThresholdTable",
    Quantity.pulses: "PulseTable",
    Quantity.converter: "ConverterTable",
    Quantity.mvm: "MVMTable",
}
_STATISTICS = {Quantity.programming: "ProgrammingStatistics", Quantity.drift: "DriftStatistics"}
_NO_DEVICE = {Quantity.write_verify, Quantity.threshold, Quantity.pulses, Quantity.converter, Quantity.mvm}
"""Laws of how a device is written, of voltages, or of a chip."""


def calibrate(
    quantity: Annotated[Quantity, typer.Argument(help="What was measured")],
    data: Annotated[Path, typer.Argument(help="CSV, other text, Parquet or npz with units in the names: g_uS, R (kΩ)")],
    out: Annotated[Path | None, typer.Option("--out", "-o", help="YAML of the device, for sweep --device")] = None,
    fit: Annotated[Path | None, typer.Option(help="YAML of the whole fit with its uncertainty")] = None,
    plot: Annotated[Path | None, typer.Option(help="Picture of measurements, fitted band and residuals")] = None,
    column: Annotated[list[str] | None, typer.Option(help="OWN=THEIRS, e.g. g_uS=conductance; repeatable")] = None,
    option: Annotated[
        list[str] | None, typer.Option("--set", help="Argument of the fitter, e.g. t0_s=20; repeatable")
    ] = None,
    statistics: Annotated[bool, typer.Option("--statistics", help="The file holds statistics over devices")] = False,
    leave_out_negative: Annotated[
        bool, typer.Option("--leave-out-negative", help="Leave out and count negative conductances")
    ] = False,
    leave_out_overflow: Annotated[
        bool, typer.Option("--leave-out-overflow", help="Leave out and count overflows of instruments, as 9.91e37")
    ] = False,
    g_max: Annotated[float | None, typer.Option(help="Top of the device's window in uS; default: as measured")] = None,
    seed: Annotated[int, typer.Option(help="Seed of folds and draws")] = 0,
) -> None:
    """Fit a device to measurements: parameters with intervals, tests, a picture, and the device for a sweep."""
    import calibration
    from crossbar_sim.spec.device_file import device_to_yaml

    if statistics and quantity not in _STATISTICS:
        raise UsageError(f"--statistics: cannot act on {quantity}; only on {', '.join(_STATISTICS)}")
    if out is not None and quantity in _NO_DEVICE:
        raise UsageError(f"--out {out}: {quantity} makes no device; --fit {out} keeps the whole fit")
    if g_max is not None and out is None:
        raise UsageError(f"--g-max {g_max:g}: cannot act without --out")
    table = getattr(calibration, (_STATISTICS if statistics else _TABLES)[quantity])
    fitter = getattr(calibration, f"fit_{quantity.name}")
    names = dict(_pair(text, "--column", "OWN=THEIRS") for text in column or [])
    arguments = _arguments(fitter, option or [])
    measured = table.from_file(
        data,
        names,
        negative="leave_out" if leave_out_negative else "refuse",
        overflow="leave_out" if leave_out_overflow else "refuse",
    )
    found = fitter(measured, seed=seed, **arguments)
    print(found.summary())
    if out is not None:
        device_to_yaml(found.to_device(g_max), out)
        print(f"\ndevice:  {out}")
    if fit is not None:
        found.to_yaml(fit)
        print(f"fit:     {fit}")
    if plot is not None:
        found.plot(plot)
        print(f"picture: {plot}")


def _arguments(fitter: Callable[..., Any], texts: list[str]) -> dict[str, Any]:
    """Keyword arguments of a fitter from NAME=VALUE; a value is YAML."""
    known = [name for name in list(inspect.signature(fitter).parameters)[1:] if name != "seed"]
    arguments = {}
    for text in texts:
        name, value = _pair(text, "--set", "NAME=VALUE")
        if name not in known:
            raise UsageError(f"--set {text}: {name!r} is unknown; accepted: {', '.join(known)}{nearest(name, known)}")
        arguments[name] = typed_value(value)
    return arguments


def _pair(text: str, option: str, form: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise UsageError(f"{option} {text}: must be {form}")
    return name, value
