"""The measured read traces of four cells: spectrum and Allan deviation of the fit against those of the samples."""

from pathlib import Path

import numpy as np
import pytest
from scipy import signal

from calibration.allan import allan_deviation
from calibration.circuit_tables import ReadTrace
from calibration.read_noise import fit_read_noise

FOLDER = Path(__file__).parents[2] / ".." / "shared" / "data" / "devices" / "rram_levy_relaxation"


@pytest.fixture(scope="module")
def measured():
    if not FOLDER.exists():
        pytest.skip("the shared device data are not beside this repository")
    trace = ReadTrace.from_npz(FOLDER / "rram_techA_read_trace_400Hz.npz")
    return trace, fit_read_noise(trace)


def test_density_within_a_fifth_in_every_octave(measured):
    """From 0.01 to 100 Hz and beyond, at each of the four levels, against Welch's estimate of all samples."""
    trace, fit = measured
    for level, cell in enumerate(np.argsort(trace.g_uS.mean(axis=1))):
        f, density = signal.welch(trace.g_uS[cell], trace.fs_Hz, nperseg=40_000)
        for low in 0.01 * 2.0 ** np.arange(14):
            octave = (f >= low * (1 - 1e-9)) & (f < 2 * low * (1 - 1e-9))
            fitted = np.mean(fit.density(f[octave], level) + fit.floor_uS2_per_Hz)
            assert fitted == pytest.approx(density[octave].mean(), rel=0.2), (level, low)


def test_allan_deviation(measured):
    """Within a fifth to 0.1 s at all levels, and to 10 s within a quarter but for the cell that jumps by half of its
    conductance ten seconds after the start. There Welch's estimate, tapered at the ends, weighs the jump by a
    hundredth, and no density within a fifth of it has more than 1.1 times the deviation. Without the jump it is within
    15 % at all levels."""
    trace, fit = measured
    for level, cell in enumerate(np.argsort(trace.g_uS.mean(axis=1))):
        n = np.unique(np.geomspace(1, 4000, 16).astype(int))
        ratio = fit.allan_deviation(n / trace.fs_Hz, level) / allan_deviation(trace.g_uS[cell], n)
        assert np.all(np.abs(ratio[n <= 40] - 1) < 0.2), level
        assert np.all(np.abs(ratio - 1) < (0.5 if level == 1 else 0.25)), level
        late = fit.allan_deviation(n / trace.fs_Hz, level) / allan_deviation(trace.g_uS[cell, 12 * 400 :], n)
        assert np.all(np.abs(late - 1) < 0.15), level


def test_what_is_not_stationary_is_said(measured):
    _, fit = measured
    texts = " ".join(fit.warnings)
    assert "steps of the reader of 0.01769 uS" in texts
    assert "jumps" in texts
    assert "still relaxes" in texts
    assert not any(c.chosen for c in fit.candidates)  # the table: every law is rejected
    assert fit.to_device().read.kind == "one_over_f"
