"""Devices against published numbers, their own laws, and what the kernels make of their curves."""

import ast
import math
from pathlib import Path
from typing import Literal

import numpy as np
import pytest

from crossbar_sim.devices.effect_tables import effect_tables
from crossbar_sim.kernels.conductance import age_conductances, device_keys, device_table, plane_tables
from crossbar_sim.mapping import layout_of
from crossbar_sim.spec import ChipSpec, LawProgramming, PairEncoding
from device_models import devices, register_device, registry
from device_models.errors import SpecError, UsageError
from device_models.generic import Generic
from device_models.ideal import Ideal
from device_models.laws import clipped_log, drift_log_time, one_over_f_variance
from device_models.pcm_1m import Pcm1M
from device_models.pcm_custom_drift import PcmCustomDrift
from device_models.pcm_hermes import PcmHermes

ROOT = Path(__file__).parents[2]
HOUR, DAY, YEAR = 3600.0, 86400.0, 31536000.0

DEVICES = {**{kind: cls() for kind, cls in devices().items()}, "pcm_hermes, one device": PcmHermes(n_devices=1)}

JUMPS = {"pcm_hermes": (0.0945, 0.1591)}
"""Where published laws jump by more than 1e-4 of g_max, in g / g_max; a tabulated curve smears a jump over one cell."""


@pytest.fixture(params=DEVICES.values(), ids=DEVICES.keys())
def device(request):
    return request.param


def test_reference_points(device):
    points = device.reference_points()
    assert points
    assert all(point.source for point in points)
    found = [float(getattr(device, point.law)(**point.at)) for point in points]
    assert [(p, value) for p, value in zip(points, found, strict=True) if not abs(value - p.expected) <= p.atol] == []


@pytest.mark.parametrize(
    ("t_s", "factor"),
    [(0, 1), (1, 0.997612), (60, 0.934327), (HOUR, 0.775129), (DAY, 0.663524), (30 * DAY, 0.561671), (YEAR, 0.496946),
     (10 * YEAR, 0.443924)],
)  # fmt: skip
def test_drift_factor_table(t_s, factor):
    assert math.exp(-0.049 * drift_log_time(t_s, t0_s=20.0)) == pytest.approx(factor, abs=6e-7)
    assert Pcm1M().drift_factor(12.5, t_s) == pytest.approx(factor, abs=6e-7)


@pytest.mark.parametrize(
    ("t_s", "t_obs_s", "share"),
    [(HOUR, 1e-3, 0.6652), (HOUR, 1.0, 0.3609), (HOUR, 60.0, 0.1806),
     (DAY, 1e-3, 0.7063), (DAY, 1.0, 0.4393), (DAY, 60.0, 0.2811)],
)  # fmt: skip
def test_frozen_share_table(t_s, t_obs_s, share):
    frozen, per_read = one_over_f_variance(t_s, 20.0, 250e-9, t_obs_s)
    assert frozen / (frozen + per_read) == pytest.approx(share, abs=6e-5)
    assert frozen + per_read == pytest.approx(math.log((t_s + 20 + 250e-9) / 500e-9), rel=1e-14)


@pytest.mark.parametrize("t_s", [0.0, HOUR, YEAR])
def test_observation_window_is_limited_to_what_a_device_can_show(t_s):
    whole = math.log((t_s + 20 + 250e-9) / 500e-9)
    assert one_over_f_variance(t_s, 20.0, 250e-9, 0.0) == (pytest.approx(whole), 0.0)
    assert one_over_f_variance(t_s, 20.0, 250e-9, math.inf) == (0.0, pytest.approx(whole))


def test_clipped_log_is_guarded_at_zero():
    assert clipped_log(0.0, -1.0, 0.0, 0.0, 1e9) == pytest.approx(-math.log(1e-7))


@pytest.mark.parametrize(("g_max_uS", "g_uS", "sigma_uS"), [(50.0, 25.0, 1.905410), (10.0, 5.0, 0.381082)])
def test_programming_noise_scales_with_the_window(g_max_uS, g_uS, sigma_uS):
    assert Pcm1M(g_max_uS=g_max_uS).sigma_program_uS(g_uS) == pytest.approx(sigma_uS, abs=6e-7)


def test_programming_noise_has_its_published_maximum():
    g = np.linspace(0, 25, 100_001)
    sigma = Pcm1M().sigma_program_uS(g)
    assert sigma.max() == pytest.approx(1.0863478, abs=6e-8)
    assert g[sigma.argmax()] == pytest.approx(20.938113, abs=3e-4)


@pytest.mark.parametrize("n_devices", [1, 2])
def test_hermes_noise_shrinks_with_its_window(n_devices):
    full = PcmHermes(n_devices=n_devices)
    half = PcmHermes(n_devices=n_devices, g_max_uS=full.g_max_uS / 2)
    assert half.sigma_program_uS(half.g_max_uS / 4) == pytest.approx(full.sigma_program_uS(full.g_max_uS / 4) / 2)


def test_hermes_keeps_the_published_step_of_the_drift_exponent():
    below, above = PcmHermes().nu_mean(20.7 * np.array([0.0945 - 1e-9, 0.0945 + 1e-9]))
    assert (below, above) == (pytest.approx(0.073099, abs=6e-7), pytest.approx(0.072020, abs=6e-7))


@pytest.mark.parametrize(("g_uS", "nu"), [(5.0, 0.08), (15.0, 0.04), (25.0, 0.02)])
def test_custom_drift_interpolates_and_keeps_its_end_values(g_uS, nu):
    device = PcmCustomDrift(
        g_max_uS=20.0, nu_at_uS=(0.0, 10.0, 20.0), nu_mean_at=(0.10, 0.06, 0.02), nu_sigma_at=(0.0, 0.0, 0.0)
    )
    assert device.nu_mean(g_uS) == pytest.approx(nu, abs=1e-12)


def _only(curves, **kept):
    """The same curves without any error but those given."""
    zero = np.zeros_like(curves.nodes_uS)
    off = dict.fromkeys(curves._fields[1:9], zero)
    return curves._replace(**{**off, **kept}, floor_uS=None, ceiling_uS=None)


NO_EFFECTS = effect_tables(Ideal(), LawProgramming(), 0.0, None)


def _conductance_and_noise(device, curves, g_uS):
    """What the kernels make of devices at these targets: conductance and per-read s.d. [uS]."""
    span = device.g_max_uS - device.g_min_uS
    table = device_table(curves, device.g_min_uS, device.g_max_uS)
    weights, w_max, layout = (g_uS[None] - device.g_min_uS) / span, np.ones(1), layout_of(PairEncoding())
    g, variance = np.empty((2, 1, g_uS.size)), np.empty((2, 1, g_uS.size))
    (plane,), (keys,) = plane_tables(layout), device_keys(0, "m", layout)
    none = np.empty((0, 0))
    age_conductances(0, 0, 1, weights, w_max, table, NO_EFFECTS, plane, keys, 0, 0, g, variance, none, none)
    return g[0, 0], np.sqrt(variance.sum(axis=0)[0])


def test_tabulated_curves_follow_the_laws_within_1e_4_of_g_max(device, monkeypatch):
    rng = np.random.default_rng(0)
    share = np.concatenate([[0], rng.uniform(0, 1, 20_000), 10 ** rng.uniform(-4, 0, 20_000)])  # bends are near zero
    g = device.g_min_uS + share * (device.g_max_uS - device.g_min_uS)
    late = YEAR if device.kind != "sonos" else 5 * DAY  # refuses what was not measured
    tabulated = [device.curves(t_s, math.inf) for t_s in (0.0, late)]
    monkeypatch.setattr(type(device), "nodes_uS", lambda self: g)
    exact = [device.curves(t_s, math.inf) for t_s in (0.0, late)]

    errors = {}
    for when, curve, law in zip(("new", "old"), tabulated, exact, strict=True):
        programmed, _ = _conductance_and_noise(device, _only(curve, program_bias_uS=curve.program_sigma_uS), g)
        errors["programming", when] = programmed - g - law.program_sigma_uS
        drift_and_read = {name: getattr(curve, name) for name in ("nu_mean", "read_abs_uS", "read_rel")}
        drifted, noise = _conductance_and_noise(device, _only(curve, **drift_and_read), g)
        g_drifted = g * np.exp(-law.nu_mean * law.log_time)
        errors["drift", when] = drifted - g_drifted
        read = law.read_abs_uS + law.read_rel * g_drifted
        errors["read", when] = noise - np.hypot(read, read[0])  # the partner is the first device, at g_min

    cell = 1 / (len(tabulated[0].nodes_uS) - 1)
    at_jump = np.any([abs(g / device.g_max_uS - at) < cell for at in JUMPS.get(device.kind, (-1.0,))], axis=0)
    alive = g >= tabulated[0].dead_uS
    for what, error in errors.items():
        relative = abs(error) / device.g_max_uS
        assert relative[alive & ~at_jump].max() < 1e-4, what
        assert relative[alive].max() < 3e-4, what


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: PcmHermes(n_devices=1, g_max_uS=10.4),
         "device: g_max_uS = 10.4: must be at most 10.35 uS with n_devices = 1, "
         "the largest conductance that was characterised"),
        (lambda: PcmHermes(g_max_uS=20.8),
         "device: g_max_uS = 20.8: must be at most 20.7 uS with n_devices = 2, "
         "the largest conductance that was characterised"),
        (lambda: PcmHermes(t0_s=20.0),
         "device: t0_s = 20: must be 300 s with n_devices = 2, because the coefficients were fitted with that clock"),
        (lambda: PcmHermes(n_devices=3), "device.n_devices = 3: must be one of 1 or 2"),
        (lambda: PcmHermes(n_devices=[3]), "device.n_devices = [3]: must be one of 1 or 2"),
        (lambda: PcmCustomDrift(nu_at_uS=(0.0, 10.0, 20.0)),
         "device: the window 0 to 25 uS must lie within the drift points, 0 to 20 uS"),
        (lambda: PcmCustomDrift(g_min_uS=1.0, nu_at_uS=(2.0, 10.0, 25.0)),
         "device: the window 1 to 25 uS must lie within the drift points, 2 to 25 uS"),
        (lambda: PcmCustomDrift(nu_at_uS=(0.0, 0.0, 25.0)), "device: nu_at_uS = (0.0, 0.0, 25.0) must ascend"),
        (lambda: PcmCustomDrift(nu_at_uS=(0.0, 25.0)),
         "device: nu_at_uS, nu_mean_at and nu_sigma_at must be equally long, are [2, 3]"),
        (lambda: Pcm1M(g_min_uS=25.0), "device: g_min_uS = 25 must be below g_max_uS = 25"),
        (lambda: Ideal(g_max_uS=5.0, g_min_uS=6.0), "device: g_min_uS = 6 must be below g_max_uS = 5"),
        (lambda: Pcm1M(t0_s=0.0), "device.t0_s = 0.0: must be above 0 s"),
    ],
)  # fmt: skip
def test_unphysical_devices_are_refused_in_words(make, text):
    with pytest.raises(SpecError) as caught:
        make()
    assert str(caught.value) == text


def test_hermes_takes_window_and_clock_from_the_number_of_devices():
    assert (PcmHermes().g_max_uS, PcmHermes().t0_s) == (20.7, 300.0)
    assert (PcmHermes(n_devices=1).g_max_uS, PcmHermes(n_devices=1).t0_s) == (10.35, 200.0)


@pytest.mark.parametrize(
    ("scale", "curve"),
    [("program_scale", "program_sigma_uS"), ("drift_scale", "nu_mean"), ("drift_scale", "nu_sigma"),
     ("read_scale", "read_rel"), ("read_scale", "frozen_rel")],
)  # fmt: skip
def test_a_scale_multiplies_its_law_and_no_other(scale, curve):
    plain, scaled = Pcm1M().curves(DAY, 1.0), Pcm1M(**{scale: 3.0}).curves(DAY, 1.0)
    np.testing.assert_allclose(getattr(scaled, curve), 3 * getattr(plain, curve), rtol=1e-14)
    affected = {"program_scale": 1, "drift_scale": 2, "read_scale": 2}[scale]
    different = [name for name in plain._fields[:9] if not np.array_equal(getattr(plain, name), getattr(scaled, name))]
    assert len(different) == affected


@pytest.mark.parametrize("law", ["independent", "proportional"])
@pytest.mark.parametrize(("t_obs_s", "frozen"), [(0.0, True), (1.0, False), (math.inf, False)])
def test_generic_noise_is_white_unless_frozen_as_a_whole(law, t_obs_s, frozen):
    curves = Generic(g_max_uS=10.0, read={"law": law, "magnitude": 0.1}).curves(DAY, t_obs_s)
    parts = {"frozen": (curves.frozen_abs_uS, curves.frozen_rel), "read": (curves.read_abs_uS, curves.read_rel)}
    shown, hidden = ("frozen", "read") if frozen else ("read", "frozen")
    absolute, relative = (1.0, 0.0) if law == "independent" else (0.0, 0.1)
    assert (parts[shown][0] == absolute).all()
    assert (parts[shown][1] == relative).all()
    assert not any(part.any() for part in parts[hidden])


def test_curves_cover_the_window_of_every_device(device):
    curves = device.curves(DAY, 1.0)
    assert (curves.nodes_uS[0], curves.nodes_uS[-1]) == (0.0, device.g_max_uS)
    assert all(len(curve) == len(curves.nodes_uS) and np.isfinite(curve).all() for curve in curves[:9])
    assert all((curve >= 0).all() for curve in (curves.program_sigma_uS, curves.nu_sigma, *curves[5:9]))


@pytest.fixture
def empty_shelf(monkeypatch):
    """A registry whose additions are forgotten after the test."""
    monkeypatch.setattr(registry, "_devices", dict(registry._devices))


@pytest.mark.usefixtures("empty_shelf")
def test_a_kind_is_taken_once():
    class Other(Ideal):
        kind: Literal["pcm_1m"] = "pcm_1m"

    with pytest.raises(UsageError) as caught:
        register_device(Other)
    assert str(caught.value) == "Other.kind = 'pcm_1m': already taken by Pcm1M"
    assert devices()["pcm_1m"] is Pcm1M


@pytest.mark.usefixtures("empty_shelf")
def test_a_device_needs_a_default_kind():
    class Nameless(Ideal):
        kind: str

    with pytest.raises(UsageError) as caught:
        register_device(Nameless)
    assert str(caught.value).startswith("Nameless.kind = ")
    assert str(caught.value).endswith(": a device needs a default kind of type str")


@pytest.mark.usefixtures("empty_shelf")
def test_a_device_may_be_registered_twice_as_itself():
    assert register_device(Pcm1M) is Pcm1M


@pytest.mark.usefixtures("empty_shelf")
def test_a_device_registered_after_chip_spec_is_accepted_and_comes_back_from_yaml(tmp_path):
    @register_device
    class Late(Ideal):
        kind: Literal["late"] = "late"

    spec = ChipSpec(device={"kind": "late", "g_max_uS": 12.0})
    spec.to_yaml(tmp_path / "chip.yaml")
    again = ChipSpec.from_yaml(tmp_path / "chip.yaml")
    assert isinstance(again.device, Late)
    assert (again, hash(again), again.device.g_max_uS) == (spec, hash(spec), 12.0)


LAW_FILES = ["device_models/laws.py", "crossbar_sim/mapping/scale.py", "crossbar_sim/mapping/layout.py"]
HEADINGS = ["Equation", "Arguments", "Valid", "Source", "Test"]


def _documented_laws():
    for file in LAW_FILES:
        for node in ast.walk(ast.parse((ROOT / file).read_text())):
            if isinstance(node, ast.FunctionDef) and "\nTest " in (ast.get_docstring(node) or ""):
                yield pytest.param(ast.get_docstring(node), id=node.name)


@pytest.mark.parametrize("text", list(_documented_laws()))
def test_a_law_names_equation_units_validity_source_and_a_test_that_exists(text):
    parts = {line.split()[0]: line for line in text.splitlines() if line.split()[:1] and line.split()[0] in HEADINGS}
    assert list(parts) == HEADINGS
    path, _, name = parts["Test"].split()[1].partition("::")
    assert (ROOT / path).is_file()
    defined = [node.name for node in ast.parse((ROOT / path).read_text()).body if isinstance(node, ast.FunctionDef)]
    assert not name or name in defined


def test_every_shared_law_follows_the_template():
    tree = ast.parse((ROOT / "device_models/laws.py").read_text())
    functions = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
    assert len(functions) >= 3
    assert functions <= {param.id for param in _documented_laws()}
