"""Times as texts, and the units that names of fields carry."""

import pytest

from device_models.errors import UsageError
from device_models.units import readable_time, seconds, unit_of


@pytest.mark.parametrize(
    ("text", "value_s"),
    [(0, 0.0), (20, 20.0), (1e-3, 1e-3), ("20s", 20.0), ("250ns", 250e-9), ("5 min", 300.0), ("1h", 3600.0),
     ("1.5d", 129600.0), ("2w", 1209600.0), ("1y", 31536000.0), ("1e3s", 1000.0)],
)  # fmt: skip
def test_times_are_read_in_seconds(text, value_s):
    assert seconds(text) == pytest.approx(value_s, rel=1e-15)


_ACCEPTED = 'must be a number of seconds >= 0 or a text such as "20s", "1h", "30d", "1y"'
_UNITS = "; units are ns, us, ms, s, min, h, d, w, y"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1x", f"t = '1x': {_ACCEPTED}{_UNITS}"),
        ("h", f"t = 'h': {_ACCEPTED}{_UNITS}"),
        ("30", f"t = '30': {_ACCEPTED}{_UNITS}"),
        ("1.2.3s", f"t = '1.2.3s': {_ACCEPTED}"),
        (True, f"t = True: {_ACCEPTED}"),
        (None, f"t = None: {_ACCEPTED}"),
        (float("nan"), f"t = nan: {_ACCEPTED}"),
        (float("inf"), f"t = inf: {_ACCEPTED}"),
        ("1e999s", f"t = '1e999s': {_ACCEPTED}"),
        (-1, "t = -1: must be >= 0 s, because time counts from the end of programming"),
    ],
)
def test_a_time_that_is_none_is_refused_in_words(text, message):
    with pytest.raises(UsageError) as caught:
        seconds(text, "t")
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("t_s", "text"),
    [(0, "0s"), (3600.0, "1h"), (90.0, "1.5min"), (2592000.0, "30d"), (31536000.0, "1y"), (5e-9, "5ns")],
)
def test_times_are_written_in_the_largest_fitting_unit(t_s, text):
    assert readable_time(t_s) == text
    assert seconds(text) == t_s


@pytest.mark.parametrize(
    ("field", "value", "unit"),
    [("g_max_uS", 25.0, "uS"), ("t_read_s", 1.0, "s"), ("bits", 8, "bit"), ("bound", 10.0, "1"), ("name", "x", "-"),
     ("flag", True, "-"), ("bits", None, "bit")],
)  # fmt: skip
def test_a_field_name_carries_its_unit(field, value, unit):
    assert unit_of(field, value) == unit
