"""Temperature of a chip: drift at the temperature between the reads."""

import torch

from crossbar_sim.array.matrix import AnalogMatrix
from crossbar_sim.spec import ChipSpec


def test_devices_that_relax_hotter_than_they_are_read_drift_faster():
    """nu -> nu T_anneal / T_read: at equal temperatures of laws and read only the exponent changes."""
    temperature = {"t_read_K": 300.0, "t_anneal_K": 330.0}
    quiet = {"program_scale": 0.0, "read_scale": 0.0, "nu_sigma_law": (0.0, 0.0, 0.0, 0.0)}
    spec = ChipSpec.preset("pcm_1m").evolve(**{f"device.{name}": value for name, value in quiet.items()})
    hot = spec.evolve(**{"device.temperature": temperature})
    weight = torch.linspace(0.3, 1.0, 50, dtype=torch.float64)[None]
    day = 86400.0
    drifted = []
    for chip in (spec, hot):
        matrix = AnalogMatrix(weight, chip, 0, "fc")
        matrix.age(weight, day)
        drifted.append(matrix.effective[0] / weight)
    torch.testing.assert_close(drifted[1], drifted[0] ** 1.1, rtol=2e-6, atol=0)
