"""Tables as laboratories write them: dialects of text, units in names, resistances, and what no device can have."""

import codecs
import contextlib
import io
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import calibration
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
    ThresholdTable,
    WriteVerifyTable,
    fit_drift,
)
from calibration.abstract_table import AbstractTable
from device_models import table_text
from device_models.errors import StoreError, UsageError
from device_models.tabulated import Tabulated

N = 4
TABLES = {
    ProgrammingTable: {"cell": [1, 2, 3, 4], "g_target_uS": [5.0, 5.0, 10.0, 10.0], "g_uS": [5.1, 4.8, 9.5, 10.2]},
    RetentionTable: {
        "cell": [1, 1, 2, 2], "t_s": [1.0, 20.0, 1.0, 20.0], "g_uS": [5.0, 4.9, 6.0, 5.8],
        "g_target_uS": [5.0, 5.0, 6.0, 6.0], "temperature_C": [25.0, 25.0, 85.0, 85.0],
    },
    IVTable: {"cell": [1, 1, 2, 2], "v_V": [0.1, 0.2, 0.1, 0.2], "i_uA": [1.0, 2.1, 1.1, 2.4]},
    ProgrammingStatistics: {
        "g_target_uS": [1.0, 2.0, 3.0, 4.0], "sigma_uS": [0.1, 0.2, 0.3, 0.4], "mean_uS": [1.1, 2.1, 3.1, 4.1],
        "n_cells": [5, 6, 7, 8],
    },
    DriftStatistics: {
        "g_uS": [1.0, 2.0, 3.0, 4.0], "nu_mean": [0.1, 0.2, 0.3, 0.4], "nu_sigma": [0.1, 0.2, 0.3, 0.4],
        "n_cells": [5, 6, 7, 8],
    },
    ThresholdTable: {"t_s": [1.0, 2.0, 3.0, 4.0], "vt_V": [1.0, 0.9, 0.8, 0.7], "state": ["a", "a", "b", "b"]},
    PulseTable: {
        "direction": ["up", "up", "down", "down"], "ramp": [1, 1, 1, 1], "pulse": [0, 1, 0, 1],
        "g_uS": [1.0, 2.0, 3.0, 2.5],
    },
    ConverterTable: {"input": [0.1, 0.2, 0.3, 0.4], "code": [0, 1, 2, 3]},
    ConverterHistogram: {"code": [0, 1, 2, 3], "count": [5, 6, 7, 8]},
    WriteVerifyTable: {
        "g_low_uS": [9.0, 9.0, 8.0, 8.0], "g_high_uS": [11.0, 12.0, 11.0, 12.0], "max_attempts": [5, 5, 5, 5],
        "accepted": [1, 0, 1, 0], "attempts": [1, 5, 2, 5], "g_after_uS": [10.0, 8.0, 10.0, 7.0],
        "cell": [1, 2, 3, 4],
    },
    ReadTrace: {"t_s": [0.0, 0.1, 0.2, 0.3], "g_uS": [5.0, 5.1, 5.0, 4.9]},
    MVMTable: {"x_0": [1.0, 2.0, 3.0, 4.0], "y_0": [1.0, 2.1, 3.0, 4.2], "y_ideal_0": [1.0, 2.0, 3.0, 4.0]},
}  # fmt: skip
LABELS = {"cell", "direction", "state", "ramp", "pulse"}
NUMBERS = [(cls, name) for cls, columns in TABLES.items() for name in columns if name not in LABELS]
CONDUCTANCES = [(cls, name) for cls, name in NUMBERS if name.startswith("g_")]
GAPS_REFUSED = {ReadTrace}
SWAPPED = {"g_low_uS": "r_high_ohm", "g_high_uS": "r_low_ohm"}


def fields(table):
    return {name: value for name, value in vars(table).items() if isinstance(value, np.ndarray)}


def assert_same(table, other, rtol=0.0):
    one, two = fields(table), fields(other)
    assert one.keys() == two.keys()
    for name, values in one.items():
        if values.dtype.kind == "f":
            np.testing.assert_allclose(values, two[name], rtol=rtol, err_msg=name)
        else:
            assert values.tolist() == two[name].tolist(), name


def written(folder, text, encoding="utf-8", name="table.csv"):
    path = Path(folder) / name
    path.write_bytes(text.encode(encoding))
    return path


def refusal(read):
    with pytest.raises(UsageError) as caught:
        read()
    text = str(caught.value)
    assert "\n" not in text
    return text


def test_every_public_table_is_in_this_list():
    public = {getattr(calibration, name) for name in calibration.__all__}
    assert {cls for cls in public if isinstance(cls, type) and issubclass(cls, AbstractTable)} == set(TABLES)


# dialects of text


def as_text(columns, *, separator=",", comma=False, end="\n", quoted=False, comments=(), trailing=False, blank=False):
    """A table in a dialect."""

    def cell(value):
        text = repr(value) if isinstance(value, float) else str(value)
        text = text.replace(".", ",") if comma else text
        return f'"{text}"' if quoted else text

    joint = separator + ("" if separator.isspace() else " ")
    rows = [joint.join(columns), *(joint.join(map(cell, row)) for row in zip(*columns.values(), strict=True))]
    if trailing:
        rows = [row + separator for row in rows]
    lines = [f"{comments[0]} measured at 25 C, by hand"] if comments else []
    for number, row in enumerate(rows):
        lines += [row] + ([f"  {comments[-1]} row {number}; below"] if comments else []) + ([""] if blank else [])
    return end.join(lines) + end


DIALECTS = st.fixed_dictionaries(
    {
        "separator": st.sampled_from([",", ";", "\t", "|", " ", "   "]),
        "comma": st.booleans(),
        "end": st.sampled_from(["\n", "\r\n", "\r"]),
        "quoted": st.booleans(),
        "comments": st.sampled_from([(), ("#",), ("%",), ("//",), ("#", "%")]),
        "trailing": st.booleans(),
        "blank": st.booleans(),
    }
)
ENCODINGS = {"utf-8": b"", "utf-8-sig": b"", "utf-16-le": codecs.BOM_UTF16_LE, "utf-16-be": codecs.BOM_UTF16_BE}


@settings(max_examples=150, deadline=None, derandomize=True)
@given(cls=st.sampled_from(list(TABLES)), dialect=DIALECTS, encoding=st.sampled_from(list(ENCODINGS)))
def test_a_table_in_any_dialect_is_the_table(tmp_path_factory, cls, dialect, encoding):
    path = tmp_path_factory.mktemp("dialect") / "table.txt"
    path.write_bytes(ENCODINGS[encoding] + as_text(TABLES[cls], **dialect).encode(encoding))
    fractions = any(isinstance(value, float) for column in TABLES[cls].values() for value in column)
    if dialect["comma"] and dialect["separator"] == "," and fractions:
        assert "line" in refusal(lambda: cls.from_file(path))
        return
    table, expected = cls.from_file(path), cls.from_frame(pd.DataFrame(TABLES[cls]))
    assert_same(table, expected)
    assert table.left_out == ()


DEVICE = {"g_uS": [2.0, 10.5], "program_bias_uS": [0.0, 0.1], "program_sigma_uS": [0.1, 0.5], "q_s": [0.02, 0.01]}


@settings(max_examples=50, deadline=None, derandomize=True)
@given(dialect=DIALECTS, encoding=st.sampled_from(list(ENCODINGS)))
def test_a_tabulated_device_reads_the_same_dialects(tmp_path_factory, dialect, encoding):
    path = tmp_path_factory.mktemp("dialect") / "device.csv"
    path.write_bytes(ENCODINGS[encoding] + as_text(DEVICE, **dialect).encode(encoding))
    if dialect["comma"] and dialect["separator"] == ",":
        assert "line" in refusal(lambda: Tabulated.from_csv(path, t0_s=1.0, t_read_s=1e-6))
        return
    device = Tabulated.from_csv(path, t0_s=1.0, t_read_s=1e-6)
    assert (device.g_uS, device.read.q_s) == ((2.0, 10.5), (0.02, 0.01))
    assert device.programming.sigma_uS == ((0.1, 0.5),)


CELLS = st.sampled_from(["1", "-2.5", "1e-3", "", " ", "x", " y ", "9.91e37"])
BODIES = st.lists(st.lists(CELLS, min_size=1, max_size=4), max_size=5)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(rows=BODIES, separator=st.sampled_from([",", ";", "\t", "|", " "]), blank=st.booleans(), last=st.booleans())
def test_the_fast_way_through_a_table_is_the_way_line_by_line(rows, separator, blank, last):
    names = ["a", "b", "c"]
    body = ("\n\n" if blank else "\n").join(separator.join(row) for row in rows) + ("\n" if last else "")
    fast = table_text._cells_at_once(body, separator, names)
    if fast is not None:
        slow, lines = table_text._cells_by_line("t", body.split("\n"), 0, separator, names)
        assert [[cell.strip() for cell in column] for column in fast] == [
            [cell.strip() for cell in column] for column in slow
        ]
        assert list(lines) == list(range(1, len(fast[0]) + 1))


def test_the_fast_way_is_taken_where_rows_are_plain():
    assert table_text._cells_at_once("1,2\n3,4\n", ",", ["a", "b"]) == [["1", "3"], ["2", "4"]]
    assert table_text._cells_at_once(" 1  2\n 3\t4 \n", " ", ["a", "b"]) == [["1", "3"], ["2", "4"]]


def test_long_tables_are_read_in_seconds(tmp_path):
    n = 200_000
    frame = pd.DataFrame({"cell": np.arange(n) // 20, "t_s": np.arange(n) % 20 + 0.5, "g_uS": np.linspace(1, 20, n)})
    for name, options in (("a.csv", {}), ("b.csv", {"sep": ";", "decimal": ","}), ("c.csv", {"sep": "\t"})):
        frame.to_csv(tmp_path / name, index=False, **options)
        start = pd.Timestamp.now()
        table = RetentionTable.from_csv(tmp_path / name)
        assert (pd.Timestamp.now() - start).total_seconds() < 10  # about 0.5 s
        assert np.array_equal(table.g_uS, frame["g_uS"])


READ = "cell,t_s,g_uS"


@pytest.mark.parametrize(
    "text",
    [
        "# cell,t_s,g_uS\n1,0.5,2.5\n2,0.5,3.5\n",  # numpy.savetxt
        "% cell t_s g_uS\n1 0.5 2.5\n2 0.5 3.5\n",
        "sep=;\ncell;t_s;g_uS\n1;0,5;2,5\n2;0,5;3,5\n",
        ",cell,t_s,g_uS\n0,1,0.5,2.5\n1,2,0.5,3.5\n",  # pandas with the numbers of the rows
        "cell;t_s;g_uS;x_0,5\n1;0,5;2,5;1,5\n2;0,5;3,5;2,5\n",
        "cell,t,g\n,s,uS\n1,0.5,2.5\n2,0.5,3.5\n",  # a line of units
        "cell,t,g\n-,(ms),[nS]\n1,500,2500\n2,500,3500\n",
        "cell,t_s,g_uS\n-,s,uS\n1,0.5,2.5\n2,0.5,3.5\n",
        "cell,t_s,g_uS,,\n1,0.5,2.5,,\n2,0.5,3.5,,\n,,,,\n",  # a spreadsheet
        "cell,t_s,g_uS\n1,0.5,2.5,\n2,0.5,3.5,\n",
        "| cell | t_s | g_uS |\n| 1 | 0.5 | 2.5 |\n| 2 | 0.5 | 3.5 |\n",
        "cell, Time (s), Conductance (uS)\n1, 5e-1, +2.5\n2, .5, 3.50\n",
        "cell  t (s)   g (uS)\n  1  0.5  2.5\n  2  0.5  3.5\n",
        "Cell;T [ms];G [nS], mean\n1;500;2500\n2;500;3500\n".replace(", mean", ""),
        "cell\tt_s\tg_uS\tnote\n1\t0.5\t2.5\ta, b; c\n2\t0.5\t3.5\tok\n",
        'cell,t_s,g_uS,note\n1,0.5,2.5,"a, b"\n2,0.5,3.5,""\n',
    ],
)
def test_headers_where_a_laboratory_puts_them(tmp_path, text):
    table = RetentionTable.from_csv(written(tmp_path, text))
    assert (table.cell.tolist(), table.t_s.tolist()) == ([1, 2], [0.5, 0.5])
    assert table.g_uS == pytest.approx([2.5, 3.5], rel=1e-12)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (f"{READ}\n0,20,15.5,0.1\n", ["line 2 has 4 cells: must have 3"]),
        (f"{READ}\n0,20,15.5\n1,20\n", ["line 3 has 2 cells: must have 3"]),
        (f"{READ}\n0,20,15,5\n", ["line 2 has 4 cells: must have 3", "decimal commas need semicolons"]),
        (f"{READ}\n0;20;15.5\n", ["line 2 has 1 cells: must have 3", "commas separate the names"]),
        (f"{READ}\n0,20,15.5\n\n# x\n0;20;15.5\n", ["line 5 has 1 cells"]),
        ("cell,t_s;g_uS\n0,20;15.5\n", ["line 1 has commas and semicolons"]),
        (f'{READ}\n0,20,"15,5"\n', ["g_uS = 15,5 in row 1 (line 2): must be a finite number"]),
        (f'{READ}\n0,20,"1,500.5"\n', ["g_uS = 1,500.5 in row 1 (line 2)"]),
        ("cell\tt_s\tg_uS\n0\t20\t1,500\n0\t30\t1,200\n", ["g_uS = 1,500 in row 1 (line 2)"]),
        ("cell;t_s;g_uS\n0;20;1.500,5\n", ["g_uS = 1.500,5 in row 1 (line 2)"]),
        ("cell;t_s;g_uS\n0;20;1,500,000\n", ["g_uS = 1,500,000 in row 1 (line 2)"]),
        ("cell;t_s;g_uS\n0;20;15,5\n1;20;15.5\n", ["g_uS = 15.5 in row 2 (line 3)"]),
        ("cell;t_s;g_uS\n0;1.234;15,5\n", ["t_s = 1.234 in row 1 (line 2)", "g_uS = 15,5", "one decimal mark"]),
        (f"{READ}\n0,20,1 500\n", ["g_uS = 1 500 in row 1 (line 2)"]),
        (f"{READ}\n0,20,1'500\n", ["g_uS = 1'500 in row 1 (line 2)"]),
        (f"{READ}\n0,20,1_500\n", ["g_uS = 1_500 in row 1 (line 2)"]),
        (f"{READ}\n0,20,0x1F\n", ["g_uS = 0x1F in row 1 (line 2)"]),
        (f"{READ}\n0,20,1.5e-6 S\n", ["g_uS = 1.5e-6 S in row 1 (line 2)"]),
        (f"{READ}\n0,20,15.5\n0,2024-01-31,15.5\n", ["t_s = 2024-01-31 in row 2 (line 3)"]),
        (f"{READ}\n0,12:30:05,15.5\n", ["t_s = 12:30:05 in row 1 (line 2)"]),
        (f"{READ}\n0,20,True\n", ["g_uS = True in row 1 (line 2)"]),
        (f"{READ}\n0,20,15.5\n{READ}\n1,20,15.5\n", ["line 3 repeats the header"]),
        (f"{READ}\nno,sec,microS\n1,20,15.5\n", ["t_s = sec in row 1 (line 2)"]),
        (f"{READ}\n-,s,nS\n1,20,15.5\n", ["g_uS [nS] has a unit that is unknown"]),
        (f"{READ}\n-,h,uS\n1,20,15.5\n", ["t_s [h] has a unit that is unknown"]),
        (f"{READ},g_uS\n0,20,15.5,1\n", ["column 'g_uS' appears more than once"]),
        ("0,20,15.5\n1,20,15.5\n", ["line 1 holds numbers: must be a header"]),
        ("# measured by hand\n\n0,20,15.5\n1,20,15.5\n", ["line 3 holds numbers: must be a header"]),
        ("cell,,t_s,g_uS\n0,1,20,15.5\n", ["line 2: '1' stands under no name"]),
        (f"{READ}\n#1,20,15.5\n", ["has no rows"]),
    ],
)  # fmt: skip
def test_what_contradicts_is_refused_with_its_place(tmp_path, text, words):
    told = refusal(lambda: RetentionTable.from_csv(written(tmp_path, text)))
    assert told.startswith(f"{tmp_path / 'table.csv'}: ")
    for word in words:
        assert word in told


@pytest.mark.parametrize(
    "data", [b"cell,t_s,g_\xb5S\n", "cell,t_s,g_uS\n1,2,3\n".encode("utf-16-le"), b'a,b\n"1,2\n', b"\xff\xfe\x00"]
)
def test_what_is_no_text_is_a_store_error(tmp_path, data):
    (tmp_path / "t.csv").write_bytes(data)
    for read in (RetentionTable.from_csv, Tabulated.from_csv):
        with pytest.raises(StoreError, match="cannot be read as a table"):
            read(tmp_path / "t.csv")


def test_true_and_false_are_one_and_zero_where_a_write_is_accepted(tmp_path):
    frame = pd.DataFrame(TABLES[WriteVerifyTable])
    path = written(tmp_path, frame.assign(accepted=frame.accepted == 1).to_csv(index=False))
    assert WriteVerifyTable.from_csv(path).accepted.tolist() == [True, False, True, False]


# units in names

SAME_UNIT = {
    "g_uS": ["g (uS)", "g [uS]", "G/uS", "g (\u00b5S)", "g (\u03bcS)", "G_µS", "Conductance (uS)", "conductance_uS",
             "g uS", "g{uS}"],
    "t_s": ["t (s)", "t [s]", "T/s", "Time (s)", "time_s", "TIME [s]", "t s"],
    "v_V": ["V (V)", "v/V", "Voltage [V]"],
    "i_uA": ["I (uA)", "i/µA", "Current [µA]"],
    "temperature_C": ["T (°C)", "Temperature [C]", "temp (℃)", "temperature_°C", "T (degC)"],
    "g_target_uS": ["g target (uS)", "G_target [µS]", "conductance target (uS)"],
    "vt_V": ["Vt (V)", "VT/V"],
}  # fmt: skip
OTHER_UNIT = {  # names, and what a value becomes in the file
    "g_uS": {
        "G (nS)": lambda g: 1e3 * g, "g [mS]": lambda g: 1e-3 * g, "g (S)": lambda g: 1e-6 * g,
        "g/NS": lambda g: 1e3 * g, "r_ohm": lambda g: 1e6 / g, "R (Ω)": lambda g: 1e6 / g,
        "R (\u2126)": lambda g: 1e6 / g, "R (kΩ)": lambda g: 1e3 / g, "R/kOhm": lambda g: 1e3 / g,
        "Resistance [KOHM]": lambda g: 1e3 / g, "r_Mohm": lambda g: 1 / g, "R (MΩ)": lambda g: 1 / g,
        "r_MOhm": lambda g: 1 / g, "R (ohms)": lambda g: 1e6 / g, "r_Gohm": lambda g: 1e-3 / g,
    },
    "t_s": {"t [h]": lambda t: t / 3600, "Time (min)": lambda t: t / 60, "t/ms": lambda t: 1e3 * t,
            "t (µs)": lambda t: 1e6 * t, "t_d": lambda t: t / 86400},
    "v_V": {"V (mV)": lambda v: 1e3 * v},
    "i_uA": {"I (A)": lambda i: 1e-6 * i, "I [nA]": lambda i: 1e3 * i},
    "temperature_C": {"T (K)": lambda c: c + 273.15, "temperature_K": lambda c: c + 273.15},
}  # fmt: skip
WITH = {name: next(cls for cls, columns in TABLES.items() if name in columns) for name in {*SAME_UNIT, *OTHER_UNIT}}
NAMES = [(own, name, lambda v: v) for own, names in SAME_UNIT.items() for name in names] + [
    (own, name, change) for own, names in OTHER_UNIT.items() for name, change in names.items()
]


@pytest.mark.parametrize(("own", "name", "change"), NAMES, ids=[f"{own}: {name}" for own, name, _ in NAMES])
def test_units_in_names_are_read(tmp_path, own, name, change):
    cls = WITH[own]
    frame = pd.DataFrame(TABLES[cls])
    other = frame.assign(**{own: change(frame[own])}).rename(columns={own: name})
    expected = cls.from_frame(frame)
    for table in (cls.from_frame(other), cls.from_csv(written(tmp_path, other.to_csv(index=False, sep=";")))):
        assert_same(table, expected, rtol=1e-12)


@pytest.mark.parametrize(
    ("own", "name"),
    [
        ("g_uS", name)
        for name in ("g (MS)", "g (us)", "g (s)", "g (kg)", "g_us", "g (V)", "G", "g_ohm", "R (mohm)", "R (uS)", "r_uS")
    ]
    + [("t_s", name) for name in ("t (S)", "t (M)", "t_uS", "t (weeks)", "time", "t (MS)")]
    + [("g_uS", "g_uS (nS)"), ("g_uS", "r_ohm (kohm)")],
)
def test_units_that_are_unclear_are_refused(own, name):
    frame = pd.DataFrame(TABLES[RetentionTable]).rename(columns={own: name})
    text = refusal(lambda: RetentionTable.from_frame(frame))
    assert name in text
    assert "unit that is unknown" in text or f"column {own} is missing" in text


@pytest.mark.parametrize(("cls", "name"), CONDUCTANCES, ids=lambda value: getattr(value, "__name__", value))
@pytest.mark.parametrize(("unit", "ohm"), [("ohm", 1.0), ("kohm", 1e3), ("Mohm", 1e6)])
def test_every_conductance_may_be_a_resistance(cls, name, unit, ohm):
    frame = pd.DataFrame(TABLES[cls])
    resistance = SWAPPED.get(name, f"r{name[1:-2]}ohm").replace("ohm", unit)
    other = frame.assign(**{name: 1e6 / frame[name] / ohm}).rename(columns={name: resistance})
    assert_same(cls.from_frame(other), cls.from_frame(frame), rtol=1e-12)


@pytest.mark.parametrize("separator", ["\t", ";"])
def test_wide_tables_traces_and_bakes_may_be_resistances(tmp_path, separator):
    wide = {"cell": [1, 2], "g_0.1s_uS": [5.0, 4.0], "g_1min_nS": [4e3, 2e3]}
    ohms = {"cell": [1, 2], "r_0.1s_kohm": [200.0, 250.0], "R_1min (MΩ)": [0.25, 0.5]}
    bake = {"cell": [1, 2], "t_h": [1.0, 2.0], "g_before_uS": [5.0, 4.0], "g_after_uS": [4.0, 2.0]}
    baked = {"cell": [1, 2], "t_h": [1.0, 2.0], "r_before_kohm": [200.0, 250.0], "R_after (kohm)": [250.0, 500.0]}
    trace = {"fs_Hz": [10.0, 10.0], "g_a_uS": [5.0, 4.0], "g_b_uS": [4.0, 2.0]}
    traced = {"fs (kHz)": [0.01, 0.01], "r_a_kohm": [200.0, 250.0], "r_b_kohm": [250.0, 500.0]}
    for cls, one, other in ((RetentionTable, wide, ohms), (RetentionTable, bake, baked), (ReadTrace, trace, traced)):
        expected = cls.from_frame(pd.DataFrame(one))
        assert_same(cls.from_frame(pd.DataFrame(other)), expected, rtol=1e-12)
        path = written(tmp_path, pd.DataFrame(other).to_csv(index=False, sep=separator, decimal=","))
        assert_same(cls.from_csv(path), expected, rtol=1e-12)


def test_arrays_may_be_in_other_units(tmp_path):
    g = np.array([[5.0, 4.0], [4.0, 2.0]])
    np.savez(tmp_path / "a.npz", r_kohm=1e3 / g, fs_kHz=0.01)
    trace = ReadTrace.from_npz(tmp_path / "a.npz")
    assert trace.g_uS == pytest.approx(g, rel=1e-12)
    assert trace.fs_Hz == pytest.approx(10.0)
    np.savez(tmp_path / "b.npz", **{"cell": [1, 1], "t_h": [1.0, 2.0], "R (kΩ)": [200.0, 250.0]})
    assert RetentionTable.from_npz(tmp_path / "b.npz").g_uS == pytest.approx([5.0, 4.0])


@pytest.mark.parametrize("unit", ["_ohm", " (kΩ)", "_kohm", " [ohm]"])
@pytest.mark.parametrize("what", ["sigma", "mean"])
def test_spreads_and_means_of_resistances_are_refused_by_name(tmp_path, what, unit):
    name = what + unit
    frame = pd.DataFrame(TABLES[ProgrammingStatistics]).rename(columns={f"{what}_uS": name})
    assert name in refusal(lambda: ProgrammingStatistics.from_frame(frame))
    device = pd.DataFrame(DEVICE).rename(columns={"program_sigma_uS": "program_sigma_kohm"})
    text = refusal(lambda: Tabulated.from_csv(written(tmp_path, device.to_csv(index=False)), t0_s=1.0, t_read_s=1e-6))
    assert "program_sigma_kohm has a unit that is unknown" in text


def test_a_tabulated_device_converts_units(tmp_path):
    text = "R (kΩ);program_bias (nS);program_sigma_nS\n500;0;100\n100;1000;500\n"
    device = Tabulated.from_csv(written(tmp_path, text))
    assert device.g_uS == (2.0, 10.0)
    assert device.programming.sigma_uS[0] == pytest.approx((0.1, 0.5))


TWICE = [
    (RetentionTable, "g_uS", "g_nS"), (RetentionTable, "g_uS", "r_ohm"), (RetentionTable, "t_s", "t_h"),
    (RetentionTable, "g_uS", "G (nS)"), (RetentionTable, "g_target_uS", "r_target_kohm"),
    (RetentionTable, "temperature_C", "T (K)"), (RetentionTable, "cell", "Cell"), (IVTable, "i_uA", "I (nA)"),
    (WriteVerifyTable, "g_low_uS", "target_r_hi_ohm"), (ThresholdTable, "vt_V", "vt_mV"),
    (ProgrammingStatistics, "mean_uS", "mean_nS"), (MVMTable, "x_0", "X_0"),
]  # fmt: skip


@pytest.mark.parametrize(("cls", "one", "other"), TWICE)
def test_two_columns_of_one_quantity_are_refused_unless_one_is_named(cls, one, other):
    frame = pd.DataFrame(TABLES[cls])
    both = frame.assign(**{other: frame[one]})
    text = refusal(lambda: cls.from_frame(both))
    assert one in text
    assert other in text
    assert_same(cls.from_frame(both, {one: one}), cls.from_frame(frame))


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"g_uS": "g_nS"}, ["columns['g_uS'] = 'g_nS'", "says nS"]),
        ({"g_uS": "R (kΩ)"}, ["says kohm"]),
        ({"t_s": "Time (h)"}, ["says h"]),
        ({"g_nS": "g_nS", "t_h": "Time (h)", "g_uS": "R (kΩ)"}, ["says kohm"]),
        ({"g_nS": "g_nS", "r_kohm": "R (kΩ)"}, ["are both g_uS"]),
        ({"g_nS": "g_nS", "g_target_nS": "g_nS"}, ["is g_target_nS as well: must be one of them"]),
        ({"g_nS": "g_nS", "g_target_uS": "g (%)"}, ["says %"]),
        ({"g_nS": "g_nS", "cel": "cell"}, ["columns['cel'] = 'cell': cannot act", 'nearest: "cell"']),
    ],
)
def test_a_unit_in_a_name_against_a_unit_given_is_refused(columns, words):
    frame = pd.DataFrame({"cell": [1, 2], "Time (h)": [1.0, 1.0], "g_nS": [5e3, 6e3], "R (kΩ)": [200.0, 160.0]})
    frame = frame.assign(**{"g (%)": 1.0})
    frame = frame.assign(id=frame["cell"]) if "cel" in columns else frame
    columns = {**columns, "cell": "id"} if "cel" in columns else columns
    text = refusal(lambda: RetentionTable.from_frame(frame, columns))
    for word in words:
        assert word in text


def test_a_named_column_is_taken_in_its_unit():
    frame = pd.DataFrame({"n": [1, 2], "Time (h)": [1.0, 1.0], "a": [5e3, 6e3], "R (kΩ)": [200.0, 160.0]})
    for columns in ({"cell": "n", "g_nS": "a"}, {"cell": "n", "r_kohm": "R (kΩ)"}):
        assert RetentionTable.from_frame(frame, columns).t_s.tolist() == [3600.0, 3600.0]
    assert RetentionTable.from_frame(frame, {"cell": "n", "g_nS": "a"}).g_uS == pytest.approx([5.0, 6.0])
    text = refusal(lambda: RetentionTable.from_frame(frame, {"cell": "n", "t_h": "n"}))
    assert "is cell as well" in text or "is t_h as well" in text


# what no device can have

OVERFLOWS = [9.91e37, 9.9e37, -9.9e37, 1e38, 3.4e38, 1e300, np.inf, -np.inf]
WORDS = ["OVFL", "OVLD", "+OVLD", "-ovrflw", "Overflow", "OL", "inf", "-Infinity", "9.91E+37", "1e400"]


@pytest.mark.parametrize(("cls", "name"), NUMBERS, ids=lambda value: getattr(value, "__name__", value))
def test_overflows_of_instruments_are_refused_or_counted_in_every_column(tmp_path, cls, name):
    frame = pd.DataFrame(TABLES[cls]).astype({name: object})
    without = None
    for value in (*OVERFLOWS, *WORDS):
        broken = frame.copy()
        broken.loc[2, name] = value
        path = written(tmp_path, broken.to_csv(index=False, sep=";"))
        for read, place in (
            (partial(cls.from_frame, broken), "row 3"),
            (partial(cls.from_csv, path), "row 3 (line 4)"),
        ):
            text = refusal(read)
            assert f"{name} = " in text
            assert f" in {place}: " in text
            if cls in GAPS_REFUSED:
                assert "row 3" in refusal(lambda read=read: read(overflow="leave_out"))
                continue
            table = read(overflow="leave_out")
            if cls is not MVMTable:
                assert dict(table.left_out) == {f"overflow {name}": 1}
            without = without or cls.from_frame(frame.drop(index=2))
            assert_same(table, without)


@pytest.mark.parametrize("name", list(DEVICE))
def test_overflows_and_gaps_are_refused_in_every_column_of_a_tabulated_device(tmp_path, name):
    for value in (*OVERFLOWS, *WORDS, "", "nan", "six", "1_0", "1.5.2"):
        broken = pd.DataFrame(DEVICE).astype({name: object})
        broken.loc[1, name] = value
        path = written(tmp_path, broken.to_csv(index=False))
        text = refusal(lambda path=path: Tabulated.from_csv(path, t0_s=1.0, t_read_s=1e-6))
        assert f"{path}: line 3: {name} = " in text


@pytest.mark.parametrize(("cls", "name"), NUMBERS, ids=lambda value: getattr(value, "__name__", value))
@pytest.mark.parametrize("value", ["six", "1,5", "1_000", "0x1F", "2024-01-31", "5 uS"])
def test_cells_that_are_no_numbers_are_refused_in_every_column(cls, name, value):
    broken = pd.DataFrame(TABLES[cls]).astype({name: object})
    broken.loc[1, name] = value
    assert f"{name} = {value} in row 2: must be a finite number" in refusal(lambda: cls.from_frame(broken))


IMPOSSIBLE = {"uS": [1.1e6, 1e9], "s": [1.1e11, -1.0], "V": [2e4, -2e4], "uA": [2e6, -2e6], "C": [-273.2, 2e4]}
IMPOSSIBLE = [
    (cls, name, value)
    for cls, name in NUMBERS
    for value in IMPOSSIBLE.get(name.rpartition("_")[2], [])
    if (cls, value) != (ReadTrace, -1.0)  # a trace may begin at any time
]


@pytest.mark.parametrize(("cls", "name", "value"), IMPOSSIBLE, ids=str)
def test_values_beyond_any_device_are_refused(cls, name, value):
    broken = pd.DataFrame(TABLES[cls]).astype({name: float})
    broken.loc[3, name] = value
    text = refusal(lambda: cls.from_frame(broken))
    assert f"{name} = {value}" in text
    assert " in row 4: " in text
    assert "must be at" in text


@pytest.mark.parametrize(("cls", "name"), CONDUCTANCES, ids=lambda value: getattr(value, "__name__", value))
@pytest.mark.parametrize("ohm", [0.0, -5e3, 0.5, 9.91e37])
def test_resistances_of_no_device_are_refused(cls, name, ohm):
    frame, resistance = pd.DataFrame(TABLES[cls]), SWAPPED.get(name, f"r{name[1:-2]}ohm")
    broken = frame.assign(**{name: 1e6 / frame[name]}).rename(columns={name: resistance})
    broken.loc[1, resistance] = ohm
    text = refusal(lambda: cls.from_frame(broken))
    assert f"{resistance} = " in text
    assert " in row 2: " in text


def test_negative_resistances_are_left_out_where_that_is_asked_for():
    frame = pd.DataFrame({"cell": [1, 2, 3], "t_s": [1, 1, 1], "r_ohm": [-5e3, 1e5, 9.91e37]})
    table = RetentionTable.from_frame(frame, negative="leave_out", overflow="leave_out")
    assert table.g_uS.tolist() == [10.0]
    assert dict(table.left_out) == {"negative r_ohm": 1, "overflow r_ohm": 1}
    wide = pd.DataFrame({"cell": [1, 2], "g_1s_uS": [-1.0, 2.0], "r_2s_ohm": [9.91e37, 1e6], "g_3s_uS": [np.nan, 3.0]})
    table = RetentionTable.from_frame(wide, negative="leave_out", overflow="leave_out")
    assert table.g_uS.tolist() == [2.0, 1.0, 3.0]
    assert dict(table.left_out) == {"negative g_uS": 1, "overflow g_uS": 1, "no g_uS": 1}
    for name, value in (("g_1s_uS", -1.0), ("r_2s_ohm", 9.91e37)):
        good = {"g_1s_uS": 1.0, "r_2s_ohm": 1e6, "g_3s_uS": 3.0, name: value}
        text = refusal(lambda good=good: RetentionTable.from_frame(pd.DataFrame({"cell": [7, 8], **good})))
        assert f"{name} = {value} in row 1" in text


def test_wide_columns_that_are_one_read_twice_are_refused():
    frame = pd.DataFrame({"cell": [1], "g_1s_uS": [1.0], "r_1000ms_ohm": [1e6]})
    assert "g_1s_uS and r_1000ms_ohm are both g_uS" in refusal(lambda: RetentionTable.from_frame(frame))
    frame = pd.DataFrame({"cell": [1], "g_1e12s_uS": [1.0]})
    assert "g_1e12s_uS" in refusal(lambda: RetentionTable.from_frame(frame))


@pytest.mark.parametrize("values", [pd.date_range("2024-01-01", periods=4), pd.to_timedelta(range(4), "h"), [1j] * 4])
def test_dates_and_complex_numbers_are_no_measurements(values):
    frame = pd.DataFrame(TABLES[RetentionTable]).assign(t_s=values)
    assert "t_s = " in refusal(lambda: RetentionTable.from_frame(frame))


@pytest.mark.parametrize("dtype", ["Float64", "string", "category", "float32"])
def test_types_of_pandas_are_numbers_like_others(dtype):
    frame = pd.DataFrame({"cell": [1, 2, 3], "t_s": [1, 1, 1], "g_uS": ["5.5", "6.5", None]})
    values = frame["g_uS"] if dtype in ("string", "category") else frame["g_uS"].astype(float)
    table = RetentionTable.from_frame(frame.assign(g_uS=values.astype(dtype)))
    assert table.g_uS.tolist() == [5.5, 6.5]
    assert dict(table.left_out) == {"no g_uS": 1}


def test_labels_stay_what_they_are(tmp_path):
    for labels, expected in (
        (["7", "007"], ["7", "007"]),
        (["1.1", "1.10"], ["1.1", "1.10"]),
        (["01", "1"], ["01", "1"]),
        (["1e1", "10"], ["1e1", "10"]),
        (["12345678901234567890", "7"], ["12345678901234567890", "7"]),
        (["9007199254740993", "9007199254740992"], [9007199254740993, 9007199254740992]),
        (["1_0", "10"], ["1_0", "10"]),
        (["1.0", "2.0"], [1, 2]),
        (["a b", "#2"], ["a b", "#2"]),
    ):
        text = "t_s,g_uS,cell\n" + "".join(f"1,5,{label}\n" for label in labels)
        assert sorted(RetentionTable.from_csv(written(tmp_path, text)).cell.tolist()) == sorted(expected)
    mixed = pd.DataFrame({"cell": [1, "1"], "t_s": 1.0, "g_uS": 5.0})
    assert "cell = 1 in row 2: must be of one type" in refusal(lambda: RetentionTable.from_frame(mixed))
    for value in (0.5, 9.91e37, 1e17):
        frame = pd.DataFrame(TABLES[PulseTable]).astype({"pulse": float})
        frame.loc[2, "pulse"] = value
        assert f"pulse = {value}: must be whole numbers, in row 3" in refusal(
            lambda frame=frame: PulseTable.from_frame(frame)
        )


@pytest.mark.parametrize("name", ["T (F)", "temperature [F]", "Temperature (degF)", "g_target (kg)", "G target [a.u.]"])
def test_a_unit_that_is_unknown_is_not_passed_over_in_an_optional_column(name):
    columns = {"cell": [1], "t_s": [1.0], "g_uS": [5.0]}
    assert f"{name} has a unit that is unknown" in refusal(
        lambda: RetentionTable.from_frame(pd.DataFrame({**columns, name: [1.0]}))
    )


@pytest.mark.parametrize("choice", ["skip", None, True])
def test_a_mistyped_choice_is_refused(choice):
    frame = pd.DataFrame(TABLES[RetentionTable])
    for name in ("negative", "overflow"):
        assert f"{name} = {choice!r}: must be one of refuse, leave_out" in refusal(
            lambda name=name: RetentionTable.from_frame(frame, **{name: choice})
        )


def test_one_overflow_does_not_move_a_drift_exponent():
    rng = np.random.default_rng(0)
    t = np.geomspace(1.0, 1e5, 6)
    g = 10 * (1 + t / 20) ** -0.05 * np.exp(0.005 * rng.standard_normal((20, 6)))
    frame = pd.DataFrame({"cell": np.repeat(np.arange(20), 6), "t_s": np.tile(t, 20), "g_uS": g.ravel()})
    frame.loc[57, "g_uS"] = 9.91e37
    assert "g_uS = 9.91e+37 in row 58" in refusal(lambda: RetentionTable.from_frame(frame))
    table = RetentionTable.from_frame(frame, overflow="leave_out")
    fit = fit_drift(table, model="constant", t0_s=20.0)
    assert fit.value("nu_mean") == pytest.approx(0.05, abs=0.002)
    assert "left out: 1 (overflow g_uS)" in fit.summary()


def test_products_in_arrays_have_the_same_checks(tmp_path):
    x, y = np.ones((3, 2)), np.ones((3, 1))
    y[1] = 9.91e37
    np.savez(tmp_path / "p.npz", x=x, y=y)
    assert "y[1, 0] = 9.91e+37" in refusal(lambda: MVMTable.from_npz(tmp_path / "p.npz"))
    assert len(MVMTable.from_npz(tmp_path / "p.npz", overflow="leave_out").x) == 2
    for columns, words in (
        ({"y": "z"}, "'z': no such array"),
        ({"z": "y"}, "cannot act"),
        ({"x": "y", "y": "y"}, "as well"),
    ):
        assert words in refusal(lambda columns=columns: MVMTable.from_npz(tmp_path / "p.npz", columns))


def test_frames_and_texts_are_one_table():
    for cls, columns in TABLES.items():
        frame = pd.read_csv(io.StringIO(pd.DataFrame(columns).to_csv(index=False)))
        assert_same(cls.from_frame(frame), cls.from_frame(pd.DataFrame(columns)))


@pytest.mark.parametrize(
    ("arrays", "says"),
    [
        ({"r_ohm": [[1e5, 9.91e37]]}, "overflow"),
        ({"r_ohm": [[1e5, 0.0]]}, "above 0 ohm"),
        ({"r_ohm": [[1e5, -1e5]]}, "above 0 ohm"),
        ({"g_uS": [[1.0, np.nan]]}, "must be finite"),
        ({"g_S": [[1.0, 2e3]]}, "no device"),
        ({"g_uS": [[1.0, -2.0]]}, "at least 0"),
        ({"g_uS": [[1.0, 2.0 + 1j]]}, "real"),
        ({"g_uS": [[True, False]]}, "bool"),
        ({"g_uS": np.ones((2, 2, 2))}, "shape"),
        ({"g_uS": [[1.0, 2.0, 3.0]], "t_s": [0.0, 1.0, 2.0]}, "must be the same"),
        ({"g_a_uS": [1.0, 2.0, 3.0], "t_s": [0.0, 1.0, 2.0]}, "must be the same"),
        ({"g_a_uS": [1.0, 2.0], "g_a_nS": [1.0, 2.0]}, "both trace a"),
        ({"g_a_uS": [1.0, 2.0], "r_a_ohm": [1.0, 2.0]}, "both trace a"),
        ({"g_a_uS": [1.0, 2.0], "g_sigma_uS": [1.0, 2.0]}, "no trace"),
        ({"g_a_uS": [True, False]}, "must be a number"),
    ],
)
def test_arrays_of_traces_are_checked_as_columns_are(arrays, says, tmp_path):
    np.savez(tmp_path / "x.npz", fs_Hz=100.0, **arrays)
    assert says in refusal(lambda: ReadTrace.from_npz(tmp_path / "x.npz"))


def test_complex_products_are_refused(tmp_path):
    np.savez(tmp_path / "x.npz", x=np.ones((2, 2)), y=np.ones((2, 2)) * 1j)
    assert "complex" in refusal(lambda: MVMTable.from_npz(tmp_path / "x.npz"))


@pytest.mark.parametrize("value", ["1e20", "-1e19", "9223372036854775808", "1e300"])
@pytest.mark.parametrize(
    ("table", "name"),
    [(ConverterTable, "code"), (ConverterHistogram, "code"), (ConverterHistogram, "count"), (PulseTable, "pulse"),
     (PulseTable, "ramp"), (WriteVerifyTable, "attempts"), (WriteVerifyTable, "max_attempts")],
)  # fmt: skip
def test_whole_numbers_beyond_those_of_the_machine_are_refused(table, name, value, tmp_path):
    frame = pd.DataFrame(TABLES[table]).astype({name: object}) if name in TABLES[table] else None
    if frame is None:
        pytest.skip("the example has no such column")
    frame.loc[1, name] = value
    refusal(lambda: table.from_csv(written(tmp_path, frame.to_csv(index=False))))
    refusal(lambda: table.from_frame(frame))


@pytest.mark.parametrize("table", [ReadTrace, MVMTable, RetentionTable])
def test_every_damaged_npz_is_a_damaged_file(table, tmp_path):
    path, damaged = tmp_path / "x.npz", tmp_path / "damaged.npz"
    np.savez_compressed(path, g_a_uS=np.linspace(1, 2, 50), fs_Hz=1.0, x=np.ones((3, 3)), y=np.ones((3, 3)))
    data = path.read_bytes()
    for at in range(0, len(data), 29):
        for bad in (data[:at], data[:at] + bytes([data[at] ^ 0x5A]) + data[at + 1 :]):
            damaged.write_bytes(bad)
            with contextlib.suppress(StoreError, UsageError):
                table.from_npz(damaged)


@pytest.mark.parametrize("unit", ["mohm", "k", "foo", "kO"])
@pytest.mark.parametrize("name", ["R", "r", "Resistance"])
def test_an_unknown_unit_of_a_resistance_is_named(name, unit):
    frame = pd.DataFrame({"cell": [1], "t_s": [1.0], f"{name} ({unit})": [5.0]})
    text = refusal(lambda: RetentionTable.from_frame(frame))
    assert f"{name} ({unit}) has a unit that is unknown; accepted: ohm, kohm" in text


def test_two_units_in_a_name_contradict():
    frame = pd.DataFrame({"cell": [1], "t_s": [1.0], "g_uS (nS)": [5.0]})
    assert "contradicts" in refusal(lambda: RetentionTable.from_frame(frame))


@pytest.mark.parametrize("columns", [["g_uS"], "g_uS", {"g_uS": 0}, {0: "g_uS"}, 5, ()])
@pytest.mark.parametrize("table", [RetentionTable, ReadTrace, MVMTable])
def test_columns_are_names_by_names(table, columns, tmp_path):
    np.savez(tmp_path / "x.npz", g_uS=[1.0, 2.0], fs_Hz=[1.0, 1.0])
    for read in (table.from_npz, table.from_file):
        assert "columns = " in refusal(lambda read=read: read(tmp_path / "x.npz", columns))


@pytest.mark.parametrize("path", [None, 5, ["x.csv"]])
@pytest.mark.parametrize("name", ["from_file", "from_csv", "from_npz", "from_parquet"])
def test_what_is_no_path_is_refused(name, path):
    for table in (*TABLES, ReadTrace, MVMTable):
        assert f"path = {path!r}: must be" in refusal(lambda table=table: getattr(table, name)(path))
    assert f"path = {path!r}: must be" in refusal(lambda: Tabulated.from_csv(path))
    assert f"path = {path!r}: must be" in refusal(lambda: calibration.DriftFit.from_yaml(path))


@pytest.mark.parametrize("name", ["cell", "t_s", "g_uS"])
@pytest.mark.parametrize("value", [(1, 2), [1, 2], {"a": 1}, {1}])
def test_a_cell_that_holds_many_values_is_refused(name, value):
    frame = pd.DataFrame({"cell": [1, 2], "t_s": [1.0, 1.0], "g_uS": [5.0, 6.0]}).astype(object)
    frame.at[1, name] = value
    assert f"{name} = " in refusal(lambda: RetentionTable.from_frame(frame))


@pytest.mark.parametrize("frame", ["text", 5, {"cell": [1, 2], "g_uS": [1.0]}, object()])
def test_what_is_no_frame_is_refused(frame):
    refusal(lambda: RetentionTable.from_frame(frame))


def test_categories_of_numbers_may_have_gaps():
    frame = pd.DataFrame({"cell": [1, 2], "t_s": 1.0, "g_uS": pd.Categorical([5, None])})
    assert RetentionTable.from_frame(frame).g_uS.tolist() == [5.0]
