"""Target to conductance: the compiled kernels against the readable ones, for every device."""

import math

import numpy as np
import pytest
import torch

from crossbar_sim.array.devices import PlaneDevices, age_by_device
from crossbar_sim.array.matrix import stored
from crossbar_sim.devices.effect_tables import effect_tables
from crossbar_sim.kernels import reference
from crossbar_sim.kernels.conductance import (
    BLOCK,
    age_conductances,
    device_keys,
    device_table,
    plane_tables,
)
from crossbar_sim.kernels.pairs import CHUNK, age_pairs, is_plain_pair, pair_table
from crossbar_sim.kernels.shift import SHIFT_KEYS
from crossbar_sim.kernels.workers import share
from crossbar_sim.mapping import layout_of
from crossbar_sim.spec import BitSliceEncoding, LawProgramming, OffsetEncoding, PairEncoding, SingleShot
from device_models import DeviceCurves, devices
from device_models.effects import StuckFaults, TelegraphNoise, Temperature
from device_models.effects.telegraph import AbsoluteAmplitude
from device_models.ideal import Ideal
from device_models.pcm_1m import Pcm1M
from device_models.pcm_hermes import PcmHermes

HOUR, YEAR = 3600.0, 31536000.0
DEVICES = {
    **{kind: cls() for kind, cls in devices().items()},
    "pcm_hermes, one device": PcmHermes(n_devices=1),
    "pcm_1m with a window and noise at the programmed value": Pcm1M(noise_at="programmed", g_min_uS=0.25),
}
LAYOUTS = {
    "one-sided pair": layout_of(PairEncoding()),
    "two-sided pair": layout_of(PairEncoding(pair="two_sided")),
    "three devices, msf": layout_of(PairEncoding(devices=3, fill="msf")),
    "two devices, equal": layout_of(PairEncoding(devices=2, fill="equal")),
    "significance 1 and 3": layout_of(PairEncoding(devices=2, fill="significance", significance=(1.0, 3.0))),
    "offset": layout_of(OffsetEncoding()),
    "slices of 2, 3 and 2 bits": layout_of(BitSliceEncoding(bits=8, slices=(2, 3, 2))),
}
NO_EFFECTS = effect_tables(Ideal(), LawProgramming(), 0.0, None)
PAIR = LAYOUTS["one-sided pair"]
PLANE, KEYS = plane_tables(PAIR)[0], device_keys(3, "layer", PAIR)[0]
FIRST_ROW = 100
TOLERANCE = {np.float32: 1e-6, np.float64: 7e-7}
"""Of g_max. Random numbers, curves and the drift factor are float32 in both; only the rest follows the weights."""


def _weights(dtype):
    rng = np.random.default_rng(0)
    weights = rng.uniform(-1, 1, (5, CHUNK + 188)).astype(dtype)
    weights[:, ::11] = 0
    weights[4] = 0
    return weights, (0.9 * abs(weights).max(axis=1)).astype(dtype)  # some weights lie beyond full scale


def _beside(weights):
    """The weights as inputs from FIRST_ROW on."""
    return np.pad(weights, ((0, 0), (FIRST_ROW, 0)))


def _aged(weights, w_max, table, plane=PLANE, keys=KEYS, start=0, stop=None):
    """Effective weights and variances of some inputs, device by device."""
    span = FIRST_ROW + start, FIRST_ROW + (weights.shape[1] if stop is None else stop)
    devices = PlaneDevices.of(_beside(weights), w_max, table, NO_EFFECTS, plane, keys, span)
    effective, variance = (torch.from_numpy(np.zeros((len(weights), span[1] - span[0]), weights.dtype)) for _ in "ev")
    age_by_device(devices, ((0, 2), (2, len(weights))), None, None, [effective], [variance])
    return effective.numpy(), variance.numpy()


def _compare(curves, window_uS, layout, dtype):
    weights, w_max = _weights(dtype)
    keys = device_keys(3, "layer", layout)
    planes = reference.age_matrix(
        weights.astype(float), w_max.astype(float), curves, window_uS, layout, keys, FIRST_ROW
    )
    if layout.levels > 1:  # elsewhere float32 may round to the other digit
        u = layout.levels * weights.astype(float) / np.where(w_max > 0, w_max, 1)[:, None]
        clear = abs(u - np.floor(u) - 0.5) > 1e-4
    else:
        clear = np.ones(weights.shape, bool)
    assert clear.mean() > 0.99
    for table, key, exact in zip(plane_tables(layout), keys, planes, strict=True):
        effective, variance = _aged(weights, w_max, device_table(curves, *window_uS), table, key)
        np.testing.assert_allclose(effective[clear], exact[0][clear], rtol=0, atol=TOLERANCE[dtype])
        np.testing.assert_allclose(np.sqrt(variance[clear]), np.sqrt(exact[1][clear]), rtol=1e-6, atol=TOLERANCE[dtype])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("pair", ["one-sided pair", "two-sided pair"])
@pytest.mark.parametrize("device", DEVICES.values(), ids=DEVICES.keys())
def test_age_matrix_equals_the_reference(device, pair, dtype):
    late = YEAR if device.kind != "sonos" else 5 * 24 * HOUR  # refuses what was not measured
    for t_s in (0.0, 1.0, HOUR, late):
        for t_obs_s in (0.0, 1.0, math.inf):
            _compare(device.curves(t_s, t_obs_s), (device.g_min_uS, device.g_max_uS), LAYOUTS[pair], dtype)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS.keys())
def test_age_matrix_equals_the_reference_for_every_encoding(layout, dtype):
    _compare(Pcm1M().curves(HOUR, 1.0), (0.25, 25.0), layout, dtype)


@pytest.mark.parametrize("dead_uS", [0.0, 3.0])
@pytest.mark.parametrize("limits", [(0.0, None), (None, None), (2.0, 20.0), (None, 20.0)])
@pytest.mark.parametrize("noise_at_programmed", [True, False])
def test_age_matrix_equals_the_reference_for_a_device_with_every_effect(dead_uS, limits, noise_at_programmed):
    g = Ideal().nodes_uS()
    curves = DeviceCurves(
        nodes_uS=g,
        program_bias_uS=0.5 - 0.04 * g,
        program_sigma_uS=1.0 + 0.1 * g,
        nu_mean=0.1 - 0.003 * g,
        nu_sigma=0.05 + 0.001 * g,
        frozen_abs_uS=0.3 - 0.01 * g,
        frozen_rel=0.02 + 0.002 * g,
        read_abs_uS=0.1 + 0.01 * g,
        read_rel=0.1 - 0.001 * g,
        log_time=5.0,
        noise_at_programmed=noise_at_programmed,
        floor_uS=limits[0],
        dead_uS=dead_uS,
        ceiling_uS=limits[1],
    )
    _compare(curves, (0.0, 25.0), PAIR, np.float64)


@pytest.mark.parametrize("n_paths", [1, 2, 5, 8])
def test_a_device_that_relaxes_equals_the_reference(n_paths):
    rng = np.random.default_rng(n_paths)
    path = rng.normal(size=n_paths)
    g, z = np.linspace(0, 25, 9)[:, None], np.linspace(-5, 5, 21)
    curves = (
        Pcm1M()
        .curves(0.0, 1.0)
        ._replace(shift_uS=np.sinh(z) * (1 + g * (25 - g)) / 100, shift_path=path / np.linalg.norm(path))
    )
    _compare(curves, (0.0, 25.0), PAIR, np.float64)


PAIRS = {
    name: LAYOUTS[name]
    for name in ("one-sided pair", "two devices, equal", "three devices, msf", "significance 1 and 3")
}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("layout", PAIRS.values(), ids=PAIRS.keys())
@pytest.mark.parametrize("device", DEVICES.values(), ids=DEVICES.keys())
def test_plain_pairs_age_as_any_devices(device, layout, dtype):
    weights, w_max = _weights(dtype)
    weights[0, ::7] = -0.0
    plane, keys = plane_tables(layout)[0], device_keys(3, "layer", layout)[0]
    for t_s, t_obs_s in ((0.0, 0.0), (HOUR, 1.0), (HOUR, math.inf)):
        table = device_table(device.curves(t_s, t_obs_s), device.g_min_uS, device.g_max_uS)
        if table.noise_at_programmed or table.dead_uS:
            assert not is_plain_pair(table, plane, NO_EFFECTS)
            continue
        assert is_plain_pair(table, plane, NO_EFFECTS)
        source, pairs, first_col = _beside(weights), pair_table(table, plane, keys), 7
        parts = [np.zeros((len(plane.slope), *weights.shape), dtype) for _ in range(4)]
        outputs, none = (0, 0, len(weights)), np.empty((0, 0), dtype)
        tables = table, NO_EFFECTS, plane, keys
        age_conductances(*outputs, source, w_max, *tables, FIRST_ROW, first_col, *parts[:2], none, none)
        age_pairs(*outputs, source, w_max, *pairs, FIRST_ROW, first_col, *parts[2:])
        np.testing.assert_array_equal(parts[2], parts[0])
        np.testing.assert_array_equal(parts[3], parts[1])
        factor, span = plane.weight.astype(dtype), dtype(table.span_uS)
        expected = np.tensordot(factor, parts[0], axes=1) / span
        spread = np.tensordot(factor**2, parts[1], axes=1) / span**2
        found, variance = np.empty_like(weights), np.zeros_like(weights)
        age_pairs(*outputs, source, w_max, *pairs, FIRST_ROW, first_col, found, variance)
        if len(plane.slope) == 2:
            np.testing.assert_array_equal(found, expected)
            np.testing.assert_array_equal(variance, spread)
        else:  # the sum over more than two devices is taken in another order
            np.testing.assert_allclose(found, expected, rtol=0, atol=10 * np.finfo(dtype).eps)
            np.testing.assert_allclose(variance, spread, rtol=10 * np.finfo(dtype).eps)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", [name for name in LAYOUTS if name not in PAIRS])
@pytest.mark.parametrize("width", [3, 700, BLOCK + 1])
def test_weights_of_any_devices_are_sums_of_their_conductances(width, name, dtype):
    weights = np.random.default_rng(1).uniform(-1, 1, (5, width)).astype(dtype)
    w_max, layout = np.full(5, 0.9, dtype), LAYOUTS[name]
    table = device_table(Pcm1M().curves(HOUR, 1.0), 0.0, 25.0)
    for plane, keys in zip(plane_tables(layout), device_keys(3, "layer", layout), strict=True):
        devices = PlaneDevices.of(
            _beside(weights), w_max, table, NO_EFFECTS, plane, keys, (FIRST_ROW, FIRST_ROW + width)
        )
        found, variance = np.empty_like(weights), np.empty_like(weights)
        share(*devices.ageing(found, variance), threads=2)
        expected, spread = _aged(weights, w_max, table, plane, keys)
        np.testing.assert_array_equal(found, expected)
        np.testing.assert_array_equal(variance, spread)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_pairs_of_slices_age_as_any_devices(dtype):
    weights, w_max = _weights(dtype)
    weights[0, ::7] = -0.0
    layout, table = LAYOUTS["slices of 2, 3 and 2 bits"], device_table(Pcm1M().curves(HOUR, 1.0), 0.0, 25.0)
    span = FIRST_ROW, FIRST_ROW + weights.shape[1]
    for plane, keys in zip(plane_tables(layout), device_keys(3, "layer", layout), strict=True):
        tables = table, NO_EFFECTS, plane, keys
        parts = [np.zeros((2, *weights.shape), dtype) for _ in range(4)]
        none = np.empty((0, 0), dtype)
        age_conductances(0, 0, 5, _beside(weights), w_max, *tables, FIRST_ROW, 0, *parts[:2], none, none)
        devices = PlaneDevices.of(_beside(weights), w_max, *tables, span)
        assert devices.are_plain_pairs
        devices.age_tile((0, 5), *parts[2:])
        np.testing.assert_array_equal(parts[2], parts[0])
        np.testing.assert_array_equal(parts[3], parts[1])


def test_what_is_no_plain_pair_takes_the_general_way():
    table = device_table(Pcm1M().curves(HOUR, 1.0), 0.0, 25.0)
    for name, layout in LAYOUTS.items():
        for plane in plane_tables(layout):
            assert is_plain_pair(table, plane, NO_EFFECTS) == (name in PAIRS or name.startswith("slices"))
    acting = [
        effect_tables(Pcm1M(faults=StuckFaults(p_set=0.1)), LawProgramming(), HOUR, 1.0),
        effect_tables(Pcm1M(temperature=Temperature(t_read_K=330.0)), LawProgramming(), HOUR, 1.0),
        effect_tables(
            Pcm1M(
                telegraph=TelegraphNoise(amplitude=AbsoluteAmplitude(amplitude_uS=0.5), tau_min_s=1.0, tau_max_s=9.0)
            ),
            LawProgramming(),
            HOUR,
            1.0,
        ),
        effect_tables(Pcm1M(), SingleShot(sigma_write=0.1), HOUR, 1.0),
    ]
    assert not any(is_plain_pair(table, PLANE, effects) for effects in acting)
    shifted = Pcm1M().curves(HOUR, 1.0)._replace(shift_uS=np.ones((2, 2)), shift_path=np.ones(1))
    assert not is_plain_pair(device_table(shifted, 0.0, 25.0), PLANE, NO_EFFECTS)


def _devices(weights, w_max, table, layout, row=0, first_col=0):
    """Conductances of all devices of all planes, and their variances."""
    found = []
    for plane, key in zip(plane_tables(layout), device_keys(3, "layer", layout), strict=True):
        g, variance = (np.empty((len(plane.slope), *weights.shape), weights.dtype) for _ in range(2))
        beside = np.pad(weights, ((0, 0), (row, 0)))
        tables, none = (table, NO_EFFECTS, plane, key), np.empty((0, 0), weights.dtype)
        age_conductances(0, 0, len(g[0]), beside, w_max, *tables, row, first_col, g, variance, none, none)
        found.append((g, variance))
    return np.concatenate([g for g, _ in found]), np.concatenate([variance for _, variance in found])


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS.keys())
@pytest.mark.parametrize("g_min_uS", [0.0, 0.25])
def test_an_ideal_device_holds_the_encoded_targets_exactly(layout, g_min_uS):
    weights, w_max = _weights(np.float64)
    table = device_table(Ideal(g_min_uS=g_min_uS).curves(YEAR, 1.0), g_min_uS, 25.0)
    found, variance = _devices(weights, w_max, table, layout)
    u = np.divide(weights, w_max[:, None], out=np.zeros_like(weights), where=w_max[:, None] > 0).clip(-1, 1)
    for g, expected in zip(found, layout.targets(u, g_min_uS, 25.0), strict=True):
        np.testing.assert_allclose(g, expected, rtol=0, atol=1e-14 * 25)
    assert (variance == 0).all()


@pytest.mark.parametrize("name", ["pcm_1m", "pcm_hermes", "pcm_1m with a window and noise at the programmed value"])
def test_conductances_of_a_tile_are_those_behind_the_effective_weights(name):
    device = DEVICES[name]
    weights, w_max = _weights(np.float64)
    table = device_table(device.curves(HOUR, 1.0), device.g_min_uS, device.g_max_uS)
    effective, variance = _aged(weights, w_max, table)
    rows, cols = slice(30, 600), slice(1, 4)
    (g_plus, g_minus), spread = _devices(weights[cols, rows], w_max[cols], table, PAIR, FIRST_ROW + 30, 1)
    span = device.g_max_uS - device.g_min_uS
    np.testing.assert_array_equal((g_plus - g_minus) / span, effective[cols, rows])
    np.testing.assert_array_equal(spread.sum(axis=0) / (span * span), variance[cols, rows])


def test_devices_without_a_spread_drift_by_the_power_law():
    device = Pcm1M(program_scale=0.0, read_scale=0.0, nu_sigma_law=(0.0, 0.0, 0.0, 0.0))
    u = np.linspace(0.01, 1, 500)[None]
    for t_s in (0.0, 1.0, HOUR, YEAR):
        table = device_table(device.curves(t_s, 1.0), 0.0, 25.0)
        effective, _ = _aged(u, np.ones(1), table)
        factor = ((t_s + 20) / 20) ** -device.nu_mean(25 * u)
        np.testing.assert_allclose(effective, u * factor, rtol=1e-4)
        flat = u >= 0.206  # beyond the knee the exponent is constant, so nothing is interpolated
        np.testing.assert_allclose(effective[flat], (u * factor)[flat], rtol=5e-7)
        assert table.has_drift == (t_s > 0)


def test_noise_scales_of_zero_leave_the_targets_bit_for_bit():
    weights, w_max = _weights(np.float32)
    quiet = Pcm1M(program_scale=0.0, read_scale=0.0, drift_scale=0.0)
    tables = [device_table(device.curves(YEAR, 0.0), 0.0, 25.0) for device in (quiet, Ideal())]
    np.testing.assert_array_equal(*(_aged(weights, w_max, table)[0] for table in tables))


def test_targets_below_the_dead_zone_become_exact_zeros():
    device = devices()["pcm_afm"]()
    u = np.array([[0.0, 0.599 / 180, 0.601 / 180, -0.599 / 180, -0.601 / 180, 1.0]])
    table = device_table(device.curves(0.0, 0.0), 0.0, 180.0)
    effective, _ = _aged(u, np.ones(1), table)
    assert (effective[0] == 0).tolist() == [True, True, False, True, False, False]


def test_variance_is_stored_as_bfloat16_within_0_4_percent():
    weights, w_max = _weights(np.float32)
    table = device_table(Pcm1M().curves(HOUR, 1.0), 0.0, 25.0)
    _, variance = _aged(weights, w_max, table)
    half = torch.empty(weights.shape, dtype=torch.bfloat16)
    pairs = pair_table(table, PLANE, KEYS)
    found = np.empty_like(weights)
    age_pairs(0, 0, len(weights), _beside(weights), w_max, *pairs, FIRST_ROW, 0, found, stored(half))
    assert (variance > 0).any()
    np.testing.assert_allclose(half.float().numpy(), variance, rtol=0.004)
    assert torch.equal(half, torch.from_numpy(variance).to(torch.bfloat16))  # half to even, as torch does


def test_the_position_of_a_device_and_not_its_tile_decides_its_random_numbers():
    weights, w_max = _weights(np.float64)
    table = device_table(Pcm1M().curves(HOUR, 1.0), 0.0, 25.0)
    whole, spread = _aged(weights, w_max, table)
    for start, stop in ((0, 1), (1, 333), (333, 700)):
        part, variance = _aged(weights, w_max, table, start=start, stop=stop)
        np.testing.assert_array_equal(part, whole[:, start:stop])
        np.testing.assert_array_equal(variance, spread[:, start:stop])


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS.keys())
def test_every_device_of_every_layer_and_seed_has_keys_of_its_own(layout):
    keys = [device_keys(seed, layer, layout) for seed, layer in ((0, "a"), (1, "a"), (0, "b"))]
    words = [tuple(word) for planes in keys for plane in planes for part in plane for word in part.reshape(-1, 2)]
    pairs = sum(-(-len(plane.devices) // 2) for plane in layout.planes)
    assert len(words) == len(set(words)) == 3 * ((8 + SHIFT_KEYS) * layout.n_devices + pairs)
