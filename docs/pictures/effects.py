"""Effects that any device may have."""

from __future__ import annotations

import numpy as np
import torch
from matplotlib.figure import Figure

from crossbar_sim.array.matrix import AnalogMatrix
from crossbar_sim.spec import ChipSpec
from device_models.effects import CubicIV, DeviceAsymmetry, GlobalAsymmetry, MiloIV, SinhIV, StateAsymmetry, Temperature
from device_models.ideal import Ideal
from device_models.pcm_1m import Pcm1M
from docs.pictures.base import devices_at, label, panels, picture, relative_error


@picture("effect_faults")
def faults(figure: Figure) -> None:
    device = Pcm1M(faults={"p_reset": 0.1, "p_set": 0.05, "p_random": 0.05})
    side = 40
    (g,) = devices_at(device, np.full(side, 10.0), [0.0], side)
    where, counts = panels(figure, "devices with a target of 10 uS", "")
    image = where.imshow(g, cmap="viridis", vmin=0, vmax=25, interpolation="nearest")
    figure.colorbar(image, ax=where, label="conductance [uS]")
    where.set_xticks([])
    where.set_yticks([])
    (many,) = devices_at(device, np.full(10, 10.0), [0.0], 2000)
    counts.hist(many.ravel(), bins=60)
    counts.set_yscale("log")
    label(counts, "conductance [uS]", "devices of 20 000")


@picture("effect_lines")
def lines(figure: Figure) -> None:
    where, error = panels(figure, "g+ of four tiles, g+ and g- at mid-window", "error of products")
    tile = {"rows": 32, "cols": 32, "faults": {"p_word_line": 0.06, "p_bit_line": 0.06}}
    spec = ChipSpec.preset("ideal").evolve(tile=tile, encoding={"pair": "two_sided"})
    weight = torch.zeros(64, 64)
    weight[:, 0] = 1.0
    matrix = AnalogMatrix(weight, spec, 0, "picture")
    tiles = [[matrix.conductances(weight, (r, c))[0] for c in range(2)] for r in range(2)]
    where.imshow(np.block(tiles), cmap="viridis", interpolation="nearest")
    label(where, "output", "input")
    rates = np.geomspace(1e-3, 0.1, 7)
    draw = torch.Generator().manual_seed(0)
    weight, x = torch.randn(256, 256, generator=draw), torch.randn(64, 256, generator=draw)
    for name in ("p_word_line", "p_bit_line"):
        found = []
        for rate in rates:
            spec = ChipSpec.preset("ideal").evolve(tile={"rows": 64, "cols": 64, "faults": {name: float(rate)}})
            found.append(relative_error(spec, weight, x))
        error.loglog(rates, found, "o", ms=3, label=name)
    error.loglog(rates, np.sqrt(rates), "k:", label="root of the rate")
    label(error, "rate", "rms error / rms", legend=True)


@picture("effect_temperature")
def temperature(figure: Figure) -> None:
    kelvin = np.linspace(300, 360, 31)
    now, later = panels(figure, "conductance against that at 300 K", "10 uS (dotted: its drift is that of 300 K)")
    for r in (0.05, 0.2, 0.5, 1.0):
        now.plot(kelvin, [Temperature(t_read_K=t).factor(r) for t in kelvin], label=f"g / g_max = {r:g}")
    label(now, "read at [K]", "factor", legend=True)
    times = np.geomspace(1, 3e7, 12)
    for k, t_K in enumerate((300.0, 330.0, 360.0)):
        for t_anneal_K, style, name in ((t_K, "-", f"read at {t_K:g} K"), (300.0, ":", None)):
            device = Pcm1M(temperature=Temperature(t_read_K=t_K, t_anneal_K=t_anneal_K))
            g = devices_at(device, [10.0], times, 300)[:, 0].mean(axis=1)
            later.semilogx(times, g, style, color=f"C{k}", label=name)
    label(later, "time after programming [s]", "mean conductance [uS]", legend=True)


@picture("effect_telegraph")
def telegraph(figure: Figure) -> None:
    noise = {"amplitude": {"kind": "absolute", "amplitude_uS": 1.0}, "tau_min_s": 10.0, "tau_max_s": 1e4}
    device = Ideal(g_max_uS=25.0, telegraph=noise)
    times = np.linspace(0, 2000, 400)
    g = devices_at(device, [10.0], times, 1000)[:, 0]
    path, spectrum = panels(figure, "three devices with one trap each", "memory of 1000 devices")
    for k, place in enumerate(np.argsort(np.abs(np.diff(g, axis=0)).sum(axis=0))[[-1, -200, -500]]):
        path.step(times, g[:, place] + 1.5 * k, where="post")
    label(path, "time [s]", "conductance, shifted [uS]")
    centred = g - 10.0
    lags = np.arange(0, 200, 4)
    found = [np.mean(centred[: len(g) - lag] * centred[lag:]) for lag in lags]
    spectrum.plot(times[lags], found, ".", markersize=3, label="chip")
    tau = np.geomspace(10, 1e4, 400)
    law = [0.25 * np.mean(np.exp(-t / tau)) for t in times[lags]]
    spectrum.plot(times[lags], law, label="p (1 - p) mean exp(-T / tau)")
    label(spectrum, "lag T [s]", "covariance [uS$^2$]", legend=True)


@picture("effect_polarity")
def polarity(figure: Figure) -> None:
    ratio, product = panels(figure, "ratio of a device: negative over positive input", "output of a column")
    g = np.linspace(0, 15, 400)
    z = np.random.default_rng(0).standard_normal(60)
    ratio.plot(
        np.linspace(0.5, 14.5, 60), DeviceAsymmetry(sigma=0.05).negative_factor(10.0, z), ".", ms=3, label="device"
    )
    ratio.plot(g, StateAsymmetry().negative_factor(g, 0.0), label="state")
    ratio.plot(g, GlobalAsymmetry(a_in=0.1).negative_factor(g, 0.0), label="global, a_in = 0.1")
    ratio.set_ylim(top=1.35)
    label(ratio, "conductance [uS]", "ratio", legend=True)
    x = np.linspace(-1, 1, 200)
    for a_in, a_out in ((0.3, 0.0), (0.0, 0.3), (0.3, 0.3)):
        law = GlobalAsymmetry(a_in=a_in, a_out=a_out)
        for sign in (1, -1):
            y = sign * x * np.where(x < 0, law.negative_factor(1.0, 0.0), 1.0)
            style = {"ls": "-", "label": f"a_in = {a_in:g}, a_out = {a_out:g}"} if sign > 0 else {"ls": ":"}
            colour = f"C{int(a_in > 0) + 2 * int(a_out > 0)}"
            product.plot(x, np.where(y < 0, y * law.output_factor, y), color=colour, **style)
    label(product, "input (dotted: negative weight)", "column output", legend=True)


@picture("effect_iv_curve")
def iv(figure: Figure) -> None:
    small, measured = panels(figure, "20 uS", "milo: current over g V")
    volts = np.linspace(-0.5, 0.5, 101)
    for law, name in ((CubicIV(k3_per_V2=0.8), "cubic, k3 = 0.8 / V$^2$"), (SinhIV(v0_V=0.3), "sinh, V0 = 0.3 V")):
        small.plot(volts, law.current_uA(20.0, volts), label=name)
    small.plot(volts, 20 * volts, "k:", label="linear")
    label(small, "voltage [V]", "current [uA]", legend=True)
    forward = volts[volts != 0]
    for g in (50.0, 110.0, 225.0):
        measured.plot(forward, MiloIV().current_uA(g, forward) / (g * forward), label=f"{g:g} uS")
    label(measured, "voltage [V]", "ratio", legend=True)
