"""How the devices of a matrix took their targets, as its spec programs them."""

from __future__ import annotations

import numpy as np
import torch

from crossbar_sim.array.devices import PlaneDevices
from crossbar_sim.array.matrix import AnalogMatrix, device_tables
from crossbar_sim.kernels.conductance import plane_tables
from crossbar_sim.kernels.programming import (
    ProgrammingReport,
    program_verify_matrix,
    programming_report,
    verify_table,
)
from crossbar_sim.kernels.threads import use_threads
from crossbar_sim.spec import ProgramVerify
from device_models.errors import UsageError


def matrix_report(matrix: AnalogMatrix, weight: torch.Tensor) -> ProgrammingReport:
    """Residuals, pulses and yield of the pairs of `weight` (n_out, n_in) right after programming.

    Before drift, noise, temperature and faults. Without verification a device takes one pulse, and none is checked, so
    all count as converged.
    """
    spec, device = matrix.spec, matrix.spec.device
    if matrix.layout.n_devices != 2 or len(matrix.layout.planes) != 1:
        raise UsageError(
            f"{matrix.name}: encoding {spec.encoding.kind} has {matrix.layout.n_devices} devices for a weight; "
            "a report is made of differential pairs"
        )
    source = weight.detach().to("cpu", matrix.dtype).contiguous().numpy()
    sizes = [stop - start for start, stop in matrix.plan.rows]
    full_scale = np.repeat(matrix.w_max.cpu().numpy().T, sizes, axis=1)
    u = np.divide(source, full_scale, out=np.zeros_like(source), where=full_scale > 0).clip(-1, 1)
    targets = np.stack(matrix.layout.targets(u, device.g_min_uS, device.g_max_uS))
    bare = device.evolve(temperature=None, telegraph=None, faults=None, polarity=None, iv=None)
    (plane,), (keys,) = plane_tables(matrix.layout), matrix.device_keys()
    programmed = np.empty_like(targets)
    pulses, converged = np.ones(targets.shape, np.int32), np.ones(targets.shape, np.bool_)
    use_threads(torch.get_num_threads())
    if isinstance(spec.programming, ProgramVerify):
        verify = verify_table(spec.programming, device.g_min_uS)
        for d, key in enumerate(keys.write):
            program_verify_matrix(targets[d], key, 0, 0, verify, programmed[d], pulses[d], converged[d])
    else:
        table, effects = device_tables(bare, spec.programming, None, 0.0)
        for w_max, (start, stop) in zip(matrix.w_max.cpu().numpy(), matrix.plan.rows, strict=True):
            devices = PlaneDevices(source[:, start:stop], w_max, table, effects, plane, keys, start)
            programmed[:, :, start:stop], _ = devices.tile((0, matrix.plan.n_out))
    return programming_report(targets, programmed, pulses, converged, device.g_max_uS - device.g_min_uS)
