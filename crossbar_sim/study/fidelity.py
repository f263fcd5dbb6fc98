"""fidelity_report: one chip at three depths of physics, and how far each is from the one below it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from numpy.typing import ArrayLike, NDArray

from crossbar_sim.array.matrix import checked_seed
from crossbar_sim.array.programmed import ProgrammedMatrix
from crossbar_sim.kernels.random import fill_normals, random_key, u32
from crossbar_sim.spec import ChipSpec
from crossbar_sim.study.circuit_read import CircuitRead
from device_models.errors import UsageError
from device_models.units import readable_time, seconds

Floats = NDArray[np.float64]

TIERS = ("digital", "nodal", "tile", "statistical")
"""From the exact product to the cheapest model; each is held against the one before it and against digital."""

_NAME = "tile"  # as in Tile: the same spec, seed and weights are the same devices


@dataclass(frozen=True, eq=False)
class FidelityReport:
    """How far each tier is from the one below it and from the digital product.

    `frame` has one row for each tier, what it is held against (`versus`) and column:

        mean         mean of the error y_tier - y_versus over inputs and reads
        mean_se      standard error of `mean` that the noise of the reads leaves; the inputs are taken as they are
        sd           s.d. of the error over inputs and reads
        sd_inputs    its part that differs from input to input: of the error without noise
        sd_reads     its part that differs from read to read: noise
        relative     rms of the error / rms of the digital output over all columns

    `overall` has the same for all columns taken together. Errors are in units of the output.
    """

    frame: pd.DataFrame
    overall: pd.DataFrame
    digital_rms: float
    title: str

    def __str__(self) -> str:
        rows = pd.concat([self.frame, self.overall.assign(column="all")])
        cells: dict[str, list[str]] = {}
        for tier, below in zip(TIERS[1:], TIERS, strict=False):
            own = rows[(rows["tier"] == tier) & (rows["versus"] == below)]
            cells["column"] = [str(column) for column in own["column"]]
            percent = 100 / self.digital_rms * own[["mean", "sd"]].to_numpy(float)
            cells[f"{tier} - {below}"] = [f"{mean:+.3g} ± {sd:.3g}" for mean, sd in percent]
        lines = [self.title, f"mean ± s.d. of the error in % of the rms of the digital output, {self.digital_rms:.4g}"]
        return "\n".join([*lines, pd.DataFrame(cells).to_string(index=False)])

    def plot(self, path: str | Path) -> Path:
        """Draw mean and s.d. of every column: each tier against the digital product and against the tier below."""
        from crossbar_sim.view.fidelity import plot_fidelity  # matplotlib is loaded only where something is drawn

        return plot_fidelity(self.frame, path)


def fidelity_report(
    spec: ChipSpec, weights: ArrayLike, x: ArrayLike, seed: int = 0, t: float | str = "0s", reads: int = 16
) -> FidelityReport:
    """Compare three ways to simulate the same devices with each other and with the digital product x W^T.

    Equation   nodal        every tile solved as a circuit for each input (study.circuit_read)
               tile         what Tile and map_model compute: effective conductances, wires by `spec.wires.model`
               statistical  y_j = sum_i w_ji x_i + mu_j + sigma_j z, z standard normal, fresh for every output;
                            mu_j and sigma_j are mean and s.d. of the error of the tile tier over inputs and reads
    Systematic tile - nodal: the closed form of the wires (0 where wires are none or solved exactly), with what ADC and
               drift compensation make of it. Both tiers have the same devices, and in each read the same noise, which
               cancels but for the ADC. The nodal chip measures its own drift compensation, with wires solved exactly.
               nodal - digital: programming, drift, wires, converters as `sd_inputs` and `mean`, noise as `sd_reads`.
    Noise      of statistical - tile: both draw their own, so `sd` holds both; its mean is 0 but for the draws. Fitted
               on these very inputs, the tier has the right mean and s.d.; which error belongs to which input is lost.
    Arguments  weights (n_out, n_in); x (T, n_in), at least 2 vectors; t after programming; reads of every vector, at
               least 2. Computed in float64; `Tile(spec, seed)` has the same devices
    Errors     UsageError for what is not a finite matrix that fits, and for input ranges that need calibration
    Test       tests/unit/test_fidelity.py
    """
    if not isinstance(spec, ChipSpec):
        raise UsageError(f"spec = {spec!r}: must be a ChipSpec")
    if spec.dac is not None and spec.dac.range.kind not in ("dynamic", "static"):
        raise UsageError(f'chip.dac.range.kind = "{spec.dac.range.kind}": no calibration data; use dynamic or static')
    w, vectors = _finite_matrix("weights", weights, "(n_out, n_in)"), _finite_matrix("x", x, "(vectors, n_in)")
    if vectors.shape[1] != w.shape[1] or len(vectors) < 2:
        raise UsageError(f"x: shape {vectors.shape}; must be (vectors, {w.shape[1]}) with at least 2 vectors")
    if isinstance(reads, bool) or not isinstance(reads, int) or reads < 2:
        raise UsageError(f"reads = {reads!r}: must be a whole number of at least 2")
    t_s, seed = seconds(t, "t"), checked_seed(seed)
    digital = vectors @ w.T
    rms = float(np.sqrt(np.mean(digital**2)))
    if rms == 0:
        raise UsageError("weights, x: the digital output is 0 everywhere; errors have nothing to be compared with")
    outputs = {"digital": np.broadcast_to(digital, (reads, *digital.shape))}
    outputs |= _chip_reads(spec, w, vectors, seed, t_s, reads)
    error = outputs["tile"] - digital
    noise = _normals(seed, error.shape)
    outputs["statistical"] = digital + error.mean(axis=(0, 1)) + error.std(axis=(0, 1)) * noise
    pairs = [(tier, below) for tier, below in zip(TIERS[1:], TIERS, strict=False)]
    pairs += [(tier, "digital") for tier in TIERS[2:]]
    errors = {(tier, below): outputs[tier] - outputs[below] for tier, below in pairs}
    frame = pd.concat([_moments(e, rms, *pair).rename_axis("column").reset_index() for pair, e in errors.items()])
    overall = pd.concat([_moments(e.reshape(reads, -1, 1), rms, *pair) for pair, e in errors.items()])
    first = ["tier", "versus", "column"]
    frame = frame[[*first, *(name for name in frame if name not in first)]].reset_index(drop=True)
    title = (
        f"{spec.name}: {w.shape[1]} inputs x {w.shape[0]} columns, {len(vectors)} vectors, {reads} reads, "
        f"seed {seed}, t = {readable_time(t_s)}"
    )
    return FidelityReport(frame, overall.reset_index(drop=True), rms, title)


def _chip_reads(spec: ChipSpec, weights: Floats, x: Floats, seed: int, t_s: float, reads: int) -> dict[str, Floats]:
    """Outputs (reads, T, n_out) of the tiers nodal and tile."""
    target, vectors = torch.from_numpy(weights), torch.from_numpy(x)
    chip = exact = ProgrammedMatrix(target, spec, seed, _NAME)
    if spec.wires is not None and spec.wires.model != "exact":
        exact = ProgrammedMatrix(target, spec.evolve(**{"wires.model": "exact"}), seed, _NAME)
    for programmed in {id(each): each for each in (chip, exact)}.values():
        programmed.set_time(t_s)
    circuits = CircuitRead(exact.matrix, target, noise=chip.matrix)
    nodal = np.stack([circuits.read(x, number) for number in range(reads)])
    tile = np.stack([chip.read(vectors).numpy() for _ in range(reads)])  # these are reads 0, 1, ... as well
    return {"nodal": nodal, "tile": tile}


def _moments(error: Floats, rms: float, tier: str, versus: str) -> pd.DataFrame:
    """The numbers of FidelityReport, one row per column, of errors (reads, T, columns)."""
    reads, n_vectors, _ = error.shape
    mean, sd = error.mean(axis=(0, 1)), error.std(axis=(0, 1))
    noise = error.var(axis=0, ddof=1).mean(axis=0)
    inputs = np.maximum(error.mean(axis=0).var(axis=0) - noise / reads, 0)  # without what noise adds to a mean of reads
    return pd.DataFrame(
        {
            "tier": tier,
            "versus": versus,
            "mean": mean,
            "mean_se": np.sqrt(noise / (reads * n_vectors)),
            "sd": sd,
            "sd_inputs": np.sqrt(inputs),
            "sd_reads": np.sqrt(noise),
            "relative": np.sqrt(mean**2 + sd**2) / rms,
        }
    )


def _normals(seed: int, shape: tuple[int, ...]) -> Floats:
    """Standard normals (reads, T, n_out) of the statistical tier; counters are column and vector."""
    reads, n_vectors, n_out = shape
    half = -(-n_out // 2)
    z = np.empty((reads, n_vectors, 2, half), np.float32)
    for r in range(reads):
        key = random_key(seed, _NAME, "statistical tier", r)
        for v in range(n_vectors):
            fill_normals(*key, u32(0), u32(v), z[r, v, 0], z[r, v, 1])
    return z.reshape(reads, n_vectors, 2 * half)[..., :n_out].astype(np.float64)


def _finite_matrix(name: str, values: ArrayLike, shape: str) -> Floats:
    try:
        matrix = np.asarray(values)
    except ValueError:  # rows of different lengths
        raise UsageError(f"{name}: must be a matrix {shape}; its rows differ in length") from None
    if matrix.dtype.kind not in "fiu":
        raise UsageError(f"{name}: must be real numbers, are {matrix.dtype}")
    if matrix.ndim != 2 or matrix.size == 0:
        raise UsageError(f"{name}: shape {matrix.shape}; must be {shape}, at least 1 x 1")
    matrix = np.array(matrix, np.float64, order="C")
    if not np.isfinite(matrix).all():
        row, col = (int(index) for index in np.argwhere(~np.isfinite(matrix))[0])
        raise UsageError(f"{name}[{row}, {col}] = {matrix[row, col]}: must be finite")
    return matrix
