"""Input ranges by standard deviations and by least error, and the bound of the ADC by a budget of saturated outputs."""

import numpy as np
import pytest
import torch
from torch import nn

import crossbar_sim as cs
from crossbar_sim.converters.histogram import MagnitudeHistogram
from crossbar_sim.converters.laws import quantise_symmetric
from crossbar_sim.converters.ranges import minimum_error_range, saturation_bound, sigma_range

PCM = cs.ChipSpec.preset("pcm_1m")
N_IN = 24


def chip(kind="n_sigma", bits=8, **options):
    return PCM.evolve(dac={"bits": bits, "range": {"kind": kind, **options}}, **{"tile.rows": 10})


def data(n_batches=4, scale=1.0, seed=0):
    rng = np.random.default_rng(seed)
    return [
        torch.from_numpy((scale * rng.standard_t(3, size=(50, N_IN)) + 2.0 * b).astype(np.float32))
        for b in range(n_batches)
    ]


def model():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(N_IN, 6))


def found(spec, batches):
    return cs.map_model(model(), spec, calibration_data=batches).chip.matrices["0"].matrix.input_range.numpy()


def tiles(batches):
    """What the three row tiles of 8 rows see."""
    x = torch.cat(batches).numpy()
    return [x[:, start : start + 8] for start in (0, 8, 16)]


class TestInputRanges:
    @pytest.mark.parametrize("n_sigma", [0.5, 3.0])
    def test_standard_deviations(self, n_sigma):
        expected = [sigma_range(part.astype(np.float64), n_sigma) for part in tiles(data())]
        np.testing.assert_allclose(found(chip(n_sigma=n_sigma), data()), expected, rtol=1e-12)

    def test_standard_deviations_far_from_zero(self):
        """Running moments do not cancel where the mean is a million times the deviation."""
        batches = [part.double() * 0.01 + 1e4 for part in data()]
        layer = model().double()
        mapped = cs.map_model(layer, chip(), calibration_data=batches)
        x = torch.cat(batches).float().double().numpy()
        expected = [3 * x[:, start : start + 8].std() for start in (0, 8, 16)]
        np.testing.assert_allclose(mapped.chip.matrices["0"].matrix.input_range, expected, rtol=1e-9)

    @pytest.mark.parametrize("bits", [2, 4, 6, 8])
    def test_least_error(self, bits):
        for value, part in zip(found(chip("minimum_mse", bits), data()), tiles(data()), strict=True):
            best = minimum_error_range(part, bits)
            least, own = (np.square(quantise_symmetric(part, r, bits) - part).mean() for r in (best, value))
            assert own <= least * 1.005

    def test_quantile_one_is_the_maximum(self):
        expected = [abs(part).max() for part in tiles(data())]
        assert found(chip("calibrated", quantile=1.0), data()).tolist() == expected

    @pytest.mark.parametrize("kind", ["n_sigma", "minimum_mse"])
    def test_only_the_first_vectors_count(self, kind):
        np.testing.assert_array_equal(
            found(chip(kind, max_vectors=50), data()), found(chip(kind), data(1)), strict=True
        )

    @pytest.mark.parametrize("kind", ["n_sigma", "minimum_mse"])
    def test_batches_may_be_cut_anywhere(self, kind):
        whole = found(chip(kind), [torch.cat(data())])
        np.testing.assert_allclose(found(chip(kind), torch.cat(data()).split(7)), whole, rtol=2e-2)
        if kind == "n_sigma":
            np.testing.assert_allclose(found(chip(kind), torch.cat(data()).split(7)), whole, rtol=1e-12)

    def test_inputs_that_never_vary(self):
        with pytest.raises(cs.UsageError, match=r"0: dac.range.kind = 'n_sigma' gives row tile 0 a full scale of 0"):
            found(chip(), [torch.ones(5, N_IN)])

    def test_tile_without_input(self):
        x = torch.cat(data())
        x[:, 8:16] = 0
        for kind in ("n_sigma", "minimum_mse", "calibrated"):
            ranges = found(chip(kind), [x])
            assert ranges[1] == 0
            assert (ranges[[0, 2]] > 0).all()

    @pytest.mark.parametrize("kind", ["n_sigma", "minimum_mse"])
    def test_refused_without_data(self, kind):
        with pytest.raises(cs.UsageError, match=f"calibration_data: needed, because dac.range is {kind}"):
            cs.map_model(model(), chip(kind))
        with pytest.raises(cs.UsageError, match=f'"{kind}": a Tile has no calibration data'):
            cs.Tile(chip(kind))


class TestHistogram:
    """Against the search over all values: errors within 1 %, with an outlier and 12 bit within 2 %."""

    @pytest.mark.parametrize("bits", [3, 6, 8, 10, 12])
    @pytest.mark.parametrize("draw", ["normal", "student", "outlier", "growing"])
    def test_error_is_that_of_the_best_range(self, draw, bits):
        rng = np.random.default_rng(1)
        x = {
            "normal": lambda: rng.normal(size=40_000),
            "student": lambda: rng.standard_t(2, size=40_000),
            "outlier": lambda: np.append(rng.normal(size=39_999), 300.0),
            "growing": lambda: rng.normal(size=40_000) * np.logspace(-2, 1, 40_000),
        }[draw]()
        histogram = MagnitudeHistogram()
        for part in np.split(abs(x), 20):
            histogram.add(part)
        value, best = histogram.minimum_error_range(bits), minimum_error_range(x[:, None], bits)
        own, least = (np.square(quantise_symmetric(x, r, bits) - x).mean() for r in (value, best))
        assert own <= (1.02 if (draw, bits) == ("outlier", 12) else 1.01) * least
        assert histogram.moments.nbytes == 3 * 8 * 2**14
        assert histogram.moments[0].sum() == x.size
        assert histogram.moments[2].sum() == pytest.approx(np.square(x).sum(), rel=1e-12)
        assert abs(x).max() / 2**14 <= histogram.width <= abs(x).max() / 2**13


def column_outputs(x, weight, rows):
    """Relative column sums of ideal devices for inputs relative to the range of each row tile."""
    w_max = weight.abs().amax(dim=1)
    parts = []
    for start in range(0, x.shape[1], rows):
        part = x[:, start : start + rows]
        full_scale = part.abs().amax(dim=1, keepdim=True)
        parts.append(part / full_scale @ (weight[:, start : start + rows] / w_max[:, None]).t())
    return torch.cat(parts)


class TestAdcBound:
    SPEC = cs.ChipSpec.preset("ideal").evolve(
        dac={"bits": None},
        adc={"kind": "uniform", "bits": 8, "bound": 0.05},
        **{"tile.rows": 12, "encoding.scale": "column"},
    )
    X = torch.randn(400, N_IN, generator=torch.Generator().manual_seed(3))

    def layers(self):
        torch.manual_seed(1)
        return nn.Sequential(nn.Linear(N_IN, 30), nn.Tanh(), nn.Linear(30, 12, bias=False)).eval()

    def expected(self, share):
        with torch.no_grad():
            layers = self.layers().double()
            hidden = layers[:2](self.X.double())
            first = column_outputs(self.X.double(), layers[0].weight, 12)
            second = column_outputs(hidden, layers[2].weight, 10)
            values = torch.cat([first.flatten(), second.flatten()])[:, None].numpy()
        return saturation_bound(values, share)

    @pytest.mark.parametrize("share", [0.0, 1e-4, 1e-2, 0.3])
    def test_the_smallest_bound_that_keeps_the_budget(self, share):
        """Even though the present bound of 0.05 would saturate nearly everything."""
        mapped = cs.map_model(self.layers(), self.SPEC)
        spec = cs.calibrate_adc_bound(mapped, [self.X[:100], self.X[100:]], share)
        assert spec == self.SPEC.evolve(**{"adc.bound": spec.adc.bound})
        assert 1 - 1e-6 <= spec.adc.bound / self.expected(share) < 1.001 + 1e-6

    def test_a_chip_with_it_saturates_as_seldom(self):
        for spec in (PCM, PCM.evolve(dac={"encoding": "bit_serial"}), PCM.evolve(dac={"phases": 4})):
            spec = cs.calibrate_adc_bound(cs.map_model(self.layers(), spec), [self.X], 0.01)
            mapped = cs.map_model(self.layers(), spec)
            with torch.no_grad():
                mapped(self.X)
            summary = mapped.chip.summary()
            # outputs up to half a step of 0.8 % beyond the bound still round to it
            assert 0.008 < summary.n_saturated / summary.n_outputs <= 0.0101

    def test_the_mapped_model_stays_as_it_is(self):
        mapped = cs.map_model(self.layers(), PCM)
        with torch.no_grad():
            mapped(self.X)
            before = str(mapped.chip.summary())
            cs.calibrate_adc_bound(mapped, [self.X])
            assert str(mapped.chip.summary()) == before
            other = cs.map_model(self.layers(), PCM)
            other(self.X)
            assert torch.equal(mapped(self.X), other(self.X))

    def test_only_layers_of_the_chip_count(self):
        wide = PCM.evolve(name="wide", **{"adc.bound": 77.0})
        alone = cs.calibrate_adc_bound(cs.map_model(self.layers(), self.SPEC, rules={"2": "digital"}), [self.X])
        both = cs.calibrate_adc_bound(cs.map_model(self.layers(), self.SPEC, rules={"2": wide}), [self.X])
        assert both == alone

    def test_every_layer_may_have_a_bound_of_its_own(self, tmp_path):
        rules = cs.calibrate_adc_bounds(cs.map_model(self.layers(), self.SPEC), [self.X], 0.01)
        alone = cs.calibrate_adc_bound(cs.map_model(self.layers(), self.SPEC, rules={"2": "digital"}), [self.X], 0.01)
        assert list(rules) == ["0", "2"]
        assert rules["0"] == alone
        assert rules["2"].adc.bound != alone.adc.bound
        mapped = cs.map_model(self.layers(), self.SPEC, rules=rules)
        with torch.no_grad():
            mapped(self.X)
            for programmed in mapped.chip.matrices.values():
                assert 0 < programmed.matrix.n_saturated / programmed.matrix.n_outputs <= 0.0101
            mapped.chip.save(tmp_path / "chip")
            assert torch.equal(cs.load_chip(tmp_path / "chip", self.layers())(self.X), mapped(self.X))
        bounds = sorted(spec.adc.bound for spec in rules.values())
        assert f"bound {bounds[0]:g} to {bounds[1]:g}" in str(mapped.chip.summary())

    @pytest.mark.parametrize(
        ("spec", "options", "text"),
        [
            (PCM.evolve(adc=None), {}, "chip.adc: is off"),
            (PCM.evolve(output_stage={"s_shape": {"compression": 0.1}}), {}, "chip.output_stage: counts in the bound"),
            (PCM, {"share": 1.0}, "share = 1.0: must be at least 0 and below 1"),
            (PCM, {"share": float("nan")}, "share = nan: must be at least 0 and below 1"),
            (PCM, {"calibration_data": []}, "calibration_data: is empty"),
            (PCM, {"calibration_data": [torch.full((2, N_IN), torch.nan)]}, "calibration_data: the input of 0 is not"),
            (cs.ChipSpec.preset("ideal").evolve(dac={"bits": 8}, adc="uniform"),
             {"calibration_data": [torch.zeros(2, N_IN)]}, "share = 0.0001: gives a bound of 0"),
        ],
    )  # fmt: skip
    def test_refused(self, spec, options, text):
        mapped = cs.map_model(nn.Sequential(nn.Linear(N_IN, 4, bias=False)), spec)
        with pytest.raises(cs.UsageError) as error:
            cs.calibrate_adc_bound(mapped, **{"calibration_data": [self.X], **options})
        assert str(error.value).startswith(text)
        assert not mapped[0]._forward_pre_hooks

    def test_a_model_that_is_not_mapped(self):
        with pytest.raises(cs.UsageError, match="mapped = Sequential: must be a model from map_model"):
            cs.calibrate_adc_bound(self.layers(), [self.X])
