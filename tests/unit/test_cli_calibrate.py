"""From a file of measurements on the command line to a device, and to a sweep with it."""

import os

import numpy as np
import pandas as pd
import pytest

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # ahead of transformers: nothing is asked of the network

from calibration import ProgrammingTable, fit_programming
from calibration.fit import Fit
from crossbar_sim import ChipSpec
from crossbar_sim.spec.device_file import device_from_yaml, device_to_yaml
from device_models.errors import SpecError, StoreError, UsageError
from device_models.pcm_1m import Pcm1M


@pytest.fixture(scope="module")
def frame():
    rng = np.random.default_rng(0)
    target = np.resize(np.linspace(0.0, 25.0, 8), 400)
    return pd.DataFrame({"goal_uS": target, "g_uS": np.abs(target + 0.5 * rng.standard_normal(400))})


@pytest.fixture
def data(frame, tmp_path):
    path = tmp_path / "array.csv"
    frame.to_csv(path, index=False)
    return path


def test_a_device_a_fit_and_a_picture(call, data, frame, tmp_path):
    out, fit, plot = (tmp_path / name for name in ("device.yaml", "fit.yaml", "fit.png"))
    code, printed, _ = call(
        "calibrate", "programming", data, "--column", "g_target_uS=goal_uS", "--set", "sigma=linear", "--set",
        "window_uS=[0, 26]", "-o", out, "--fit", fit, "--plot", plot, "--g-max", "25.5",
    )  # fmt: skip
    assert code == 0
    table = ProgrammingTable.from_frame(frame, {"g_target_uS": "goal_uS"})
    expected = fit_programming(table, sigma="linear", window_uS=(0.0, 26.0))
    assert "sigma_c1" in printed
    assert "array.csv" in printed
    assert f"device:  {out}" in printed
    device = device_from_yaml(out)
    assert device.g_max_uS == 25.5
    at = np.linspace(0, 25.5, 9)
    assert device.sigma_program_uS(at, 0.0) == pytest.approx(expected.sigma_uS(at), rel=1e-3)
    assert device.fit_record.laws[0].files[0].name == "array.csv"
    assert np.array_equal(Fit.from_yaml(fit).draws, expected.draws)
    assert plot.read_bytes().startswith(b"\x89PNG")


def test_statistics_from_a_file(call, tmp_path):
    path = tmp_path / "figure.csv"
    pd.DataFrame({"g_target_uS": [1, 5, 10, 15, 20, 25], "sigma_uS": [0.2, 0.4, 0.6, 0.8, 1.0, 1.2]}).to_csv(path)
    code, printed, _ = call("calibrate", "programming", path, "--statistics", "--set", "reading_error_uS=0.01")
    assert code == 0
    assert "bias: not measured, taken as zero" in printed
    assert "device:" not in printed


def test_a_fitted_device_replaces_that_of_the_chip(call, data, tmp_path, monkeypatch):
    out = tmp_path / "device.yaml"
    assert call("calibrate", "programming", data, "--column", "g_target_uS=goal_uS", "-o", out)[0] == 0
    seen = []

    def stop(model, chips, *_, **__):
        seen.extend(chips)
        raise UsageError("far enough")

    monkeypatch.setattr("crossbar_sim.bridge.hf.load_model", lambda name, **options: (None, None))
    monkeypatch.setattr("crossbar_sim.study.sweep.sweep", stop)
    code, _, err = call("sweep", "--chip", "pcm_1m", "--chip", "hermes_1d", "--device", out)
    assert (code, err) == (2, "crossbar-sim: error: far enough\n")
    device = device_from_yaml(out)
    assert seen == [ChipSpec.preset(name).evolve(device=device) for name in ("pcm_1m", "hermes_1d")]


def test_voltages_are_fitted_and_make_no_device(call, tmp_path):
    path, fit = tmp_path / "sonos.csv", tmp_path / "fit.yaml"
    rng, t = np.random.default_rng(0), np.geomspace(1.0, 1e6, 20)
    pd.DataFrame(
        {"t_h": t / 3600, "vt_mV": 1100 - 120 * np.log10(t) + 20 * rng.standard_normal(20), "state": "on"}
    ).to_csv(path)
    code, printed, _ = call("calibrate", "threshold", path, "--set", "model=linear in ln t", "--fit", fit)
    assert code == 0
    assert Fit.from_yaml(fit).value("loss") == pytest.approx(-0.12, abs=0.01)  # 4 standard errors
    assert "threshold voltage of on cells" in printed
    code, _, err = call("calibrate", "threshold", path, "-o", tmp_path / "device.yaml")
    assert code == 2
    assert "device.yaml: threshold makes no device; --fit" in err


@pytest.mark.parametrize(
    ("quantity", "expected"),
    [("stuck", "p_reset"), ("telegraph", "p_trap"), ("pulses", "up_read_noise"), ("converter", "gain"),
     ("write-verify", "rate"), ("mvm", "offset_mean")],
)  # fmt: skip
def test_every_table_has_its_fitter(call, tmp_path, quantity, expected):
    rng, k = np.random.default_rng(0), np.arange(400)
    noise, state = rng.standard_normal(400), np.cumsum(rng.random(400) < 0.1) % 2
    frames = {
        "stuck": {"g_target_uS": k % 20, "g_uS": k % 20 + 0.1 * np.abs(noise)},
        "telegraph": {"t_s": 0.01 * k, "g_uS": 20 + state + 0.1 * noise},
        "pulses": {"direction": "up", "ramp": k // 40, "pulse": k % 40, "g_uS": 10 + k % 40 + 0.3 * noise},
        "converter": {"input": k / 20, "code": k // 20},
        "write-verify": {"g_low_uS": 9, "g_high_uS": 11, "max_attempts": 5, "accepted": noise > 0},
        "mvm": {"x_0": noise, "y_0": 2 * noise + 0.1 * rng.standard_normal(400)},
    }
    path = tmp_path / "data.csv"
    pd.DataFrame(frames[quantity]).astype({"accepted": int} if quantity == "write-verify" else {}).to_csv(path)
    code, printed, err = call("calibrate", quantity, path)
    assert (code, err) == (0, "")
    assert expected in printed


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["programming", "none.csv"], "none.csv: cannot be read: No such file"),
        (["programming", "DATA"], "DATA: column g_target_uS is missing; has goal_uS, g_uS"),
        (["programming", "DATA", "--column", "g_uS"], "--column g_uS: must be OWN=THEIRS"),
        (["programming", "DATA", "--column", "g_uS=x"], "DATA: columns['g_uS'] = 'x': no such column"),
        (["programming", "DATA", "--set", "t0=20"], "--set t0=20: 't0' is unknown; accepted: window_uS, sigma"),
        (["programming", "DATA", "--set", "sigma"], "--set sigma: must be NAME=VALUE"),
        (["programming", "DATA", "--set", "sigma=[1"], "--set: '[1' is not a value"),
        (["programming", "DATA", "--set", "sigma=2026-13-01"], "--set: '2026-13-01' is not a value"),
        (["mvm", "DATA", "--out", "d.yaml"], "--out d.yaml: mvm makes no device; --fit d.yaml keeps the whole fit"),
        (["programming", "DATA", "--g-max", "5"], "--g-max 5: cannot act without --out"),
        (["iv", "DATA", "--statistics"], "--statistics: cannot act on iv; only on programming, drift"),
        (["programming", "table.xlsx"], "table.xlsx: must end with one of .csv, .parquet, .npz"),
    ],
)
def test_errors_are_one_line(call, data, arguments, message):
    code, out, err = call("calibrate", *(str(data) if text == "DATA" else text for text in arguments))
    assert (code, out) == (2, "")
    assert err.startswith(f"crossbar-sim: error: {message.replace('DATA', str(data))}")
    assert err.count("\n") == 1


def test_overflows_are_left_out_where_that_is_asked_for(call, frame, tmp_path):
    path = tmp_path / "array.csv"
    broken = frame.rename(columns={"goal_uS": "g_target_uS"})
    broken.loc[7, "g_uS"] = 9.91e37
    broken.to_csv(path, index=False)
    code, _, err = call("calibrate", "programming", path)
    assert code == 2
    assert "g_uS = 9.91e+37 in row 8 (line 9)" in err
    code, printed, _ = call("calibrate", "programming", path, "--leave-out-overflow")
    assert code == 0
    assert "left out: 1 (overflow g_uS)" in printed


def test_an_unknown_quantity_is_told_the_known_ones(call):
    code, _, err = call("calibrate", "colour", "x.csv")
    assert code == 2
    assert "read-noise" in err


def test_a_device_by_itself_in_a_file(tmp_path):
    device = Pcm1M(g_max_uS=0.1 + 0.2)
    device_to_yaml(device, tmp_path / "device.yaml")
    assert device_from_yaml(tmp_path / "device.yaml") == device
    path = tmp_path / "other.yaml"
    for text, error, message in (
        ("kind: pcm_1m\ng_max_uS: -1\n", SpecError, "device.g_max_uS = -1: must be above 0 uS"),
        ("kind: pcm_2m\n", SpecError, "device.kind = 'pcm_2m': must be one of"),
        ("- 1\n", UsageError, "must hold a mapping of device fields with a kind"),
        ("kind: [\n", StoreError, "is not valid YAML"),
        ("!!python/object/apply:os.system [ls]\n", StoreError, "is not valid YAML"),
    ):
        path.write_text(text)
        with pytest.raises(error) as caught:
            device_from_yaml(path)
        assert message in str(caught.value)
        assert str(path) in str(caught.value)
    with pytest.raises(StoreError, match="cannot be read as a device"):
        device_from_yaml(tmp_path / "none.yaml")
    with pytest.raises(StoreError, match="cannot be written"):
        device_to_yaml(device, tmp_path / "nowhere" / "device.yaml")
