"""Converters, the stage before the ADC, compensation, and the tiers of the fidelity report."""

from __future__ import annotations

import numpy as np
import torch
from matplotlib.figure import Figure

import crossbar_sim as cs
from crossbar_sim.array.programmed import ProgrammedMatrix
from crossbar_sim.converters.cdac import sar_thresholds
from crossbar_sim.converters.dac import latency_ticks
from crossbar_sim.converters.laws import (
    count_periods,
    quantise_asymmetric,
    quantise_midrise,
    quantise_symmetric,
    quantise_tabulated,
    successive_approximation,
)
from crossbar_sim.converters.output_stage import compress, sense_node, slope_factor
from crossbar_sim.converters.ranges import largest_range, minimum_error_range, quantile_range, sigma_range
from crossbar_sim.converters.reference import distort
from crossbar_sim.converters.static_errors import static_errors
from crossbar_sim.spec import DacSpec, UniformAdcSpec
from device_models.units import seconds
from docs.pictures.base import DAY_S, label, panels, picture

V = np.linspace(-1.2, 1.2, 961)


@picture("converter_quantisers")
def quantisers(figure: Figure) -> None:
    for axes, (name, y) in zip(
        panels(figure, "uniform, 3 bit", "asymmetric", "midrise"),
        {
            "uniform": quantise_symmetric(V, 1.0, 3),
            "asymmetric": quantise_asymmetric(V, -1.0, 1.0, 3),
            "midrise": quantise_midrise(V, 1.0, 3),
        }.items(),
        strict=True,
    ):
        axes.plot(V, y, label=name)
        axes.plot(V, V, "k:", lw=0.6)
        label(axes, "column output / bound", "digital / bound")


@picture("converter_cco")
def cco(figure: Figure) -> None:
    steps, errors = panels(figure, "oscillator, 4 bit", "its mean error [LSB]")
    phase = np.linspace(0, 1, 64, endpoint=False)[:, None]
    kinds = {
        "uncorrected": count_periods(V, 1.0, 4),
        "half_lsb": count_periods(V, 1.0, 4, half_lsb=True),
        "random_phase, mean": count_periods(np.broadcast_to(V, (64, V.size)), 1.0, 4, phase=phase).mean(axis=0),
    }
    for name, y in kinds.items():
        steps.plot(V, y, label=name)
        inside = abs(V) < 0.95
        errors.plot(V[inside], (y - V)[inside] * 7)
    label(steps, "column output / bound", "digital / bound", legend=True)
    label(errors, "column output / bound", "error [LSB]")


@picture("converter_circuit")
def circuit(figure: Figure) -> None:
    transfer, error = panels(figure, "SAR, 5 bit, sigma_cap = 0.1", "8 bit: threshold against its place")
    z = np.random.default_rng(0).standard_normal((3, 9))
    for k in range(2):
        levels = sar_thresholds(5, 0.1, z[k : k + 1, :6])[0]
        transfer.plot(V, successive_approximation(V, 1.0, levels), label=f"converter {k + 1}")
    label(transfer, "column output / bound", "digital / bound", legend=True)
    ideal = sar_thresholds(8, 0.0, z)[0]
    for sigma, gain in ((0.03, np.inf), (0.1, np.inf), (0.0, 100.0)):
        name = f"sigma_cap = {sigma:g}" if sigma else "40 dB of gain"
        error.plot(ideal[1:], (sar_thresholds(8, sigma, z[2:], gain)[0] - ideal)[1:] * 128, lw=0.8, label=name)
    label(error, "threshold / bound", "[LSB]", legend=True)


@picture("converter_tabulated")
def tabulated(figure: Figure) -> None:
    steps, places = panels(figure, "two tables, 4 bit", "transitions, 8 bit [LSB]")
    draw = np.random.default_rng(0)
    for k in range(2):
        inl = np.cumsum(draw.normal(0, 0.15, 14))
        steps.plot(V, quantise_tabulated(V, 1.0, 4, inl - inl.mean()), label=f"converter {k + 1}")
        code = np.arange(-126, 128)
        walk = np.cumsum(draw.normal(0, 0.1, 254))
        places.plot(code, walk - np.polyval(np.polyfit(code, walk, 1), code), lw=0.8)
    label(steps, "column output / bound", "digital / bound", legend=True)
    label(places, "code", "inl_lsb")


@picture("converter_static_errors")
def static(figure: Figure) -> None:
    axes = panels(figure, "gain_sd = 0.05", "offset_sd_lsb = 2", "inl_cubic = 0.05")
    fields = ({"gain_sd": 0.05}, {"offset_sd_lsb": 2.0}, {"inl_cubic": 0.05})
    held = V[abs(V) <= 1]
    for own, field in zip(axes, fields, strict=True):
        errors = static_errors(UniformAdcSpec(bound=1.0, **field), 0, "picture", 0, 4, np.float64)
        v = np.repeat(held[:, None], 4, axis=1)
        own.plot(held, (distort(errors, v) - v) * 127)
        label(own, "column output / bound", "error ahead of rounding [LSB]")


@picture("converter_output_stage")
def stage(figure: Figure) -> None:
    sense, shape = panels(figure, "sense node with load", "S-shape")
    y = np.linspace(-10, 10, 201)
    for load in (0.01, 0.03):
        sense.plot(y, sense_node(y, 0.0, load, 0.0), label=f"load = {load:g}")
    sense.plot(y, sense_node(y, 4.0, 0.03, 0.0), ls="--", label="0.03, behind a reference of 4")
    for at in (None, 0.5):
        factor = 1.0 if at is None else slope_factor(0.03, at * 10)
        shape.plot(y, compress(y, factor, 0.03), label=f"compression = 0.3, calibrated_at = {at}")
    for axes in (sense, shape):
        axes.plot(y, y, "k:", lw=0.6)
        label(axes, "in fully driven devices", "out", legend=True)


@picture("converter_input_encodings")
def inputs(figure: Figure) -> None:
    ticks, rounding = panels(figure, "ticks of one phase", "stochastic rounding, 3 bit")
    bits = np.arange(4, 11)
    for encoding in ("pwm", "split_pwm", "bit_serial", "amplitude"):
        found = [
            latency_ticks(DacSpec(bits=int(b), encoding={"kind": encoding, **_low_bits(encoding, b)})) for b in bits
        ]
        ticks.semilogy(bits, found, "o-", ms=3, label=encoding)
    label(ticks, "bits with sign", "ticks", legend=True)
    u = np.random.default_rng(0).random((200, V.size))
    drawn = quantise_symmetric(np.broadcast_to(V, u.shape), 1.0, 3, u)
    rounding.plot(V, drawn[0], ".", ms=1.5, label="one draw")
    rounding.plot(V, drawn.mean(axis=0), label="mean of 200")
    label(rounding, "input / range", "played out / range", legend=True)


def _low_bits(encoding: str, bits: int) -> dict[str, int]:
    return {"low_bits": int(bits - 1) // 2} if encoding == "split_pwm" else {}


@picture("compensation_ranges")
def ranges(figure: Figure) -> None:
    where, error = panels(figure, "ranges of normal inputs", "rounding and clipping, 6 bit")
    x = np.random.default_rng(0).standard_normal((2000, 32))
    found = {
        "calibrated, quantile 0.999": quantile_range(x, 0.999),
        "n_sigma = 3": sigma_range(x, 3.0),
        "minimum_mse": minimum_error_range(x, 6),
        "largest": largest_range(x),
    }
    where.hist(abs(x).ravel(), bins=80, color="0.8")
    candidates = np.linspace(1, 5, 41)
    error.plot(candidates, [np.sqrt(np.mean((quantise_symmetric(x, r, 6) - x) ** 2)) for r in candidates], "k")
    for k, (name, r) in enumerate(found.items()):
        where.axvline(r, color=f"C{k}", label=name)
        error.plot(r, np.sqrt(np.mean((quantise_symmetric(x, r, 6) - x) ** 2)), "o", color=f"C{k}")
    label(where, "abs(input)", "samples", legend=True)
    label(error, "range", "rms error")


def _errors(spec: cs.ChipSpec, moments: list[tuple[float, float]]) -> list[float]:
    """rms error of products relative to that of the products, at (time, time of the compensation)."""
    draw = torch.Generator().manual_seed(0)
    weight, x = torch.randn(128, 128, generator=draw), torch.randn(64, 128, generator=draw)
    programmed = ProgrammedMatrix(weight, spec, 0, "picture")
    exact = x @ weight.t()
    found = []
    for t_s, compensated_s in moments:
        programmed.set_time(t_s, compensated_s)
        found.append(float((programmed.read(x) - exact).norm() / exact.norm()))
    return found


@picture("compensation_kinds")
def kinds(figure: Figure) -> None:
    (axes,) = panels(figure, "PCM-1M, 128 x 128: error of products")
    times = [0.0, *(seconds(t) for t in ("1min", "1h", "1d", "30d", "1y"))]
    for kind in (None, "global", "column", "affine"):
        spec = cs.ChipSpec.preset("pcm_1m").evolve(compensation=None if kind is None else {"kind": kind})
        axes.semilogx([max(t, 1.0) for t in times], _errors(spec, [(t, t) for t in times]), "o-", ms=3, label=str(kind))
    label(axes, "time after programming [s], 0 at the left", "rms error / rms", legend=True)


@picture("compensation_schedules")
def schedules(figure: Figure) -> None:
    (axes,) = panels(figure, "PCM-1M with the global factor renewed every")
    spec = cs.ChipSpec.preset("pcm_1m")
    days = np.arange(0.02, 4.0, 0.06)
    for period in (None, 2.0, 0.5):
        measured = days if period is None else np.floor(days / period) * period
        moments = [(d * DAY_S, c * DAY_S) for d, c in zip(days, measured, strict=True)]
        axes.plot(days, _errors(spec, moments), label="time" if period is None else f"{period:g} days")
    label(axes, "days after programming", "rms error / rms", legend=True)


@picture("fidelity_tiers")
def tiers(figure: Figure) -> None:
    draw = np.random.default_rng(0)
    wires, tile = {"r_wl_ohm": 5.0, "r_bl_ohm": 5.0}, {"rows": 32, "cols": 24}
    spec = cs.ChipSpec.preset("pcm_1m").evolve(wires=wires, tile=tile, adc=None)
    report = cs.fidelity_report(spec, draw.standard_normal((24, 32)), draw.standard_normal((16, 32)), t="1d", reads=8)
    digital, below = panels(figure, "error against digital", "against the tier below")
    for number, tier in enumerate(("nodal", "tile", "statistical")):
        rows = report.frame[report.frame["tier"] == tier]
        first = rows[rows["versus"] == "digital"]
        digital.errorbar(first["column"] + 0.2 * number, first["mean"], first["sd"], fmt=".", ms=3, lw=0.7, label=tier)
        if tier != "nodal":
            own = rows[rows["versus"] != "digital"]
            below.plot(own["column"], own["sd"], "o-", ms=2, label=f"{tier} - {own['versus'].iloc[0]}")
    below.set_yscale("log")
    label(digital, "column", "mean ± s.d.", legend=True)
    label(below, "column", "s.d.", legend=True)
