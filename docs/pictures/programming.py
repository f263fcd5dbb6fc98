"""How devices are written."""

from __future__ import annotations

import numpy as np
import torch
from matplotlib.figure import Figure

from crossbar_sim.devices.effect_tables import verify_table
from crossbar_sim.devices.gradient_descent import gradient_descent_program
from crossbar_sim.kernels.programming import program_verify_matrix, write_keys
from crossbar_sim.kernels.random import random_key
from crossbar_sim.spec import ChipSpec, GradientDescentProgramming, ProgramVerify
from device_models.ideal import Ideal
from docs.pictures.base import devices_at, label, panels, picture, relative_error

TARGET_uS, DEVICES = 10.0, (40, 1000)


@picture("programming_single_shot")
def single_shot(figure: Figure) -> None:
    histogram, spread = panels(figure, "one pulse on devices of three targets", "")
    targets = np.linspace(0.5, 25.0, 20)
    for sigma in (0.1, 0.3):
        shots = {"programming": {"kind": "single_shot", "sigma_write": sigma}}
        (g,) = devices_at(Ideal(g_max_uS=25.0), targets, [0.0], 3000, **shots)
        spread.plot(targets, g.std(axis=1), label=f"sigma_write = {sigma:g}")
    (g,) = devices_at(Ideal(g_max_uS=25.0), [5.0, 12.0, 20.0], [0.0], 5000, **shots)
    for own in g:
        histogram.hist(own, bins=50, histtype="step")
    label(histogram, "conductance [uS]", "devices of 5000")
    label(spread, "target [uS]", "s.d. [uS]", legend=True)


@picture("programming_program_verify")
def program_verify(figure: Figure) -> None:
    residuals, left = panels(figure, "residual after up to 20 pulses", "devices not yet within the tolerance")
    target = np.full(DEVICES, TARGET_uS)
    for alpha in (1.0, 0.5, 0.25):
        spec = ProgramVerify(alpha=alpha, tolerance_uS=0.3, max_pulses=20, sigma_write_uS=0.2, sigma_read_uS=0.3)
        g, pulses, converged = np.empty(DEVICES), np.empty(DEVICES, np.int32), np.empty(DEVICES, bool)
        table, key = verify_table(spec, 0.0), write_keys(0, "picture")[0]
        program_verify_matrix(0, 0, len(target), target, key, 0, 0, table, g, pulses, converged)
        edges = np.linspace(-1.5, 1.5, 61)
        residuals.hist((g - TARGET_uS).ravel(), bins=edges, histtype="step", label=f"alpha = {alpha:g}")
        after = np.arange(21)
        left.semilogy(after, [np.mean(pulses > k) for k in after], label=f"alpha = {alpha:g}")
    label(residuals, "g - target [uS]", f"devices of {target.size}")
    label(left, "pulses", "share", legend=True)


@picture("programming_retarget")
def retarget(figure: Figure) -> None:
    rates = np.geomspace(1e-3, 0.1, 6)
    draw = torch.Generator().manual_seed(0)
    weight, x = torch.randn(128, 256, generator=draw), torch.randn(64, 256, generator=draw)
    for axes, pair in zip(
        panels(figure, "one-sided pairs", "two-sided pairs"), ("one_sided", "two_sided"), strict=True
    ):
        for kind in ("p_reset", "p_set"):
            for retargets, style in ((False, "o:"), (True, "o-")):
                found = []
                for rate in rates:
                    spec = ChipSpec.preset("ideal").evolve(
                        **{"device.faults": {kind: float(rate)}, "encoding.pair": pair}
                    )
                    found.append(relative_error(spec.evolve(**{"programming.retarget_stuck": retargets}), weight, x))
                name = f"{kind}, retargeted" if retargets else kind
                axes.loglog(rates, found, style, ms=3, color="C0" if kind == "p_reset" else "C1", label=name)
        label(axes, "share of devices", "rms error / rms", legend=True)


@picture("programming_gradient_descent")
def gradient_descent(figure: Figure) -> None:
    weights = np.random.default_rng(0).uniform(-1, 1, (32, 64))
    start = (np.zeros(weights.shape), np.zeros(weights.shape))
    error, lost = panels(figure, "error of products, reads with noise of 2 %", "columns with gains of their own")
    noise = np.random.default_rng(1)
    scale = 0.02 * np.sqrt(64 / 3)
    gains = np.linspace(0.8, 1.2, 32)

    def read(plus, minus, x, step):
        return x @ ((plus - minus) / 25.0).T + scale * noise.standard_normal((len(x), 32))

    for eta in (0.8, 0.4):
        spec = GradientDescentProgramming(eta=eta, batch=256, steps=40)
        result = gradient_descent_program(weights, read, spec, start, (0.0, 25.0), random_key(0, "picture"))
        own = np.sqrt(np.maximum(result.error_rms**2 - scale**2, 1e-12) / 64 * 3)
        error.semilogy(own, label=f"eta = {eta:g}")
        rho = 1 - 2 * eta + eta**2 * (1 + 65 / 256)
        floor = eta * scale / np.sqrt(256 * (1 - rho))
        error.axhline(floor * np.sqrt(3), color="k", ls=":", lw=0.8, label="closed form" if eta == 0.4 else None)
    label(error, "step", "error / rms weight", legend=True)
    result = gradient_descent_program(
        weights, lambda *a: gains * read(*a), spec, start, (0.0, 25.0), random_key(0, "picture")
    )
    written = ((result.g_plus_uS - result.g_minus_uS) / 25.0 * weights).sum(axis=1) / (weights**2).sum(axis=1)
    lost.plot(gains, written, ".", label="written weight over target")
    lost.plot(gains, 1 / gains, label="1 / gain")
    label(lost, "gain of the column's read-out", "factor", legend=True)
