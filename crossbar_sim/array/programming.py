"""How the devices of a matrix took their targets, as its spec programs them."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from crossbar_sim.array.descent import descend
from crossbar_sim.array.devices import PlaneDevices
from crossbar_sim.array.matrix import AnalogMatrix, device_tables
from crossbar_sim.devices.effect_tables import verify_table
from crossbar_sim.kernels.conductance import plane_tables
from crossbar_sim.kernels.effects import Effects, retarget_matrix, unusable_matrix
from crossbar_sim.kernels.programming import (
    ProgrammingReport,
    program_verify_matrix,
    programming_report,
)
from crossbar_sim.kernels.workers import share
from crossbar_sim.spec import GradientDescentProgramming, ProgramVerify
from device_models.errors import UsageError


def matrix_report(matrix: AnalogMatrix, weight: torch.Tensor) -> ProgrammingReport:
    """Residuals, pulses and yield of the pairs of `weight` (n_out, n_in) right after programming, and its faults.

    Residuals are those before drift, noise and temperature, and as if no device were stuck: g of a working device minus
    its target, which is a new one where it takes over from a stuck partner. Without verification a device takes one
    pulse, and none is checked, so all count as converged. Gradient descent is run again for the report; its pulses
    count for both devices of a pair.
    """
    spec, device = matrix.spec, matrix.spec.device
    if matrix.layout.n_devices != 2 or len(matrix.layout.planes) != 1:
        raise UsageError(
            f"{matrix.name}: encoding {spec.encoding.kind} has {matrix.layout.n_devices} devices for a weight; "
            "a report is made of differential pairs"
        )
    source = weight.detach().to("cpu", matrix.dtype).contiguous()
    asked = np.stack(matrix.layout.targets(matrix.relative_weights(source), device.g_min_uS, device.g_max_uS))
    bare = device.evolve(temperature=None, telegraph=None, polarity=None, iv=None)
    table, effects = device_tables(bare, spec.programming, None, 0.0)
    effects = effects.on_plane(slice(0, 2), matrix.lines, None)
    (plane,), (keys,) = plane_tables(matrix.layout), matrix.device_keys
    targets = asked.copy()
    if effects.retargets:
        share(retarget_matrix, (effects, keys.faults, asked, targets), matrix.plan.n_out, torch.get_num_threads())
    programmed = np.empty_like(targets)
    pulses, converged = np.ones(targets.shape, np.int32), np.ones(targets.shape, np.bool_)
    more: dict[str, Any] = {}
    if isinstance(spec.programming, ProgramVerify):
        verify = verify_table(spec.programming, device.g_min_uS)
        for d, key in enumerate(keys.write):
            arguments = targets[d], key, 0, 0, verify, programmed[d], pulses[d], converged[d]
            share(program_verify_matrix, arguments, matrix.plan.n_out, torch.get_num_threads())
    elif isinstance(spec.programming, GradientDescentProgramming):
        more = _descend_again(matrix, source, programmed, pulses)
    else:
        working = effects._replace(has_faults=False)
        for w_max, rows in zip(matrix.w_max.cpu().numpy(), matrix.plan.rows, strict=True):
            devices = PlaneDevices.of(source.numpy(), w_max, table, working, plane, keys, rows)
            programmed[:, :, slice(*rows)] = devices.conductances((0, matrix.plan.n_out))
    report = programming_report(targets, programmed, pulses, converged, device.g_max_uS - device.g_min_uS)
    return report._replace(**_faults(effects, keys.faults, asked, targets), **more)


def _faults(effects: Effects, keys: NDArray[np.uint32], asked: NDArray, targets: NDArray) -> dict[str, Any]:
    """What of the devices does not work, and what their partners took over."""

    def found(own: Effects) -> tuple[NDArray, NDArray[np.bool_]]:
        held, unusable = np.empty_like(asked), np.empty(asked.shape, np.bool_)
        share(unusable_matrix, (own, keys, held, unusable), asked.shape[1], torch.get_num_threads())
        return held, unusable

    no_lines = effects._replace(col_tile=effects.col_tile[:0])
    none_stuck = effects._replace(fault_words=np.zeros_like(effects.fault_words))
    counts = {"stuck": int(found(no_lines)[1].sum()), "without_current": int(found(none_stuck)[1].sum())}
    if not effects.retargets:
        return counts
    held, unusable = found(effects)
    takes_over = unusable[::-1] & ~unusable
    lacking = (held[::-1] + asked - asked[::-1] - targets)[takes_over]
    short = lacking[abs(lacking) > 1e-6 * effects.fault_window_uS[1]]
    return {
        **counts,
        "retargeted": int(takes_over.sum()),
        "unreached": short.size,
        "unreached_rms_uS": float(np.sqrt(np.mean(short**2))) if short.size else 0.0,
    }


def _descend_again(
    matrix: AnalogMatrix, weight: torch.Tensor, programmed: NDArray, pulses: NDArray[np.int32]
) -> dict[str, Any]:
    """Run gradient descent on a twin of the matrix: fills in conductances and pulses, returns what else it tells."""
    twin = AnalogMatrix(weight, matrix.spec, matrix.seed, matrix.name, matrix.write)
    squares, limited = [], 0
    for rows, cols, result in descend(twin, weight):
        programmed[:, slice(*cols), slice(*rows)] = result.g_plus_uS, result.g_minus_uS
        pulses[:, slice(*cols), slice(*rows)] = result.pulses
        squares.append(result.error_rms**2)
        limited += result.limited
    return {"limited_pulses": limited, "product_error": np.sqrt(np.mean(squares, axis=0))}
