"""Devices from tables: interpolation, refusals, and CSV files."""

import math

import numpy as np
import pytest

from crossbar_sim.spec import ChipSpec
from device_models.errors import SpecError, StoreError, UsageError
from device_models.pcm_1m import Pcm1M
from device_models.tabulated import Tabulated

G = (2.0, 10.0, 20.0)
TIMED = {
    "t_s": (1.0, 100.0),
    "bias_uS": ((0.0, 0.0, 0.0), (-0.2, -1.0, -2.0)),
    "sigma_uS": ((0.1, 0.5, 1.0), (0.3,) * 3),
}
SINGLE = {"bias_uS": ((0.0, 0.0, 0.0),), "sigma_uS": ((0.1, 0.5, 1.0),)}
DRIFT = {"t0_s": 20.0, "nu_mean": (0.1, 0.06, 0.02), "nu_sigma": (0.0, 0.01, 0.0)}
WHITE = {"kind": "white", "relative": (0.1, 0.05, 0.05)}
ONE_OVER_F = {"kind": "one_over_f", "q_s": (0.02, 0.01, 0.01), "t0_s": 20.0, "t_read_s": 250e-9}


def _device(**changes):
    plain = {"g_uS": G, "g_min_uS": 2.0, "g_max_uS": 20.0, "programming": SINGLE, "drift": None, "read": None}
    return Tabulated(**{**plain, **changes})


@pytest.mark.parametrize(
    ("g_uS", "t_s", "bias_uS", "sigma_uS"),
    [(2.0, 1.0, 0.0, 0.1), (6.0, 1.0, 0.0, 0.3), (15.0, 1.0, 0.0, 0.75), (6.0, 0.0, 0.0, 0.3),
     (6.0, 100.0, -0.6, 0.3), (20.0, 100.0, -2.0, 0.3), (20.0, 10.0, -1.0, 0.65), (15.0, 10.0, -0.75, 0.525)],
)  # fmt: skip
def test_tables_are_linear_in_conductance_and_in_the_logarithm_of_time(g_uS, t_s, bias_uS, sigma_uS):
    device = _device(programming=TIMED)
    assert device.bias_program_uS(g_uS, t_s) == pytest.approx(bias_uS, abs=1e-12)
    assert device.sigma_program_uS(g_uS, t_s) == pytest.approx(sigma_uS, abs=1e-12)
    curves = device.curves(t_s, 1.0)
    assert np.interp(g_uS, curves.nodes_uS, curves.program_bias_uS) == pytest.approx(bias_uS, abs=1e-3)
    assert np.interp(g_uS, curves.nodes_uS, curves.program_sigma_uS) == pytest.approx(sigma_uS, abs=1e-3)


def test_a_table_without_times_holds_at_any_time():
    device = _device()
    for t_s in (0.0, 3.0, 1e9):
        assert device.sigma_program_uS(6.0, t_s) == pytest.approx(0.3, abs=1e-12)


def test_drift_is_the_power_law_with_the_tabulated_exponents():
    curves = _device(drift=DRIFT).curves(3600.0, 1.0)
    assert curves.log_time == pytest.approx(math.log(181), rel=1e-14)
    assert np.interp(6.0, curves.nodes_uS, curves.nu_mean) == pytest.approx(0.08, abs=1e-5)
    assert np.interp(15.0, curves.nodes_uS, curves.nu_sigma) == pytest.approx(0.005, abs=1e-5)


@pytest.mark.parametrize(("t_obs_s", "frozen", "fresh"), [(0.0, 0.05, 0.0), (1.0, 0.0, 0.05), (math.inf, 0.0, 0.05)])
def test_white_noise_is_fresh_unless_frozen_as_a_whole(t_obs_s, frozen, fresh):
    curves = _device(read=WHITE).curves(0.0, t_obs_s)
    assert (curves.frozen_rel[-1], curves.read_rel[-1]) == (frozen, fresh)


def test_one_over_f_noise_is_split_at_the_observation_window():
    device = _device(read=ONE_OVER_F)
    whole = 0.01 * math.log((3600 + 20 + 250e-9) / 500e-9) ** 0.5
    assert device.sigma_read_uS(20.0, 3600.0) == pytest.approx(20 * whole, rel=1e-12)
    curves = device.curves(3600.0, 1.0)
    assert math.hypot(curves.frozen_rel[-1], curves.read_rel[-1]) == pytest.approx(whole, rel=1e-12)
    assert (curves.frozen_rel[-1] / whole) ** 2 == pytest.approx(0.3609, abs=6e-5)


def test_a_table_of_the_laws_of_a_device_is_that_device():
    law, g = Pcm1M(), np.linspace(0, 25, 501)
    table = Tabulated(
        g_uS=tuple(g),
        programming={"bias_uS": ((0.0,) * 501,), "sigma_uS": (tuple(law.sigma_program_uS(g)),)},
        drift={"t0_s": 20.0, "nu_mean": tuple(law.nu_mean(g)), "nu_sigma": tuple(law.nu_sigma(g))},
        read={"kind": "one_over_f", "q_s": tuple(law.q_s(g)), "t0_s": 20.0, "t_read_s": 250e-9},
    )
    found, expected = table.curves(3600.0, 1.0), law.curves(3600.0, 1.0)
    assert found.log_time == expected.log_time
    far = found.nodes_uS > 0.5  # the laws bend most near zero
    for name in ("program_sigma_uS", "nu_mean", "nu_sigma", "frozen_rel", "read_rel"):
        np.testing.assert_allclose(getattr(found, name)[far], getattr(expected, name)[far], rtol=2e-3)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"g_uS": (2.0, 2.0, 20.0)}, "device: g_uS = (2.0, 2.0, 20.0) must ascend"),
        ({"g_uS": (2.0, math.nan, 20.0)}, "device.g_uS[1] = nan: must be a finite number"),
        ({"g_uS": (-2.0, 10.0, 20.0)}, "device.g_uS[0] = -2.0: must be at least 0 uS"),
        ({"g_uS": (2.0, 20.0)},
         "device: programming.bias_uS has 3 values: must have 2, one for each g_uS"),
        ({"g_min_uS": 1.0}, "device: the window 1 to 20 uS must lie within the table, 2 to 20 uS"),
        ({"g_max_uS": 21.0}, "device: the window 2 to 21 uS must lie within the table, 2 to 20 uS"),
        ({"programming": {**SINGLE, "t_s": (1.0, 2.0)}},
         "device.programming: bias_uS has 1 rows: must have 2, one for each time of t_s"),
        ({"programming": {**TIMED, "t_s": (100.0, 1.0)}}, "device.programming: t_s = (100.0, 1.0) must ascend"),
        ({"programming": {**TIMED, "t_s": ()}}, "device.programming: t_s is empty: give times, or none"),
        ({"programming": {**TIMED, "t_s": (0.0, 1.0)}}, "device.programming.t_s[0] = 0.0: must be above 0 s"),
        ({"programming": {**SINGLE, "sigma_uS": ((0.1, -0.5, 1.0),)}},
         "device.programming.sigma_uS[0][1] = -0.5: must be at least 0 uS"),
        ({"programming": TIMED, "drift": DRIFT},
         "device: drift and programming.t_s exclude each other: drift would count twice"),
        ({"drift": {**DRIFT, "nu_mean": (0.1, 0.1)}},
         "device: drift.nu_mean has 2 values: must have 3, one for each g_uS"),
        ({"read": {"kind": "white", "relative": (0.1,)}},
         "device: read.relative has 1 values: must have 3, one for each g_uS"),
        ({"read": {**ONE_OVER_F, "white": (0.1, 0.1)}},
         "device: read.white has 2 values: must have 3, one for each g_uS"),
        ({"read": "pink"}, "device.read.kind = 'pink': must be one of white, one_over_f"),
        ({"read": {"kind": "one_over_f", "q_s": (0.0,) * 3, "t0_s": 1.0}},
         "device.read.t_read_s: required, but not given"),
    ],
)  # fmt: skip
def test_tables_that_do_not_fit_are_refused_in_words(changes, text):
    with pytest.raises(SpecError) as caught:
        _device(**changes)
    assert str(caught.value) == text


@pytest.mark.parametrize("part", [{"g_uS": (0.0, 25.0)}, {"programming": SINGLE}])
def test_half_a_table_is_not_completed_by_the_example(part):
    with pytest.raises(SpecError) as caught:
        Tabulated(**part)
    assert str(caught.value) == "device: g_uS and programming form one table: both or neither must be given"


@pytest.mark.parametrize(
    ("law", "at", "text"),
    [
        ("sigma_program_uS", {"g_uS": 6.0, "t_s": 0.5},
         "device (tabulated): t_s = 0.5: must be from 1 to 100 s, as measured; 0 stands for 1 s"),
        ("bias_program_uS", {"g_uS": 6.0, "t_s": 101.0},
         "device (tabulated): t_s = 101: must be from 1 to 100 s, as measured; 0 stands for 1 s"),
        ("sigma_program_uS", {"g_uS": [1.0, 5.0], "t_s": 1.0}, "g_uS: runs from 1 to 5: was measured from 2 to 20 uS"),
        ("sigma_read_uS", {"g_uS": math.nan, "t_s": 1.0}, "g_uS: runs from nan to nan: was measured from 2 to 20 uS"),
    ],
)  # fmt: skip
def test_what_was_not_measured_is_refused_in_words(law, at, text):
    with pytest.raises(UsageError) as caught:
        getattr(_device(programming=TIMED, read=WHITE), law)(**at)
    assert str(caught.value) == text


def test_a_table_comes_back_from_yaml(tmp_path):
    for device in (_device(programming=TIMED, read=WHITE), _device(drift=DRIFT, read=ONE_OVER_F), Tabulated()):
        spec = ChipSpec(device=device)
        spec.to_yaml(tmp_path / "chip.yaml")
        again = ChipSpec.from_yaml(tmp_path / "chip.yaml")
        assert (again, hash(again)) == (spec, hash(spec))


@pytest.fixture
def csv_file(tmp_path):
    def write(text):
        path = tmp_path / "device.csv"
        path.write_text(text)
        return path

    return write


def test_a_csv_with_drift_and_one_over_f_noise_is_the_device_of_its_columns(csv_file):
    path = csv_file(
        "g_uS, program_bias_uS, program_sigma_uS, nu_mean, nu_sigma, q_s\n"
        "2, 0, 0.1, 0.1, 0, 0.02\n10, 0, 0.5, 0.06, 0.01, 0.01\n20, 0, 1, 0.02, 0, 0.01\n"
    )
    device = Tabulated.from_csv(path, t0_s=20.0, t_read_s=250e-9)
    assert device.source == "device.csv"
    assert device == _device(source="device.csv", drift=DRIFT, read=ONE_OVER_F)


def test_a_csv_with_times_and_white_noise_is_the_device_of_its_columns(csv_file):
    path = csv_file(
        "t_s,g_uS,program_bias_uS,program_sigma_uS,relative\n"
        "1,2,0,0.1,0.1\n1,10,0,0.5,0.05\n1,20,0,1.0,0.05\n"
        "100,2,-0.2,0.3,0.1\n100,10,-1,0.3,0.05\n100,20,-2,0.3,0.05\n"
    )
    assert Tabulated.from_csv(path) == _device(source="device.csv", programming=TIMED, read=WHITE)


def test_a_csv_with_both_kinds_of_read_noise_has_both(csv_file):
    path = csv_file(
        "g_uS,program_bias_uS,program_sigma_uS,q_s,relative\n2,0,0.1,0.02,0.1\n10,0,0.5,0.01,0.05\n20,0,1,0.01,0.05\n"
    )
    both = {**ONE_OVER_F, "white": WHITE["relative"]}
    assert Tabulated.from_csv(path, t0_s=20.0, t_read_s=250e-9) == _device(source="device.csv", read=both)


def test_a_csv_of_programming_alone_neither_drifts_nor_reads_with_noise(csv_file):
    path = csv_file("program_sigma_uS,program_bias_uS,g_uS\n0.1,0,2\n0.5,0,10\n1,0,20\n")
    assert Tabulated.from_csv(path) == _device(source="device.csv")


HEADER = "g_uS,program_bias_uS,program_sigma_uS"
TIMED_HEADER = f"t_s,{HEADER}"


@pytest.mark.parametrize(
    ("text", "clock", "message"),
    [
        ("", {}, "must have a header and at least one row, has 0 lines"),
        (f"{HEADER}\n", {}, "must have a header and at least one row, has 1 lines"),
        (f"{HEADER},xyz\n1,0,1,0\n", {},
         "column 'xyz' is unknown; accepted: t_s, g_uS, program_bias_uS, program_sigma_uS, nu_mean, nu_sigma, "
         "relative, q_s"),
        (f"{HEADER},nu_mea\n1,0,1,0\n", {},
         "column 'nu_mea' is unknown; accepted: t_s, g_uS, program_bias_uS, program_sigma_uS, nu_mean, nu_sigma, "
         'relative, q_s; nearest: "nu_mean"'),
        ("g_uS,program_sigma_uS\n1,0\n", {},
         "columns g_uS, program_sigma_uS: each once, and g_uS, program_bias_uS, program_sigma_uS are required"),
        (f"{HEADER},g_uS\n1,0,1,1\n", {},
         "columns g_uS, program_bias_uS, program_sigma_uS, g_uS: each once, and g_uS, program_bias_uS, "
         "program_sigma_uS are required"),
        (f"{HEADER}\n1,0,1\n2,0\n", {}, "line 3 has 2 cells: must have 3"),
        (f"{HEADER}\n1,0,1\n2,0,x\n", {}, "line 3: program_sigma_uS = 'x': must be a finite number"),
        (f"{HEADER}\n1,0,1\n2,0,nan\n", {}, "line 3: program_sigma_uS = 'nan': must be a finite number"),
        (f"{TIMED_HEADER}\n1,1,0,1\n1,2,0,1\n9,1,0,1\n", {},
         "3 rows at 2 times: must list the same g_uS at each time"),
        (f"{TIMED_HEADER}\n1,1,0,1\n9,2,0,1\n1,2,0,1\n9,1,0,1\n", {}, "rows of one t_s must follow each other"),
        (f"{TIMED_HEADER}\n1,1,0,1\n1,2,0,1\n9,1,0,1\n9,3,0,1\n", {}, "g_uS must be the same at each time"),
    ],
)  # fmt: skip
def test_csv_files_that_do_not_fit_are_refused_with_the_place(csv_file, text, clock, message):
    path = csv_file(text)
    with pytest.raises(UsageError) as caught:
        Tabulated.from_csv(path, **clock)
    assert str(caught.value) == f"{path}: {message}"


@pytest.mark.parametrize(
    ("columns", "clock", "message"),
    [
        ("", {"t0_s": 20.0}, "t0_s = 20.0: cannot act, because {path} has no column nu_mean or q_s"),
        (",nu_mean,nu_sigma", {"t0_s": 20.0, "t_read_s": 1e-6},
         "t_read_s = 1e-06: cannot act, because {path} has no column q_s"),
        (",nu_mean,nu_sigma", {}, "device.drift.t0_s: required, but not given"),
        (",nu_mean", {"t0_s": 20.0}, "device.drift.nu_sigma: required, but not given"),
        (",q_s", {"t0_s": 20.0}, "device.read.t_read_s: required, but not given"),
    ],
)  # fmt: skip
def test_clocks_of_a_csv_are_given_where_they_act_and_only_there(csv_file, columns, clock, message):
    path = csv_file(HEADER + columns + "".join(f"\n{g},0,1" + ",0" * columns.count(",") for g in (1, 2)))
    with pytest.raises(UsageError) as caught:
        Tabulated.from_csv(path, **clock)
    assert str(caught.value) == message.format(path=path)


def test_a_missing_csv_is_a_store_error(tmp_path):
    with pytest.raises(StoreError) as caught:
        Tabulated.from_csv(tmp_path / "none.csv")
    assert str(caught.value).startswith(f"{tmp_path / 'none.csv'}: cannot be read as a table: ")
