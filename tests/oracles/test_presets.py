"""Every preset against one number that is published for it. Each test says what is fitted and what is assumed.

Statistical numbers: the limit is four standard errors of the sample, or the uncertainty quoted with the reference.
"""

from pathlib import Path

import numpy as np
import pytest
import torch

from crossbar_sim.array.matrix import AnalogMatrix
from crossbar_sim.bridge.convert import map_model
from crossbar_sim.circuit.effective import effective_conductance, tile_loss
from crossbar_sim.converters.laws import levels_of
from crossbar_sim.mapping.layout import layout_of
from crossbar_sim.mapping.plan import TilePlan
from crossbar_sim.spec import ChipSpec
from crossbar_sim.tile import Tile

HOUR, DAY = 3600.0, 86400.0
BARE = {"dac": None, "adc": None, "compensation": None}
WHOLE = {"tile.rows": None, "tile.cols": None}
CHIPS = range(8)
TIMELESS = ("ideal", "pcm_afm", "pcm_joshi", "rram_milo", "generic")


def _error(spec, weights, x, seed=0, with_factor=False):
    """Mean over vectors of ||y - y*|| / ||y*|| without per-read noise, also after a factor mean |W*| / mean |W|."""
    exact = x @ weights.T
    effective = Tile(spec, seed).program(weights).mvm(np.eye(weights.shape[1])).T
    if with_factor:
        effective *= abs(weights).mean() / abs(effective).mean()
    return (np.linalg.norm(x @ effective.T - exact, axis=1) / np.linalg.norm(exact, axis=1)).mean()


def _sparse_uniform(seed):
    """Weights 256 x 256 uniform in (-1, 1) with 30 % zeros, 200 vectors likewise with 50 % zeros."""
    rng = np.random.default_rng(seed)
    weights, x = rng.uniform(-1, 1, (256, 256)), rng.uniform(-1, 1, (200, 256))
    weights[rng.random(weights.shape) < 0.3] = 0
    x[rng.random(x.shape) < 0.5] = 0
    return weights, x


def _mean_error(name, with_factor=False, **changes):
    """Mean over chips of the error of a whole matrix scaled to g_max, with exact converters."""
    spec = ChipSpec.preset(name).evolve(**BARE, **{"encoding.scale": "tensor", **changes})
    return np.mean([_error(spec, *_sparse_uniform(seed), seed, with_factor) for seed in CHIPS])


def _devices(name, u, t_s):
    """Conductances [uS] of the first device of 200 x 199 weights of relative value u, t_s after programming."""
    spec = ChipSpec.preset(name).evolve(**BARE, **WHOLE, read_noise=None)
    weights = torch.full((200, 200), u, dtype=torch.float64)
    weights[:, 0] = 1.0
    matrix = AnalogMatrix(weights, spec, 0, "m")
    matrix.age(weights, t_s)
    return matrix.conductances(weights, (0, 0))[0][1:]


def _assert_normal(g, mean, sigma):
    assert g.mean() == pytest.approx(mean, abs=4 * sigma / g.size**0.5)
    assert g.std() == pytest.approx(sigma, rel=4 / (2 * g.size) ** 0.5)


def _column_left(wires, rows, g_uS):
    """What wires leave of the current of one column of equal devices, all rows on."""
    return effective_conductance(np.full((rows, 1), g_uS), wires).sum() / (rows * g_uS)


def test_ideal():
    """Definition: the product itself. Nothing is fitted or assumed."""
    weights, x = _sparse_uniform(0)
    assert _error(ChipSpec.preset("ideal"), weights, x) < 1e-14


def test_pcm_1m():
    """Error of products after programming alone, by an independent simulation of the published fit (Nandakumar 2019).

    Fitted: the device. Assumed: converters and tile; exact converters and one scale for the matrix here, as there.
    """
    assert _mean_error("pcm_1m", read_noise=None) == pytest.approx(0.0637, abs=3e-4)


def test_standard_hwa():
    """A column of 512 devices that all conduct fully keeps 0.872113 by the published polynomial (Rasch 2023).

    Published: the product of 0.35 ohm and 5 uS. The polynomial is a fit; the ladder of the preset is exact, so the two
    agree to a few parts in a thousand. Assumed: the device in place of the recipe's short-term weight noise.
    """
    spec = ChipSpec.preset("standard_hwa")
    left = _column_left(spec.wires, spec.tile.rows, spec.device.g_max_uS)
    th = 2 * np.arcsinh(np.sqrt(0.35 * 5e-6) / 2)  # 2 cosh(th) = 2 + r G
    assert left == pytest.approx(
        2 * np.sinh(512 * th) * np.sinh(th / 2) / (0.35 * 5e-6 * 512 * np.cosh(512.5 * th)), rel=1e-9
    )
    assert left == pytest.approx(0.872113, abs=3e-3)


def test_aihwkit_default_io():
    """126 and 510 steps, and an output noise of 0.06 beside the rounding of one step of 12 / 255; bound management.

    Thirty fully driven devices are beyond the bound of 12, half of them, too: codes 63, 32 and 16 (15.75) of 63, and
    4 x 30 x 16 / 63 = 30.48 is read out with four times the noise. Published: all of the converters. Assumed:
    everything else; ideal devices here.
    """
    spec = ChipSpec.preset("aihwkit_default_io")
    assert (2 * levels_of(spec.dac.bits), 2 * levels_of(spec.adc.bits)) == (126, 510)
    reads = 20_000
    alone = spec.evolve(device="ideal", read_noise=None, compensation=None)
    y = Tile(alone).program(np.ones((1, 4))).mvm(np.ones((reads, 4)))
    sigma = np.hypot(0.06, 12 / 255 / 12**0.5)
    assert y.std() == pytest.approx(sigma, rel=4 / (2 * reads) ** 0.5)
    steps = y / (12 / 255)
    np.testing.assert_allclose(steps, np.rint(steps), atol=1e-9)
    y = Tile(alone).program(np.ones((1, 30))).mvm(np.ones((reads, 30)))
    assert y.std() == pytest.approx(4 * sigma, rel=4 / (2 * reads) ** 0.5)
    assert y.mean() == pytest.approx(4 * 30 * 16 / 63, abs=4 * 4 * sigma / reads**0.5)


def test_hermes_1d():
    """Error of products at t = 0, by an independent simulation of the chip's published fits.

    Fitted: the device. Published: tile, bits. Assumed: bound, window, probes; exact converters, all noise frozen
    and one factor for the matrix here, as there.
    """
    assert _mean_error("hermes_1d", with_factor=True, read_noise="frozen") == pytest.approx(0.1613, abs=1e-3)


def test_hermes_2d():
    """As hermes_1d; and what the uniform ADC stands for.

    An oscillator of 300 ps counts to 423 in the 127 ns of an 8-bit input, beyond the 127 steps of the output.
    Counted in 8 bits and corrected by half a step it errs as the uniform ADC of the preset, within 1 %, at a day.
    """
    assert _mean_error("hermes_2d", with_factor=True, read_noise="frozen") == pytest.approx(0.1009, abs=1e-3)
    spec = ChipSpec.preset("hermes_2d")
    assert int(levels_of(spec.dac.bits) * 1e-9 / 300e-12) == 423 > levels_of(spec.adc.bits)
    counted = spec.evolve(adc={"kind": "cco", "bits": 8, "bound": spec.adc.bound, "correction": "half_lsb"})
    weights, x = _sparse_uniform(0)
    exact = x @ weights.T
    uniform, cco = (
        np.linalg.norm(Tile(each).program(weights).mvm(x, t=DAY) - exact) / np.linalg.norm(exact)
        for each in (spec, counted)
    )
    assert cco == pytest.approx(uniform, rel=0.01)


def test_ibm_34tile():
    """34 tiles of 512 x 2048 are the published 35 million PCM; a column of 512 at 5 uS and 0.15 ohm keeps 0.939068617.

    Published: size, devices per weight, wires. Assumed: the PCM-1M law, ADC, compensation per column.
    """
    spec = ChipSpec.preset("ibm_34tile")
    plan = TilePlan.of(512, 512, spec.tile, layout_of(spec.encoding).n_devices)
    assert plan.n_tiles == 1
    assert 34 * plan.n_devices == 34 * 512 * 2048 == 35_651_584
    assert _column_left(spec.wires, 512, 5.0) == pytest.approx(0.939068617, abs=5e-10)


def test_afm_eval():
    """Error of 512 x 512 products with vectors ~ N(0, 1), by an independent simulation of the released noise model.

    Fitted: the weight error. Assumed: the dynamic input range; exact inputs here, as there.
    """
    spec = ChipSpec.preset("afm_eval").evolve(dac=None)
    found = []
    for seed in CHIPS:
        rng = np.random.default_rng(seed)
        found.append(_error(spec, rng.uniform(-1, 1, (512, 512)), rng.normal(size=(200, 512)), seed))
    assert np.mean(found) == pytest.approx(0.09336, abs=2e-4)


def test_neurram():
    """3.909 uS of spread at 20 uS after a day, 1 % of short-term weight noise, cores of 256 x 256 cells.

    Fitted: the spread. Recommended by a simulator: the noise. Assumed: window from 1 uS, bits, bound.
    """
    spec = ChipSpec.preset("neurram")
    _assert_normal(_devices("neurram", (20 - 1) / 39, DAY), 20.0, 3.909)
    weights = torch.ones(3, 5, dtype=torch.float64)
    matrix = AnalogMatrix(weights, spec, 0, "m")
    np.testing.assert_allclose(matrix.variance[0].sqrt().numpy(), 0.01, rtol=1e-5)
    plan = TilePlan.of(spec.tile.rows, spec.tile.cols, spec.tile)
    assert plan.n_devices == 256 * 256


def test_cmo_reram():
    """After an hour devices at 50 uS fell by 0.728810 uS with a spread of 0.755851 uS; w = 0.5 is 68.4 uS.

    Fitted: relaxation, programming (0.054251 uS, adds in variance). Published: array, one device per weight. Assumed:
    converters, the zero level read from a column.
    """
    spec = ChipSpec.preset("cmo_reram")
    targets = layout_of(spec.encoding).targets([-1, 0, 0.5, 1], spec.device.g_min_uS, spec.device.g_max_uS)[0]
    np.testing.assert_allclose(targets, [9, 48.6, 68.4, 88.2], atol=1e-9)
    _assert_normal(_devices("cmo_reram", (50 - 48.6) / 39.6, HOUR), 50 - 0.728810, np.hypot(0.755851, 0.054251))


def test_milo_rram():
    """3.780551 uS of spread at 110 uS; a 4-kbit array; wires that would take more than all at 256 rows.

    Fitted: the spread. Assumed: rows, wires, converters. Rule of thumb: loss r G (N + 1)(2N + 1) / 6 of a full column.
    """
    spec = ChipSpec.preset("milo_rram")
    _assert_normal(_devices("milo_rram", (110 - 50) / 175, 0.0), 110.0, 3.780551)
    assert TilePlan.of(spec.tile.rows, spec.tile.cols, spec.tile).n_devices == 4096
    column = spec.wires.evolve(r_wl_ohm=None)
    full, chosen = (tile_loss(np.full((1, 1, n), 225.0), column)[1].mean() for n in (256, spec.tile.rows))
    assert full == pytest.approx(1.7, abs=0.05)
    assert chosen == pytest.approx(0.35 * 225e-6 * 65 * 129 / 6, rel=1e-9)


def test_sonos_40nm():
    """After a day cells at 800 nA carry 796.173221 nA with a spread of 25.23726 nA; full scale is 1600 nA.

    Fitted: mean and spread. Assumed: rows and columns, conversion of each input bit, bound.
    """
    device = ChipSpec.preset("sonos_40nm").device
    nA_per_uS = 1e3 * device.v_read_V
    assert device.g_max_uS * nA_per_uS == pytest.approx(1600.0)
    _assert_normal(_devices("sonos_40nm", 0.5, DAY) * nA_per_uS, 796.173221, 25.23726)


def test_joshi_crosssim():
    """0.955278 uS of spread at 12.5 uS, on/off ratio 100. Fitted: the spread. Assumed: exact converters."""
    device = ChipSpec.preset("joshi_crosssim").device
    assert device.g_max_uS / device.g_min_uS == 100
    _assert_normal(_devices("joshi_crosssim", (12.5 - 0.25) / 24.75, 0.0), 12.5, 0.955278)


def test_generic_proportional():
    """Errors of m g make errors of m in products, whatever the weights. m = 0.05 is an assumption."""
    assert _mean_error("generic_proportional") == pytest.approx(0.05, rel=0.01)


def test_generic_independent():
    """Errors of m g_max: m sqrt(3/2) / rms(w), as a device at zero keeps half of its square.

    m = 0.05 is an assumption. For weights of at least 4 m, so that no other device meets the floor at zero.
    """
    rng = np.random.default_rng(0)
    weights = rng.uniform(0.2, 1, (256, 256)) * rng.choice([-1, 1], (256, 256))
    expected = 0.05 * 1.5**0.5 / np.sqrt((weights**2).mean())
    found = _error(ChipSpec.preset("generic_independent"), weights, rng.normal(size=(200, 256)))
    assert found == pytest.approx(expected, rel=0.02)


@pytest.mark.parametrize("name", ChipSpec.presets())
def test_every_preset_has_a_test_and_a_row_in_the_table(name):
    table = Path(__file__).parents[2] / "docs" / "physics" / "presets.md"
    assert f"test_{name}" in globals()
    assert f"| `{name}` |" in table.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def llama():
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=60,
        hidden_size=64,
        intermediate_size=176,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=32,
    )
    return transformers.LlamaForCausalLM(config).eval()


@pytest.mark.parametrize("name", ChipSpec.presets())
def test_a_language_model_runs_on_every_preset_as_it_is(name, llama):
    """Logits stay nearer to the digital ones than to nothing, after a day as well; few outputs saturate."""
    spec = ChipSpec.preset(name)
    assert spec.dac is None or spec.dac.range.kind == "dynamic"
    tokens = torch.randint(0, 60, (2, 24), generator=torch.Generator().manual_seed(1))
    mapped = map_model(llama, spec)
    times = (0.0,) if spec.device.kind in TIMELESS else (0.0, DAY)
    with torch.no_grad():
        exact = llama(tokens).logits
        for t_s in times:
            if t_s:
                mapped.chip.set_time(t_s)
            assert (mapped(tokens).logits - exact).norm() < 0.8 * exact.norm()
    matrices = [programmed.matrix for programmed in mapped.chip.matrices.values()]
    assert sum(m.n_saturated for m in matrices) <= 1e-3 * sum(m.n_outputs for m in matrices)
