"""Tables of measurements: forms, units, what is refused and what is left out with its count."""

import hashlib
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from calibration import (
    ConverterHistogram,
    ConverterTable,
    DriftStatistics,
    IVTable,
    MVMTable,
    ProgrammingStatistics,
    ProgrammingTable,
    PulseTable,
    ReadTrace,
    RetentionTable,
)
from device_models.errors import StoreError, UsageError

DEVICES = Path(__file__).parents[2] / ".." / "shared" / "data" / "devices"


def written(tmp_path, text, name="table.csv"):
    path = tmp_path / name
    path.write_text(text)
    return path


def test_a_csv_file_keeps_its_name_and_hash_and_counts_gaps(tmp_path):
    text = "cell,g_target_uS,g_uS\n1,5,5.1\n2,5,\n3,10,9.8\n4,,9.8\n"
    table = ProgrammingTable.from_csv(written(tmp_path, text))
    assert table.g_uS.tolist() == [5.1, 9.8]
    assert table.cell.tolist() == [1, 3]
    assert dict(table.left_out) == {"no g_uS": 1, "no g_target_uS": 1}
    assert table.source[0].name == "table.csv"
    assert table.source[0].sha256 == hashlib.sha256(text.encode()).hexdigest()


@pytest.mark.parametrize(
    ("header", "row", "expected"),
    [
        ("g_target_nS,g_S", "5000,5.1e-6", (5.0, 5.1)),
        ("g_target_mS,g_nS", "0.005,5100", (5.0, 5.1)),
        ("g_target_uS,g_uS", "5,5.1", (5.0, 5.1)),
    ],
)
def test_other_units_of_conductance_are_converted(tmp_path, header, row, expected):
    table = ProgrammingTable.from_csv(written(tmp_path, f"{header}\n{row}\n"))
    assert (table.g_target_uS[0], table.g_uS[0]) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(("unit", "seconds"), [("ms", 1e-3), ("min", 60.0), ("h", 3600.0), ("d", 86400.0)])
def test_other_units_of_time_are_converted_in_long_and_wide_form(unit, seconds):
    long = RetentionTable.from_frame(pd.DataFrame({"cell": [0, 0], f"t_{unit}": [1.0, 2.0], "g_uS": [3.0, 4.0]}))
    wide = RetentionTable.from_frame(pd.DataFrame({"cell": [0], f"g_1{unit}_uS": [3.0], f"g_2{unit}_nS": [4000.0]}))
    for table in (long, wide):
        assert table.t_s == pytest.approx([seconds, 2 * seconds])
        assert table.g_uS == pytest.approx([3.0, 4.0])


def test_wide_and_long_forms_of_retention_are_the_same_table():
    wide = pd.DataFrame(
        {"cell": ["b", "a"], "g_0s_uS": [1.0, 2.0], "g_1e2s_uS": [1.5, np.nan], "g_target_uS": [1.0, 2.0]}
    )
    long = pd.DataFrame(
        {"cell": ["b", "a", "b"], "t_s": [100.0, 0.0, 0.0], "g_uS": [1.5, 2.0, 1.0], "g_target_uS": [1.0, 2.0, 1.0]}
    )
    one, other = RetentionTable.from_frame(wide), RetentionTable.from_frame(long)
    for name in ("cell", "t_s", "g_uS", "g_target_uS"):
        assert getattr(one, name).tolist() == getattr(other, name).tolist()
    assert (one.left_out, other.left_out) == ((("no g_uS", 1),), ())
    cells, times, g = one.matrix()
    assert (cells.tolist(), times.tolist()) == (["a", "b"], [0.0, 100.0])
    assert np.array_equal(g, [[2.0, np.nan], [1.0, 1.5]], equal_nan=True)


def test_reads_before_and_after_a_bake_become_two_times():
    frame = pd.DataFrame({"cell": [1], "bake_C": [140], "dt_s": [7165], "g_before_uS": [10.0], "g_after_uS": [9.0]})
    table = RetentionTable.from_frame(frame, {"temperature_C": "bake_C"})
    assert table.t_s.tolist() == [0.0, 7165.0]
    assert table.g_uS.tolist() == [10.0, 9.0]
    assert table.temperature_C.tolist() == [140.0, 140.0]


def test_one_cell_at_several_temperatures_is_no_matrix():
    frame = pd.DataFrame({"cell": [1, 1], "t_s": [1, 1], "g_uS": [2.0, 3.0], "temperature_C": [25, 85]})
    with pytest.raises(UsageError, match="several temperatures"):
        RetentionTable.from_frame(frame).matrix()


def test_current_over_voltage_in_wide_form():
    frame = pd.DataFrame({"cell": [4, 2], "i_-0.1V_uA": [-1.0, -2.0], "i_100mV_nA": [1000.0, np.nan]})
    cells, v, i = IVTable.from_frame(frame).matrix()
    assert (cells.tolist(), v.tolist()) == ([2, 4], [-0.1, 0.1])
    assert np.array_equal(i, [[-2.0, np.nan], [-1.0, 1.0]], equal_nan=True)


BASE = {"cell": [1, 2], "t_s": [1.0, 1.0], "g_uS": [5.0, 6.0]}


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"g_uS": [5.0, -0.5]}, "g_uS = -0.5 in row 2: must be at least 0"),
        ({"g_uS": [5.0, np.inf]}, "g_uS = inf in row 2: must be a finite number (1 of 2 rows)"),
        ({"g_uS": [5.0, "six"]}, "g_uS = six in row 2: must be a finite number"),
        ({"t_s": [1.0, -2.0]}, "t_s = -2.0 in row 2: must be at least 0"),
        ({"cell": [1, 1]}, "cell = 1, t_s = 1.0 appears more than once (1 rows too many)"),
        ({"cell": [1, None]}, "cell = nan in row 2: must be given in every row"),
        ({"g_uS": [np.nan, np.nan]}, "no row is left of 2: 2 with no g_uS"),
        ({"g_uS": None, "g_us": [5.0, 6.0]}, "column g_uS is missing"),
        ({"g_uS": None, "g_ohm": [5.0, 6.0]}, "g_ohm has a unit that is unknown; accepted: S, mS, uS, nS, pS"),
        ({"t_s": None, "t_weeks": [5.0, 6.0]}, "t_weeks has a unit that is unknown"),
        ({"t_s": None}, "column t_s is missing; has cell, g_uS"),
        ({"g_1s_uS": [1.0, 2.0]}, "must be one form"),
    ],
)
def test_what_is_wrong_is_told_with_column_row_and_value(change, text):
    data = {name: column for name, column in {**BASE, **change}.items() if column is not None}
    with pytest.raises(UsageError) as caught:
        RetentionTable.from_frame(pd.DataFrame(data))
    assert text in str(caught.value)
    assert "\n" not in str(caught.value)


def test_negative_conductances_are_left_out_where_that_is_asked_for():
    frame = pd.DataFrame({"cell": [1, 2, 3], "t_s": [1, 1, 1], "g_uS": [-0.1, 2.0, np.nan]})
    table = RetentionTable.from_frame(frame, negative="leave_out")
    assert table.g_uS.tolist() == [2.0]
    assert dict(table.left_out) == {"negative g_uS": 1, "no g_uS": 1}


def test_a_renamed_column_that_is_absent_is_told_the_nearest():
    with pytest.raises(
        UsageError, match=r"columns\['g_uS'\] = 'G1': no such column; has cell, t_s, g1; nearest: \"g1\""
    ):
        RetentionTable.from_frame(pd.DataFrame({"cell": [1], "t_s": [1], "g1": [1]}), {"g_uS": "G1"})


def test_programming_needs_a_cycle_where_a_cell_meets_a_target_twice():
    data = {"cell": [1, 1], "g_target_uS": [5.0, 5.0], "g_uS": [5.1, 4.9]}
    with pytest.raises(UsageError, match=r"cell = 1, g_target_uS = 5\.0 appears more than once"):
        ProgrammingTable.from_frame(pd.DataFrame(data))
    assert len(ProgrammingTable.from_frame(pd.DataFrame({**data, "cycle": [0, 1]})).g_uS) == 2


def test_statistics_have_tables_of_their_own():
    frame = pd.DataFrame({"g_target_uS": [1.0, 2.0], "sigma_uS": [0.1, 0.2], "n_cells": [100, 200]})
    assert ProgrammingStatistics.from_frame(frame).n_cells.tolist() == [100.0, 200.0]
    with pytest.raises(UsageError, match="is a ProgrammingStatistics"):
        ProgrammingTable.from_frame(frame)
    with pytest.raises(UsageError, match="n_cells = 1 in row 1: must be at least 2"):
        ProgrammingStatistics.from_frame(frame.assign(n_cells=[1, 5]))
    drift = DriftStatistics.from_frame(pd.DataFrame({"g_uS": [1.0], "nu_mean": [0.05], "nu_sigma": [0.01]}))
    assert drift.nu_mean.tolist() == [0.05]


def test_a_trace_from_npz_and_from_csv_is_the_same(tmp_path):
    g = np.array([[5.0, 5.1, 5.0], [9.0, 9.2, 9.1]])
    np.savez(tmp_path / "one.npz", fs_Hz=10.0, g_level0_uS=g[0], g_level1_uS=g[1])
    np.savez(tmp_path / "all.npz", fs_Hz=10.0, g_uS=g, level=["level0", "level1"])
    rows = "\n".join(f"{k / 10},{a},{b}" for k, (a, b) in enumerate(g.T))
    csv = written(tmp_path, f"t_s,g_level0_uS,g_level1_uS\n{rows}\n")
    tables = [
        ReadTrace.from_npz(tmp_path / "one.npz"),
        ReadTrace.from_npz(tmp_path / "all.npz"),
        ReadTrace.from_csv(csv),
    ]
    for table in tables:
        assert np.array_equal(table.g_uS, g)
        assert table.fs_Hz == pytest.approx(10.0)
        assert table.level.tolist() == ["level0", "level1"]


@pytest.mark.parametrize(
    ("arrays", "text"),
    [
        ({"g_uS": [[1.0, np.nan, 2.0]], "fs_Hz": 10.0}, "g_uS[0, 1] = nan: must be finite and at least 0 uS (1 of 3"),
        ({"g_uS": [[1.0, 2.0, 2.0]]}, "array fs_Hz with one value is missing"),
        ({"g_uS": [[1.0, 2.0, 2.0]], "fs_Hz": 0.0}, "fs_Hz = 0: must be a finite number above 0 Hz"),
        ({"g_a_uS": [1.0, 2.0], "g_b_uS": [1.0], "fs_Hz": 1.0}, "must be traces of one length"),
        ({"g_a_uS": [1.0, 2.0]}, "column t_s is missing"),
        ({"g_uS": np.array([["a", "b"]]), "fs_Hz": 1.0}, "must be an array of numbers"),
    ],
)
def test_a_trace_with_a_gap_or_without_a_rate_is_refused(tmp_path, arrays, text):
    np.savez(tmp_path / "trace.npz", **arrays)
    with pytest.raises(UsageError) as caught:
        ReadTrace.from_npz(tmp_path / "trace.npz")
    assert text in str(caught.value)


def test_uneven_samples_are_no_trace():
    with pytest.raises(UsageError, match="must ascend in even steps, or give fs_Hz"):
        ReadTrace.from_frame(pd.DataFrame({"t_s": [0.0, 1.0, 3.0], "g_uS": [1.0, 1.0, 1.0]}))


def test_pulses_are_sorted_and_know_the_words_for_up_and_down():
    frame = pd.DataFrame(
        {"direction": ["RESET", "set", "set"], "ramp": [1, 1, 1], "pulse": [0, 1, 0], "g_uS": [3.0, 2.0, 1.0]}
    )
    table = PulseTable.from_frame(frame)
    assert table.direction.tolist() == ["up", "up", "down"]
    assert table.g_uS.tolist() == [1.0, 2.0, 3.0]
    with pytest.raises(UsageError, match="direction = 'sideways': must be one of up, increasing"):
        PulseTable.from_frame(frame.assign(direction="sideways"))
    with pytest.raises(UsageError, match=r"ramp = 0\.5: must be whole numbers"):
        PulseTable.from_frame(frame.assign(ramp=0.5))


def test_converter_codes_are_whole_numbers():
    assert ConverterTable.from_frame(pd.DataFrame({"input": [0.1, 0.2], "code": [0, 1]})).code.tolist() == [0, 1]
    with pytest.raises(UsageError, match=r"code = 0\.5: must be a whole number"):
        ConverterTable.from_frame(pd.DataFrame({"input": [0.1], "code": [0.5]}))
    histogram = ConverterHistogram.from_frame(pd.DataFrame({"code": [1, 0], "count": [5, 6]}))
    assert histogram.count.tolist() == [6, 5]
    with pytest.raises(UsageError, match=r"code = 1.0 appears more than once"):
        ConverterHistogram.from_frame(pd.DataFrame({"code": [1, 1], "count": [5, 6]}))


def test_products_as_arrays_and_as_columns(tmp_path):
    x, y = np.arange(6.0).reshape(3, 2), np.arange(3.0)[:, None]
    np.savez(tmp_path / "mvm.npz", x=x, y=y)
    columns = pd.DataFrame({"x_1": x[:, 1], "x_0": x[:, 0], "y_0": y[:, 0]})
    for table in (MVMTable.from_npz(tmp_path / "mvm.npz"), MVMTable.from_frame(columns)):
        assert np.array_equal(table.x, x)
        assert np.array_equal(table.y, y)
        assert table.y_ideal is None
    gap = np.array([[0.0], [np.nan], [1.0]])
    assert MVMTable.of(x, gap).left_out == (("vector with a gap", 1),)
    with pytest.raises(UsageError, match="must be x \\(n, rows\\), y and y_ideal \\(n, columns\\)"):
        MVMTable.of(x, y[:2])
    with pytest.raises(UsageError, match="y has 1 infinite values"):
        MVMTable.of(x, [[1.0], [2.0], [np.inf]])
    with pytest.raises(UsageError, match="must number from 0 without a gap"):
        MVMTable.from_frame(columns.rename(columns={"x_1": "x_7"}))


def test_pickled_objects_and_damaged_files_are_refused(tmp_path):
    np.savez(tmp_path / "objects.npz", g_uS=np.array([{"a": 1}], dtype=object), fs_Hz=1.0)
    with pytest.raises(StoreError, match="cannot be read as npz"):
        ReadTrace.from_npz(tmp_path / "objects.npz")
    for name, table in (("broken.npz", ReadTrace), ("empty.csv", ProgrammingTable)):
        (tmp_path / name).write_bytes(b"")
        with pytest.raises(StoreError, match="cannot be read"):
            table.from_file(tmp_path / name)
    with pytest.raises(StoreError, match="No such file"):
        ProgrammingTable.from_csv(tmp_path / "absent.csv")
    with pytest.raises(UsageError, match=r"must end with one of .csv, .parquet, .npz"):
        ProgrammingTable.from_file("table.xlsx")
    with pytest.raises(UsageError, match="has no rows"):
        ProgrammingTable.from_csv(written(tmp_path, "g_target_uS,g_uS\n"))


def test_parquet_gives_the_table_or_says_what_it_needs(tmp_path):
    frame = pd.DataFrame({"g_target_uS": [1.0, 2.0], "g_uS": [1.1, 2.1]})
    path = tmp_path / "table.parquet"
    try:
        frame.to_parquet(path)
    except ImportError:
        path.write_bytes(b"PAR1")
        with pytest.raises(UsageError, match="needs pyarrow"):
            ProgrammingTable.from_parquet(path)
    else:
        assert ProgrammingTable.from_parquet(path).g_uS.tolist() == [1.1, 2.1]


def test_the_shared_measurements_are_tables():
    if not DEVICES.exists():
        pytest.skip("the shared measurements are not here")
    relaxation = RetentionTable.from_csv(DEVICES / "rram_levy_relaxation" / "rram_techB_relaxation_roomtemp.csv")
    assert relaxation.matrix()[2].shape == (12719, 7)
    assert len(relaxation.g_uS) + sum(count for _, count in relaxation.left_out) == 12719 * 7
    trace = ReadTrace.from_npz(DEVICES / "rram_levy_relaxation" / "rram_techA_read_trace_400Hz.npz")
    assert (trace.g_uS.shape, trace.fs_Hz) == ((4, 100_000), 400.0)
    assert IVTable.from_csv(DEVICES / "rram_ni_iv_sweep" / "rram_iv_sweep_1024cells.csv").matrix()[2].shape == (
        1024,
        36,
    )
    pulses = PulseTable.from_csv(DEVICES / "reram_sandia_pulse_ramps" / "reram_pulse_ramps.csv")
    assert (len(pulses.g_uS), set(pulses.direction)) == (10_200, {"up", "down"})
