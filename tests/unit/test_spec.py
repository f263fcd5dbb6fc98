"""Specifications: strict values, errors as rendered, changed copies, files, and the table for people."""

import re
from itertools import pairwise
from pathlib import Path

import hypothesis.strategies as st
import pytest
import yaml
from hypothesis import given, settings
from pydantic import ValidationError

from crossbar_sim.spec import ChipSpec, DacSpec, StaticRange, UniformAdcSpec
from crossbar_sim.spec.explain import explain_rows
from device_models import devices
from device_models.errors import SpecError, StoreError, UsageError
from device_models.strict import StrictModel

ROOT = Path(__file__).parents[2]
KINDS = ", ".join(devices())
PRESETS = ", ".join(ChipSpec.presets())
FIELDS = (
    "source, schema_version, name, device, tile, encoding, wires, programming, dac, output_stage, adc, read_noise, "
    "compensation, weight_dtype"
)


@pytest.fixture(params=ChipSpec.presets())
def preset(request):
    return ChipSpec.preset(request.param)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"dac": {"bits": "8"}}, "chip.dac.bits = '8': must be a whole number"),
        ({"dac": {"bits": True}}, "chip.dac.bits = True: must be a whole number"),
        ({"dac": {"bits": 8.0}}, "chip.dac.bits = 8.0: must be a whole number"),
        ({"dac": {"bits": -8}}, "chip.dac.bits = -8: must be at least 2 bit"),
        ({"dac": {"bits": 1}}, "chip.dac.bits = 1: must be at least 2 bit"),
        ({"adc": {"bits": 17}}, "chip.adc.bits = 17: must be at most 16 bit"),
        ({"adc": {"bits": None}}, "chip.adc.bits = None: must be a whole number"),
        ({"adc": {"bound": float("nan")}}, "chip.adc.bound = nan: must be a finite number"),
        ({"adc": {"bound": "10"}}, "chip.adc.bound = '10': must be a number"),
        ({"adc": {"output_noise": 0.0}}, "chip.adc.output_noise = 0.0: must be above 0"),
        ({"tile": {"rows": 0}}, "chip.tile.rows = 0: must be at least 1"),
        ({"dac": {"range": {"kind": "static"}}}, "chip.dac.range.value: required, but not given"),
        ({"dac": {"range": {"kind": "calibrated", "quantile": 1.5}}},
         "chip.dac.range.quantile = 1.5: must be at most 1"),
        ({"dac": {"range": "statik"}},
         "chip.dac.range.kind = 'statik': must be one of dynamic, static, calibrated, n_sigma, minimum_mse; "
         "nearest: \"static\""),
        ({"read_noise": {"kind": "split", "t_obs_s": 0}}, "chip.read_noise.t_obs_s = 0: must be above 0 s"),
        ({"encoding": {"scale": "colum"}},
         "chip.encoding.scale = 'colum': must be one of 'tensor', 'tile', 'column' or 'tile_column'; "
         'nearest: "column"'),
        ({"encoding": {"clip": {"alpha": -1.0}}}, "chip.encoding.clip.alpha = -1.0: must be above 0"),
        ({"device": {"kind": "pcm_1m", "g_max_uS": -3}}, "chip.device.g_max_uS = -3: must be above 0 uS"),
        ({"device": {"kind": "pcm_1m", "g_max_uS": float("nan")}},
         "chip.device.g_max_uS = nan: must be a finite number"),
        ({"device": {"kind": "pcm_1m", "g_max_uS": True}}, "chip.device.g_max_uS = True: must be a number"),
        ({"device": {"kind": "ideal", "g_mx_uS": 3.0}},
         "chip.device.g_mx_uS: unknown field; accepted: source, kind, g_max_uS, g_min_uS, temperature, telegraph, "
         "faults, polarity, iv, fit_record; nearest: \"g_max_uS\""),
        ({"device": {"kind": "pcm_1M"}}, f"chip.device.kind = 'pcm_1M': must be one of {KINDS}; nearest: \"pcm_1m\""),
        ({"device": "hermes"}, f"chip.device.kind = 'hermes': must be one of {KINDS}; nearest: \"pcm_hermes\""),
        ({"device": {}}, f"chip.device.kind = None: must be one of {KINDS}"),
        ({"device": 3}, f"chip.device = 3: must be a mapping with a kind, one of {KINDS}"),
        ({"device": {"kind": "pcm_custom_drift", "nu_at_uS": [0, "10", 25]}},
         "chip.device.nu_at_uS[1] = '10': must be a number"),
        ({"device": {"kind": "generic", "program": {"law": "x", "magnitude": -1}}},
         "chip.device.program.law = 'x': must be one of 'independent' or 'proportional'; "
         "chip.device.program.magnitude = -1: must be at least 0"),
        ({"dca": {}}, f"chip.dca: unknown field; accepted: {FIELDS}; nearest: \"dac\""),
        ({"dac": None}, "chip: adc needs dac: its bound counts in input ranges (dac.bits: null gives an exact input)"),
    ],
)  # fmt: skip
def test_a_refused_value_is_told_in_one_line_with_path_value_and_rule(change, text):
    with pytest.raises(SpecError) as caught:
        ChipSpec(**{"device": "pcm_1m", **change})
    assert str(caught.value) == text
    assert "\n" not in text


def test_a_chip_needs_a_device():
    with pytest.raises(SpecError) as caught:
        ChipSpec()
    assert str(caught.value) == "chip.device: required, but not given"


@pytest.mark.parametrize(
    ("name", "hint"), [("hermes2d", '; nearest: "hermes_2d"'), ("pcm1m", '; nearest: "pcm_1m"'), ("zzz", ""), (3, "")]
)
def test_an_unknown_preset_is_told_with_the_nearest(name, hint):
    with pytest.raises(UsageError) as caught:
        ChipSpec.preset(name)
    assert str(caught.value) == f"preset = {name!r}: must be one of {PRESETS}{hint}"


@pytest.mark.parametrize("device", ["pcm_1m", {"kind": "pcm_1m"}, devices()["pcm_1m"]()])
def test_a_device_may_be_a_name_a_mapping_or_an_object(device):
    assert ChipSpec(device=device) == ChipSpec(device={"kind": "pcm_1m", "g_max_uS": 25})


def test_a_whole_number_is_taken_for_a_real_one_and_a_list_for_a_tuple():
    spec = ChipSpec(device={"kind": "pcm_custom_drift", "g_max_uS": 20, "nu_at_uS": [0, 10, 20]}, adc={"bound": 8})
    assert (spec.device.g_max_uS, spec.device.nu_at_uS, spec.adc.bound) == (20.0, (0.0, 10.0, 20.0), 8.0)
    assert isinstance(spec.adc.bound, float)


@pytest.mark.parametrize("name", ["name", "device", "dac"])
def test_a_specification_cannot_be_changed_in_place(name):
    spec = ChipSpec.preset("pcm_1m")
    with pytest.raises(ValidationError, match="frozen"):
        setattr(spec, name, None)
    assert spec == ChipSpec.preset("pcm_1m")


@pytest.mark.parametrize(
    ("path", "value"),
    [("dac.bits", 6), ("device.g_max_uS", 20.0), ("tile.rows", None), ("dac.range", StaticRange(value=3.0)),
     ("encoding.clip", {"alpha": 2.0}), ("name", "mine"), ("compensation", None), ("read_noise", "frozen")],
)  # fmt: skip
def test_evolve_changes_the_named_value_and_nothing_else(path, value):
    spec = ChipSpec.preset("pcm_1m")
    changed = spec.evolve(**{path: value})
    before, after = ({row.path: row.value for row in explain_rows(s)} for s in (spec, changed))
    assert all(name == path or name.startswith(f"{path}.") for name in before.keys() ^ after.keys())
    assert [name for name in before if before[name] != after.get(name) and not name.startswith(f"{path}.")] == [path]


def test_evolve_changes_several_values_of_one_part():
    spec = ChipSpec.preset("pcm_1m").evolve(**{"adc.bits": 6, "adc.bound": 12.0, "dac": DacSpec(), "dac.bits": 5})
    assert (spec.adc.bits, spec.adc.bound, spec.dac.bits) == (6, 12.0, 5)


def test_evolve_without_a_change_gives_an_equal_specification(preset):
    assert preset.evolve() == preset
    assert preset.evolve(**{"device.g_max_uS": preset.device.g_max_uS, "name": preset.name}) == preset


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"dac.bits": 1}, "chip.dac.bits = 1: must be at least 2 bit"),
        ({"device.g_max_uS": -3}, "chip.device.g_max_uS = -3: must be above 0 uS"),
        ({"dac.range.kind": "static"}, "chip.dac.range.kind = 'static': must be one of 'dynamic'"),
        (
            {"dac.bit": 6},
            "chip.dac.bit: unknown field; accepted: source, bits, range, encoding, phases, stochastic_rounding; "
            'nearest: "bits"',
        ),
        ({"dac": None}, "chip: adc needs dac: its bound counts in input ranges (dac.bits: null gives an exact input)"),
        ({"foo": 1}, f"chip.foo: unknown field; accepted: {FIELDS}"),
    ],
)
def test_evolve_validates_again_and_gives_the_whole_path(change, text):
    with pytest.raises(SpecError) as caught:
        ChipSpec.preset("pcm_1m").evolve(**change)
    assert str(caught.value) == text


def test_evolve_gives_the_whole_path_three_levels_down():
    spec = ChipSpec(device={"kind": "generic"})
    with pytest.raises(SpecError) as caught:
        spec.evolve(**{"device.program.magnitude": -1})
    assert str(caught.value) == "chip.device.program.magnitude = -1: must be at least 0"


def test_evolve_refuses_a_path_through_something_without_fields():
    with pytest.raises(SpecError, match=r'^chip\.dca: .*nearest: "dac"$'):
        ChipSpec.preset("pcm_1m").evolve(**{"dca.bits": 6})
    with pytest.raises(SpecError, match=r"^chip\.adc = None: has no fields to change"):
        ChipSpec.preset("ideal").evolve(**{"adc.bits": 6})


@pytest.mark.parametrize(
    ("name", "path", "value"),
    [("pcm_1m", "dac.bits", 6), ("pcm_1m", "dac.range", {"kind": "static", "value": 3.0}),
     ("pcm_1m", "adc", UniformAdcSpec()),
     ("pcm_1m", "dac.range", "calibrated"), ("ideal", "tile.rows", 4), ("ideal", "device.g_max_uS", 10.0)],
)  # fmt: skip
def test_explain_never_credits_a_changed_value_to_the_original_source(name, path, value):
    spec = ChipSpec.preset(name)
    rows = {row.path: row.source for row in explain_rows(spec.evolve(**{path: value}))}
    assert "[changed: " in rows[path]
    assert "[changed: " not in {row.path: row.source for row in explain_rows(spec)}[path]


def test_a_value_within_a_part_without_a_source_of_its_own_is_marked_as_changed():
    spec = ChipSpec.preset("pcm_1m").evolve(**{"dac.range": {"kind": "calibrated"}, "dac.source": "data sheet"})
    changed = spec.evolve(**{"dac.range.quantile": 0.9})
    source = {row.path: row.source for row in explain_rows(changed)}["dac.range.quantile"]
    assert source != "data sheet"


def test_changed_values_are_named_once_each():
    spec = ChipSpec.preset("pcm_1m").evolve(**{"dac.source": "data sheet"})
    twice = spec.evolve(**{"dac.bits": 6}).evolve(**{"dac.bits": 7, "dac.range": "calibrated"})
    assert twice.dac.source == "data sheet [changed: bits, range]"


def test_a_source_may_end_in_a_bracket():
    assert DacSpec(source="Rasch [12]").evolve(bits=6).source == "Rasch [12] [changed: bits]"


def test_a_source_that_is_given_is_kept():
    spec = ChipSpec.preset("pcm_1m").evolve(**{"dac.bits": 6, "dac.source": "own data sheet"})
    assert spec.dac.source == "own data sheet"


def test_presets_come_back_equal_from_yaml_and_json(preset, tmp_path):
    preset.to_yaml(tmp_path / "chip.yaml")
    (tmp_path / "chip.json").write_text(preset.model_dump_json())
    for again in (
        ChipSpec.from_yaml(tmp_path / "chip.yaml"),
        ChipSpec.from_yaml(tmp_path / "chip.json"),
        ChipSpec.model_validate_json(preset.model_dump_json()),
        ChipSpec(**preset.to_dict()),
        ChipSpec(**preset.model_dump()),
    ):
        assert again == preset
        assert hash(again) == hash(preset)


def test_presets_differ_and_carry_their_own_name():
    specs = {name: ChipSpec.preset(name) for name in ChipSpec.presets()}
    assert all(spec.name == name for name, spec in specs.items())
    assert len({spec.evolve(name="x", source="x") for spec in specs.values()}) == len(specs)


def test_every_part_of_a_preset_has_a_source(preset):
    assert preset.source
    parts = {name: part for name, part in preset if isinstance(part, StrictModel)}
    unsourced = [name for name, part in parts.items() if not part.source]
    assert unsourced == [] or preset.source == "definition"


positive = st.floats(1e-12, 1e12)
ranges = st.one_of(
    st.just("dynamic"),
    st.builds(lambda v: {"kind": "static", "value": v}, positive),
    st.builds(lambda q, n: {"kind": "calibrated", "quantile": q, "max_vectors": n}, st.floats(0.5, 1), st.integers(1)),
)
chips = st.fixed_dictionaries(
    {
        "device": st.one_of(
            st.sampled_from(sorted(devices())),
            st.builds(lambda g: {"kind": "pcm_1m", "g_max_uS": g}, positive),
            st.builds(lambda *nu: {"kind": "pcm_custom_drift", "nu_mean_at": nu}, positive, positive, positive),
            st.builds(lambda m: {"kind": "generic", "read": {"law": "independent", "magnitude": m}}, positive),
        ),
        "name": st.text(st.characters(exclude_categories=["Cs"]), max_size=20),
        "source": st.text(st.characters(exclude_categories=["Cs"]), max_size=20),
        "tile": st.builds(lambda r, c: {"rows": r, "cols": c}, st.none() | st.integers(1), st.none() | st.integers(1)),
        "encoding": st.builds(
            lambda pair, scale, clip: {"pair": pair, "scale": scale, "clip": clip and {"alpha": clip}},
            st.sampled_from(["one_sided", "two_sided"]),
            st.sampled_from(["tensor", "tile", "column", "tile_column"]),
            st.none() | positive,
        ),
        "dac": st.builds(lambda b, r: {"bits": b, "range": r}, st.none() | st.integers(2, 16), ranges),
        "adc": st.none() | st.builds(lambda b, y: {"bits": b, "bound": y}, st.integers(2, 16), positive),
        "read_noise": st.sampled_from([None, "frozen", "per_read", "split"])
        | st.builds(lambda t: {"kind": "split", "t_obs_s": t}, positive),
        "compensation": st.none() | st.builds(lambda n: {"probe_vectors": n}, st.integers(1)),
    }
)  # fmt: skip


@settings(max_examples=100, deadline=None, derandomize=True)
@given(chips)
def test_any_chip_comes_back_equal_from_yaml(chip):
    spec = ChipSpec(**chip)
    again = ChipSpec(**yaml.safe_load(spec.to_yaml()))
    assert again == spec
    assert hash(again) == hash(spec)


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("a: [", StoreError,
         "{path}: is not valid YAML: while parsing a flow node expected the node content, but found '<stream end>' "
         'in "<unicode string>", line 1, column 5: a: [ ^'),
        ("- 1\n- 2\n", UsageError, "{path}: must hold a mapping of chip fields, holds list"),
        ("", UsageError, "{path}: must hold a mapping of chip fields, holds NoneType"),
        ("device: pcm_1m\ndca: {}\n", SpecError,
         f"{{path}}: chip.dca: unknown field; accepted: {FIELDS}; nearest: \"dac\""),
        ("device: pcm_1m\ndac: {bits: 1}\n", SpecError, "{path}: chip.dac.bits = 1: must be at least 2 bit"),
    ],
)  # fmt: skip
def test_a_file_that_is_no_chip_is_refused_with_its_name(tmp_path, text, error, message):
    path = tmp_path / "chip.yaml"
    path.write_text(text)
    with pytest.raises(error) as caught:
        ChipSpec.from_yaml(path)
    assert str(caught.value) == message.format(path=path)


def test_a_missing_file_is_a_store_error(tmp_path):
    with pytest.raises(StoreError) as caught:
        ChipSpec.from_yaml(tmp_path / "none.yaml")
    assert str(caught.value).startswith(f"{tmp_path}/none.yaml: cannot be read as a chip specification: ")
    assert "\n" not in str(caught.value)


def test_a_file_that_cannot_be_written_is_a_store_error(tmp_path):
    path = tmp_path / "no such folder" / "chip.yaml"
    with pytest.raises(StoreError) as error:
        ChipSpec.preset("ideal").to_yaml(path)
    assert str(error.value).startswith(f"{path}: cannot be written: ")
    assert "\n" not in str(error.value)


def test_a_file_cannot_run_code(tmp_path):
    path = tmp_path / "chip.yaml"
    path.write_text(
        f"device: !!python/object/apply:pathlib.Path.touch [!!python/object/apply:pathlib.Path ['{path}x']]"
    )
    with pytest.raises(StoreError, match="is not valid YAML: could not determine a constructor"):
        ChipSpec.from_yaml(path)
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_may_write_a_number_with_an_exponent_but_not_as_text(tmp_path):
    path = tmp_path / "chip.yaml"
    path.write_text("device: {kind: pcm_1m, t_read_s: 250e-9, t0_s: 2E1}\n")
    assert ChipSpec.from_yaml(path).device == devices()["pcm_1m"]()
    path.write_text("device: {kind: pcm_1m, t_read_s: '250e-9'}\n")
    with pytest.raises(SpecError, match=r"chip\.device\.t_read_s = '250e-9': must be a number$"):
        ChipSpec.from_yaml(path)


def test_a_field_given_twice_in_a_file_is_refused(tmp_path):
    path = tmp_path / "chip.yaml"
    path.write_text("device: pcm_1m\nname: x\ndevice: ideal\n")
    with pytest.raises((StoreError, UsageError), match="device"):
        ChipSpec.from_yaml(path)


def test_json_schema_offers_every_device_and_refuses_other_fields():
    schema = ChipSpec.model_json_schema()
    options = schema["properties"]["device"]["oneOf"]
    named = [schema["$defs"][option["$ref"].rpartition("/")[2]] if "$ref" in option else option for option in options]
    kinds = {option["properties"]["kind"]["const"] for option in named}
    assert kinds == set(devices())
    assert schema["additionalProperties"] is False
    assert schema["required"] == ["device"]


def _leaves(spec, prefix=""):
    for name, value in spec:
        if isinstance(value, StrictModel):
            yield from _leaves(value, f"{prefix}{name}.")
        elif name not in ("source", "kind"):
            yield f"{prefix}{name}"


def test_explain_has_one_row_with_unit_meaning_and_source_for_each_value(preset):
    rows = explain_rows(preset)
    paths = [row.path for row in rows]
    assert len(set(paths)) == len(paths)
    assert set(_leaves(preset)) <= set(paths)
    assert [row for row in rows if not (row.unit and row.meaning and row.source)] == []
    assert [row for row in rows if row.source == "package default"] == []


def test_explain_prints_the_rows_as_an_aligned_table():
    text = ChipSpec.preset("pcm_1m").explain()
    header, *lines = text.splitlines()
    assert header.split() == ["field", "value", "unit", "meaning", "source"]
    starts = [header.index(word) for word in ("value", "unit", "meaning", "source")]
    assert all(line[start - 1] == " " and line[start] != " " for line in lines for start in starts[2:])
    by_field = {line.split()[0]: line for line in lines}
    cells = [by_field["device.g_max_uS"][a:b].strip() for a, b in pairwise([0, *starts])]
    assert cells == ["device.g_max_uS", "25", "uS", "Top of the programmable conductance window"]
    assert by_field["adc.output_noise"].split()[1] == "off"


SOURCES = [path for room in ("device_models", "crossbar_sim", "calibration") for path in (ROOT / room).rglob("*.py")]


@pytest.mark.parametrize(
    "banned", [r"model_copy\(\s*update", r"\b(import|from) c?pickle\b", r"\btorch\.load\(", r"\bmodel_construct\("]
)
def test_no_source_goes_round_validation_or_unpickles(banned):
    assert len(SOURCES) > 30
    assert [path.name for path in SOURCES if re.search(banned, path.read_text())] == []
