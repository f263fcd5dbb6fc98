"""Seconds that every fit of the measured data takes, and how time and memory of the fits grow with the cells.

    make bench, or OPENBLAS_NUM_THREADS=1 python tests/benchmarks/fits.py

The first table needs the measurements beside the repository and is left out without them. The second needs nothing.
"""

from __future__ import annotations

import sys
import time
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

import calibration as c
from device_models.pcm_1m import Pcm1M

DATA = Path(__file__).parents[2] / ".." / "shared" / "data" / "devices"
LIMIT_S = 600.0
SCALES = (1, 2, 4)
Fitter = Callable[[], Any]
Case = tuple[str, str, Fitter]
"""Name, how much was measured, and the fit."""


def measured() -> Iterator[Case]:
    """Every fit of the measured data, with the ranking of its laws."""
    digitised, levy = DATA / "pcm_reram_ibm_digitised", DATA / "rram_levy_relaxation"
    programming = c.ProgrammingStatistics.from_csv(
        digitised / "pcm_programming_error_vs_conductance.csv",
        {"g_target_uS": "g_uS", "sigma_uS": "programming_error_std_uS"},
    )
    names = {"nu_mean": "drift_exponent_mean", "nu_sigma": "drift_exponent_std"}
    drift = c.DriftStatistics.from_csv(digitised / "pcm_drift_exponent_vs_conductance.csv", names)
    relaxed = pd.read_csv(levy / "rram_techB_relaxation_roomtemp.csv").drop(columns="level")
    relaxation = c.RetentionTable.from_frame(relaxed)
    bake = c.RetentionTable.from_csv(levy / "rram_techA_bake.csv", {"temperature_C": "bake_C"})
    trace = c.ReadTrace.from_npz(levy / "rram_techA_read_trace_400Hz.npz")
    iv = c.IVTable.from_csv(DATA / "rram_ni_iv_sweep" / "rram_iv_sweep_1024cells.csv")
    writes = c.WriteVerifyTable.from_csv(DATA / "rram_ni_write_verify" / "rram_write_verify_outcomes.csv")
    ramps = c.PulseTable.from_csv(DATA / "reram_sandia_pulse_ramps" / "reram_pulse_ramps.csv")
    series = _series(pd.read_csv(DATA / "reram_gong2018_pulse_response" / "reram_gong2018_pulse_response.csv"))
    thresholds = DATA / "sonos_skywater_s8" / "sonos_s8_retention_150C_100kcycles_digitised.csv"
    sonos = c.ThresholdTable.from_csv(thresholds, {"t_s": "time_s"})
    yield (
        "programming, PCM statistics",
        f"{len(programming.sigma_uS)} points",
        lambda: c.fit_programming(programming, reading_error_uS=0.01),
    )
    yield "drift, PCM statistics", f"{len(drift.g_uS)} points", lambda: c.fit_drift(drift, t0_s=20.0)
    yield "relaxation, technology B", f"{len(relaxed)} cells", lambda: c.fit_relaxation(relaxation)
    yield "bakes, technology A", f"{len(bake.g_uS) // 2} bakes", lambda: c.fit_retention(bake)
    yield "read noise", "4 x 100000 reads", lambda: c.fit_read_noise(trace)
    yield "telegraph noise", "4 x 100000 reads", lambda: c.fit_telegraph(trace)
    yield "I-V", f"{len(np.unique(iv.cell))} cells", lambda: c.fit_iv(iv)
    yield "write-verify", f"{len(writes.accepted)} writes", lambda: c.fit_write_verify(writes)
    yield "pulse ramps", f"{len(ramps.g_uS)} pulses", lambda: c.fit_pulses(ramps)
    yield "pulse series", f"{len(series.g_uS)} pulses", lambda: c.fit_pulses(series)
    for state in ("programmed", "erased"):
        yield f"threshold, SONOS {state}", "54 reads", lambda s=state: c.fit_threshold(sonos, state=s)
    several = (relaxation, bake, trace, iv)
    yield "fit_device: relaxation, bake, trace, I-V", "as above", lambda: c.fit_device(*several, progress=False)


def _series(frame: pd.DataFrame) -> c.PulseTable:
    """Normalised units about zero, moved above it."""
    columns = ((d, 2 + frame[f"g_after_{d}_pulse_au"]) for d in ("up", "down"))
    parts = [pd.DataFrame({"direction": d, "ramp": 0, "pulse": frame["pulse"], "g_uS": g}) for d, g in columns]
    return c.PulseTable.from_frame(pd.concat(parts))


def synthetic(scale: int) -> Iterator[Case]:
    """Every fit of cells of published laws, with the law given, so that the fit and not the ranking is measured."""
    rng, pcm = np.random.default_rng(0), Pcm1M()
    n = 2000 * scale
    cell, target = np.arange(n), np.resize(np.linspace(1.0, 25.0, 16), n)
    normals = rng.standard_normal((4, n))
    g = np.maximum(target + pcm.sigma_program_uS(target) * normals[0], 0.01)
    t_s = np.geomspace(20.0, 1e5, 8)
    nu = np.abs(pcm.nu_mean(g) + pcm.nu_sigma(g) * normals[1])
    reads = g[:, None] * np.exp(-nu[:, None] * np.log1p(t_s / 20)) * (1 + 0.01 * rng.standard_normal((n, 8)))
    relaxed = g[:, None] + 50 + 0.3 * normals[2][:, None] * np.log1p(t_s) + rng.standard_normal((n, 8))
    programmed = c.ProgrammingTable(g_target_uS=target, g_uS=g, cell=cell)
    drifted, loose = _retention(cell, t_s, reads), _retention(cell, np.r_[0.0, t_s], np.c_[g + 50, relaxed])
    parts = [
        pd.DataFrame({"cell": cell, "temperature_C": t, "t_s": 3600.0, "g_before_uS": g + 50,
                      "g_after_uS": g + 50 + 0.02 * t * rng.standard_normal(n)})
        for t in (100.0, 150.0, 200.0)
    ]  # fmt: skip
    bake = c.RetentionTable.from_frame(pd.concat(parts))
    few = 4 * scale
    state = (np.cumsum(rng.random((few, 8000)) < 0.05, axis=1) % 2).astype(float)
    trace = c.ReadTrace(g_uS=20 + state + 0.3 * rng.standard_normal((few, 8000)), fs_Hz=400.0, level=np.zeros(few, int))
    v = np.linspace(0.05, 0.5, 10)
    current = g[:, None] * v * (1 + (0.3 + 0.1 * normals[3][:, None]) * v**2) + 0.02 * rng.standard_normal((n, 10))
    iv = c.IVTable(cell=np.repeat(cell, 10), v_V=np.tile(v, n), i_uA=current.ravel())
    half = rng.uniform(0.1, 1.0, n)
    accepted = rng.random(n) < 1 - np.exp(-20 * 0.1 * half)
    writes = c.WriteVerifyTable(
        g_low_uS=g + 2 - half, g_high_uS=g + 2 + half, max_attempts=np.full(n, 20), accepted=accepted, cell=cell
    )
    pulse, ramp = np.tile(np.arange(50), 10 * scale), np.repeat(np.arange(10 * scale), 50)
    saturating = 100 * (1 - np.exp(-pulse / 20)) + 10 + 0.2 * rng.standard_normal(len(pulse))
    pulses = c.PulseTable(direction=np.full(len(pulse), "up"), ramp=ramp, pulse=pulse, g_uS=saturating)
    vt = 1.0 - 0.1 * np.log10(t_s) + 0.05 * rng.standard_normal((n, 1)) + 0.02 * rng.standard_normal((n, 8))
    cells = {"cell": np.repeat(cell, 8), "state": np.full(8 * n, "programmed"), "t_s": np.tile(t_s, n)}
    threshold = c.ThresholdTable(vt_V=vt.ravel(), **cells)
    x = rng.uniform(-1, 1, (n, 16))
    mvm = c.MVMTable.of(x, x @ rng.standard_normal((16, 8)) + 0.05 * rng.standard_normal((n, 8)))
    ramp_in = np.linspace(-1, 1, 20 * n)
    converter = c.ConverterTable(input=ramp_in, code=np.clip(np.round(ramp_in * 100), -127, 127).astype(np.int64))
    yield "fit_programming", f"{n} cells", lambda: c.fit_programming(programmed, sigma="quadratic")
    yield "fit_stuck", f"{n} cells", lambda: c.fit_stuck(programmed)
    yield "fit_drift", f"{n} cells", lambda: c.fit_drift(drifted, t0_s=20.0, model="clipped log")
    yield "fit_relaxation", f"{n} cells", lambda: c.fit_relaxation(loose, model="5 slopes, each time")
    yield "fit_retention", f"{3 * n} bakes", lambda: c.fit_retention(bake, model="Arrhenius")
    yield "fit_read_noise", f"{few} traces", lambda: c.fit_read_noise(trace, model="1/f^a + white + 1 trap")
    yield "fit_telegraph", f"{few} traces", lambda: c.fit_telegraph(trace)
    yield "fit_iv", f"{n} cells", lambda: c.fit_iv(iv, model="quadratic, degree 1")
    yield "fit_write_verify", f"{n} writes", lambda: c.fit_write_verify(writes, model="geometric, degree 2, mixed")
    yield "fit_pulses", f"{len(pulse)} pulses", lambda: c.fit_pulses(pulses, model="soft bounds, constant spread")
    yield "fit_threshold", f"{n} cells", lambda: c.fit_threshold(threshold, model="linear in ln t")
    yield "fit_mvm", f"{n} vectors", lambda: c.fit_mvm(mvm, model="constant")
    yield "fit_converter", f"{len(ramp_in)} samples", lambda: c.fit_converter(converter, lsb=0.01, rank=False)


def _retention(cell: np.ndarray, t_s: np.ndarray, g_uS: np.ndarray) -> c.RetentionTable:
    n, m = g_uS.shape
    return c.RetentionTable(cell=np.repeat(cell, m), t_s=np.tile(t_s, n), g_uS=np.maximum(g_uS, 0.0).ravel())


def seconds(fit: Fitter) -> tuple[float, float, Any]:
    """Seconds on the clock, seconds of all cores, and the fit."""
    wall, cpu = time.perf_counter(), time.process_time()
    found = fit()
    return time.perf_counter() - wall, time.process_time() - cpu, found


def peak_MB(fit: Fitter) -> float:
    tracemalloc.start()
    fit()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak / 1e6


def law(found: Any) -> str:
    return (
        "; ".join(own.model for own in (*found.fits, *found.beside)) if isinstance(found, c.DeviceFit) else found.model
    )


def fits_of_measurements(console: Console, progress: Progress) -> float:
    table = Table("fit", "measured", "seconds", "CPU seconds", "law", title="Fits of measured data, laws ranked")
    total, task = 0.0, progress.add_task("measured data", total=14)
    for name, measurements, fit in measured():
        progress.update(task, description=name)
        wall, cpu, found = seconds(fit)
        total += wall
        table.add_row(name, measurements, f"{wall:.1f}", f"{cpu:.1f}", law(found))
        progress.advance(task)
    progress.remove_task(task)
    table.add_row("all", "", f"{total:.1f}", "", f"limit {LIMIT_S:g} s", style="bold")
    console.print(table)
    return total


def growth(console: Console, progress: Progress) -> None:
    """The smaller size of each fit is run once before, so that compiling is not measured."""
    cases = [list(synthetic(scale)) for scale in SCALES]
    heads = [f"{unit} x{scale}" for unit in ("CPU s", "MB") for scale in SCALES]
    table = Table(
        "fit",
        "x1",
        *heads,
        "x4 / x1: CPU s",
        "MB",
        title="Growth with the cells, law given; steps of the optimisers differ from size to size",
    )
    task = progress.add_task("growth", total=len(cases[0]))
    for name, measurements, first in cases[0]:
        progress.update(task, description=name)
        first()
        fits = [next(fit for own, _, fit in case if own == name) for case in cases]
        spent = [min(seconds(fit)[1] for _ in range(3)) for fit in fits]  # a busy machine changes it least
        peaks = [peak_MB(fit) for fit in fits]
        figures = [*(f"{s:.3f}" for s in spent), *(f"{p:.1f}" for p in peaks)]
        table.add_row(name, measurements, *figures, f"{spent[-1] / spent[0]:.1f}", f"{peaks[-1] / peaks[0]:.1f}")
        progress.advance(task)
    progress.remove_task(task)
    console.print(table)


def main() -> int:
    console = Console(width=None if sys.stdout.isatty() else 160)
    total = 0.0
    with Progress(console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty()) as progress:
        if DATA.is_dir():
            total = fits_of_measurements(console, progress)
        else:
            console.print("fits of measured data: left out, the measurements are not beside the repository")
        growth(console, progress)
    return int(total > LIMIT_S)


if __name__ == "__main__":
    sys.exit(main())
