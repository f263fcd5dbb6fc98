"""Several tables become one device: what is fitted, what is not, and what stands in its place."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from calibration import (
    DriftStatistics,
    MVMTable,
    ProgrammingStatistics,
    ProgrammingTable,
    RetentionTable,
    fit_device,
)
from crossbar_sim.spec import ChipSpec
from crossbar_sim.spec.device_file import device_from_yaml
from device_models.errors import UsageError
from device_models.pcm_1m import Pcm1M

DIGITISED = Path(__file__).parents[2] / ".." / "shared" / "data" / "devices" / "pcm_reram_ibm_digitised"
PCM = Pcm1M()
CELLS = 256


@pytest.fixture(scope="module")
def tables():
    """Cells of the published PCM law: programmed, then read six times."""
    rng = np.random.default_rng(0)
    target = np.resize(np.linspace(2.0, 25.0, 8), CELLS)
    z = rng.standard_normal((2, CELLS))
    g = target + PCM.sigma_program_uS(target) * z[0]
    nu = np.abs(PCM.nu_mean(target) + PCM.nu_sigma(target) * z[1])
    t = np.geomspace(1.0, 1e5, 6)
    noise = 1 + 0.01 * rng.standard_normal((CELLS, 6))
    reads = g[:, None] * np.exp(-nu[:, None] * np.log((t + 20) / 20)) * noise
    wide = pd.DataFrame({f"g_{time:g}s_uS": column for time, column in zip(t, reads.T, strict=True)})
    return (
        ProgrammingTable.from_frame(pd.DataFrame({"cell": np.arange(CELLS), "g_target_uS": target, "g_uS": g})),
        RetentionTable.from_frame(wide.assign(cell=np.arange(CELLS), g_target_uS=target)),
    )


@pytest.fixture(scope="module")
def fit(tables):
    return fit_device(*tables, options={"fit_programming": {"sigma": "quadratic"}})


def test_every_table_is_fitted_and_the_power_law_is_recognised(fit):
    assert [own.quantity for own in fit.fits] == ["programming error", "stuck devices", "drift"]
    assert fit["drift"].quantity == "drift"
    with pytest.raises(
        UsageError, match="quantity = 'iv': was not fitted; has programming error, stuck devices, drift"
    ):
        fit["iv"]


def test_the_device_has_the_laws_that_made_the_measurements(fit):
    device = fit.to_device()
    assert (device.g_min_uS, device.g_max_uS) == (2.0, 25.0)
    curves, truth = device.curves(1e4, 1.0), PCM.curves(1e4, 1.0)
    at = np.linspace(3.0, 24.0, 8)

    def over(name):
        return [np.interp(at, c.nodes_uS, getattr(c, name)) for c in (curves, truth)]

    assert np.allclose(*over("program_sigma_uS"), rtol=0.25)  # 256 devices: 4 % standard error overall, 13 % a level
    assert np.allclose(*over("nu_mean"), atol=0.006)
    assert curves.log_time == pytest.approx(truth.log_time, rel=0.05)
    ChipSpec(device=device)


def test_what_was_not_measured_is_published_or_off_and_says_so(fit, tables):
    missing = {m.quantity: m for m in fit.missing}
    assert missing["read noise"].instead == f"that of pcm_1m ({PCM.source})"
    assert missing["telegraph noise"].instead == "off"
    assert "relaxation" not in missing
    device = fit.to_device()
    assert PCM.source in device.source
    assert np.interp(12.5, device.g_uS, device.read.q_s) == pytest.approx(PCM.q_s(12.5), rel=2e-3)
    plain = {"fit_drift": {"model": "constant"}}
    alone = fit_device(*tables, over_time="drift", options=plain, literature=None)
    assert alone.to_device().read is None
    assert {m.instead for m in alone.missing} == {"off"}
    assert "read noise: not fitted (not measured): off" in alone.summary()


def test_devices_are_drawn_from_every_fit(fit):
    devices = fit.sample_devices(20, seed=3)
    for index, own in enumerate(fit.fits):
        found = np.array([[p.value for p in d.fit_record.laws[index].parameters] for d in devices])
        spread = own.draws.std(axis=0)
        assert np.all(np.abs(found.mean(axis=0) - own.draws.mean(axis=0)) <= 4 * spread / np.sqrt(20))
    programming, drift = (np.array([d.fit_record.laws[k].parameters[0].value for d in devices]) for k in (0, 2))
    assert abs(np.corrcoef(programming, drift)[0, 1]) < 0.6  # independent: 0.22 standard error
    assert fit.sample_devices(20, seed=3) == devices


def test_the_file_of_a_device_gives_it_back(fit, tmp_path):
    fit.to_yaml(tmp_path / "device.yaml")
    assert device_from_yaml(tmp_path / "device.yaml") == fit.to_device()
    assert len(fit.plot(tmp_path / "device.png").axes) == 3 * sum(own.picture is not None for own in fit.fits)


def test_digitised_statistics_make_a_pcm_device():
    if not DIGITISED.exists():
        pytest.skip("the shared measurements are not here")
    programming = ProgrammingStatistics.from_csv(
        DIGITISED / "pcm_programming_error_vs_conductance.csv",
        {"g_target_uS": "g_uS", "sigma_uS": "programming_error_std_uS"},
    )
    drift = DriftStatistics.from_csv(
        DIGITISED / "pcm_drift_exponent_vs_conductance.csv",
        {"nu_mean": "drift_exponent_mean", "nu_sigma": "drift_exponent_std"},
    )
    law = {"fit_drift": {"t0_s": 20.0, "model": "clipped log"}}
    device = fit_device(programming, drift, options=law).to_device()
    at = np.linspace(1.0, 23.0, 12)
    assert np.interp(at, device.g_uS, device.drift.nu_mean) == pytest.approx(PCM.nu_mean(at), abs=0.005)
    assert device.sigma_program_uS(at, 0.0) == pytest.approx(PCM.sigma_program_uS(at), abs=0.02)
    refused = fit_device(programming, drift, literature=None)
    assert "t0_s" in next(m.reason for m in refused.missing if m.quantity == "drift")


@pytest.mark.parametrize(
    ("arguments", "options", "text"),
    [
        ((), {}, "tables: give at least one"),
        ((0, 0), {}, "tables: ProgrammingTable is given 2 times: each kind once"),
        ((0,), {"over_time": "bake"}, "over_time = 'bake': must be drift, relaxation or None"),
        ((0,), {"options": {"fit_drft": {}}}, "options['fit_drft']: cannot act: these tables call fit_programming"),
    ],
)
def test_what_cannot_be_used_is_refused(tables, arguments, options, text):
    with pytest.raises(UsageError) as caught:
        fit_device(*(tables[k] for k in arguments), **options)
    assert text in str(caught.value)


def test_a_table_that_says_nothing_about_a_device_is_refused():
    with pytest.raises(UsageError, match="MVMTable says nothing about a device; fit it by itself"):
        fit_device(MVMTable.of(np.ones((3, 2)), np.ones((3, 1))))
    with pytest.raises(UsageError, match="tables: DataFrame is no table"):
        fit_device(pd.DataFrame())
    few = ProgrammingTable.from_frame(pd.DataFrame({"g_target_uS": [1.0], "g_uS": [1.0]}))
    with pytest.raises(UsageError, match="nothing could be fitted: programming error: "):
        fit_device(few)
