"""Chips in use: compensation renewed and devices written anew at fixed periods, on the chip and in sweeps."""

import json

import pandas as pd
import pytest
import torch
from test_sweep import METRICS, PCM, Tiny, count_evaluations, run, same, tokenizer

import crossbar_sim as cs
from crossbar_sim.study.schedule import Moment, Schedule

DAY, MONTH = 86400.0, 30 * 86400.0


def kl(frame, chip):
    rows = frame[(frame["metric"] == "kl_to_digital") & (frame["chip"] == chip)]
    return rows.groupby("time_s")["value"].mean()


def make(spec=PCM, seed=0):
    return cs.map_model(Tiny().eval(), spec, seed)


def state(mapped):
    """Devices and correction of both layers."""
    found = []
    for programmed in mapped.chip.matrices.values():
        matrix = programmed.matrix
        found.append((torch.cat(matrix.effective, 1), torch.cat(matrix.variance, 1).float(), matrix.drift_factor))
    return found


def equal(first, second):
    return [[torch.equal(a, b) for a, b in zip(*pair, strict=True)] for pair in zip(first, second, strict=True)]


@pytest.mark.parametrize(
    ("refresh", "reprogram", "t_s", "moment"),
    [
        (None, None, 5 * DAY, (0, 5 * DAY, None)),
        ("1d", None, 0.0, (0, 0.0, 0.0)),
        ("1d", None, 5.5 * DAY, (0, 5.5 * DAY, 5 * DAY)),
        ("1d", None, 5 * DAY, (0, 5 * DAY, 5 * DAY)),
        (None, "30d", 29 * DAY, (0, 29 * DAY, None)),
        (None, "30d", 30 * DAY, (1, 0.0, None)),
        ("1d", "30d", 91.5 * DAY, (3, 1.5 * DAY, DAY)),
        ("20d", "30d", 59 * DAY, (1, 29 * DAY, 20 * DAY)),
        (None, 0.1, 0.3, (3, 0.0, None)),
        (0.1, None, 0.3, (0, 0.3, 0.3)),
    ],
)
def test_moments(refresh, reprogram, t_s, moment):
    found = Schedule.of(refresh, reprogram).at(t_s)
    assert found.write == moment[0]
    assert found == Moment(moment[0], pytest.approx(moment[1], abs=1e-12), found.compensated_s)
    assert found.compensated_s == (moment[2] if moment[2] is None else pytest.approx(moment[2], abs=1e-12))
    assert found.compensated_s is None or found.compensated_s <= found.age_s


class TestChip:
    def test_a_compensation_of_an_earlier_time(self):
        late, early = make(), make()
        late.chip.set_time("30d", compensated_at="1d")
        early.chip.set_time("1d")
        assert equal(state(late), state(early)) == [[False, False, True]] * 2
        early.chip.set_time("30d")
        assert equal(state(late), state(early)) == [[True, True, False]] * 2
        late.chip.set_time("30d", compensated_at="30d")
        assert equal(state(late), state(early)) == [[True, True, True]] * 2

    def test_each_writing_is_drawn_anew_and_comes_back(self):
        mapped, other = make(), make()
        first = state(mapped)
        mapped.chip.reprogram(write=1)
        second = state(mapped)
        assert equal(first, second) == [[False, False, True]] * 2  # no correction right after programming
        mapped.chip.set_time("1d")
        mapped.chip.reprogram(write=2)
        assert not any(e[0] for e in equal(second, state(mapped)))
        mapped.chip.reprogram(write=1)
        assert equal(second, state(mapped)) == [[True] * 3] * 2
        mapped.chip.reprogram()
        assert equal(first, state(mapped)) == [[True] * 3] * 2
        other.chip.reprogram(3, write=1)
        assert not any(e[0] for e in equal(second, state(other)))

    def test_errors_of_two_writings_are_independent(self):
        """Correlation of 20 000 programming errors: 0 within 4 standard errors of 0.007."""
        torch.manual_seed(0)
        layer = torch.nn.Sequential(torch.nn.Linear(200, 100))
        mapped = cs.map_model(layer, PCM.evolve(read_noise=None, compensation=None))
        matrix = mapped.chip.matrices["0"].matrix
        target = layer[0].weight.detach() / matrix.w_max[0][:, None]
        errors = [torch.cat(matrix.effective, 1) - target]
        mapped.chip.reprogram(write=1)
        errors.append(torch.cat(matrix.effective, 1) - target)
        correlation = torch.corrcoef(torch.stack([e.flatten() for e in errors]))[0, 1]
        assert abs(float(correlation)) < 4 * 20_000**-0.5
        assert float(errors[1].std()) == pytest.approx(float(errors[0].std()), rel=4 * (2 * 20_000) ** -0.5)

    def test_stuck_devices_and_converters_stay(self):
        stuck = {"kind": "ideal", "faults": {"p_reset": 0.1, "p_set": 0.05}}
        mapped = make(PCM.evolve(device=stuck, adc={"kind": "uniform", "gain_sd": 0.05}))
        matrix = mapped.chip.matrices["up"].matrix
        first, gains = [part.clone() for part in matrix.effective], matrix.readouts[0].errors
        mapped.chip.reprogram(write=1)
        assert all(map(torch.equal, first, matrix.effective))
        assert (matrix.readouts[0].errors.gain == gains.gain).all()

    def test_saved_and_loaded(self, tmp_path):
        mapped = make(seed=4)
        mapped.chip.reprogram(write=7)
        mapped.chip.set_time("30d", compensated_at="1d")
        loaded = cs.load_chip(mapped.chip.save(tmp_path / "chip"), Tiny().eval())
        assert equal(state(mapped), state(loaded)) == [[True] * 3] * 2
        assert loaded.chip.write == 7
        for model in (mapped, loaded):
            model.double()
        assert equal(state(mapped), state(loaded)) == [[True] * 3] * 2
        straight = cs.map_model(Tiny().double().eval(), PCM, 4)
        straight.chip.reprogram(write=7)
        straight.chip.set_time("30d", compensated_at="1d")
        assert equal(state(straight), state(loaded)) == [[True] * 3] * 2

    @pytest.mark.parametrize(
        ("call", "text"),
        [
            (lambda chip: chip.set_time("1d", "2d"), "compensated_at = '2d': must not be later than time = '1d'"),
            (lambda chip: chip.set_time("1d", -1), "compensated_at = -1: must be >= 0 s"),
            (lambda chip: chip.reprogram(write=-1), "write = -1: must be a whole number >= 0"),
            (lambda chip: chip.reprogram(write=0.5), "write = 0.5: must be a whole number >= 0"),
        ],
    )
    def test_refused(self, call, text):
        with pytest.raises(cs.UsageError) as error:
            call(make().chip)
        assert str(error.value).startswith(text)

    def test_nothing_to_keep(self):
        with pytest.raises(cs.UsageError, match="compensated_at = '1h': the compensation is off"):
            make(PCM.evolve(compensation=None)).chip.set_time("1d", "1h")


NEVER = cs.Scenario("never", PCM)
DAILY = cs.Scenario("daily", PCM, refresh="1d")
MONTHLY = cs.Scenario("monthly", PCM, refresh="1d", reprogram="30d")
TIMES = ("1h", "1.5d", "31.5d", "1y")


@pytest.fixture(scope="module")
def undisturbed():
    return run(chip=(NEVER, DAILY, MONTHLY), times=TIMES).frame


class TestSweep:
    def test_values_are_those_of_single_measurements(self, undisturbed):
        places = {  # write, age, time of the compensation
            "daily": {3600.0: (0, 3600.0, 0), 1.5 * DAY: (0, 1.5 * DAY, DAY), 31.5 * DAY: (0, 31.5 * DAY, 31 * DAY)},
            "monthly": {3600.0: (0, 3600.0, 0), 31.5 * DAY: (1, 1.5 * DAY, DAY), 365 * DAY: (12, 5 * DAY, 5 * DAY)},
        }
        for chip, by_time in places.items():
            for t_s, (write, age_s, compensated_s) in by_time.items():
                mapped = make(seed=1)
                mapped.chip.reprogram(write=write)
                mapped.chip.set_time(age_s, compensated_at=compensated_s)
                value = cs.evaluate(mapped, METRICS[:1], tokenizer)["perplexity"]
                row = undisturbed.set_index(["chip", "seed", "time_s", "metric"]).loc[(chip, 1, t_s, "perplexity")]
                assert row["value"] == value

    def test_what_each_does(self, undisturbed):
        never, daily, monthly = (kl(undisturbed, chip) for chip in ("never", "daily", "monthly"))
        # an hour after programming the compensation is that of time 0 in place of the present one
        assert daily[3600.0] > 1.2 * never[3600.0]
        assert daily[365 * DAY] == never[365 * DAY]  # a whole number of days
        assert monthly[365 * DAY] < 0.9 * never[365 * DAY]

    def test_order_does_not_matter(self, undisturbed):
        cells = [
            run(chip=[scenario], seeds=[seed], times=[t]).frame
            for scenario in (NEVER, DAILY, MONTHLY)
            for seed in (0, 1)
            for t in TIMES
        ]
        assert same(pd.concat(cells, ignore_index=True), undisturbed)

    def test_again_computes_nothing(self, tmp_path, undisturbed, monkeypatch):
        run(tmp_path, chip=[MONTHLY], times=TIMES[:2])
        calls = count_evaluations(monkeypatch)
        frame = run(tmp_path, chip=[NEVER, cs.Scenario("daily", PCM, refresh=DAY), MONTHLY], times=TIMES).frame
        assert same(frame, undisturbed)
        assert len(calls) == 1 + 24 - 4
        assert same(run(tmp_path, chip=[NEVER, DAILY, MONTHLY], times=TIMES).frame, undisturbed)
        assert len(calls) == 1 + 24 - 4

    def test_identity(self):
        scenarios = [NEVER, DAILY, MONTHLY, cs.Scenario("s", PCM, reprogram="1d"), cs.Scenario("s", PCM, refresh="2d")]
        assert len({json.dumps(scenario.identity()) for scenario in scenarios}) == len(scenarios)
        assert cs.Scenario("s", PCM, refresh=DAY, seeds=[3]).identity() == DAILY.identity()

    def test_another_schedule_is_another_chip(self, tmp_path):
        run(tmp_path, chip=[DAILY], times=["1s"], seeds=[0])
        with pytest.raises(cs.StoreError, match="holds a sweep with another chip 'daily'"):
            run(tmp_path, chip=[cs.Scenario("daily", PCM, refresh="2d")], times=["1s"], seeds=[0])

    def test_times_beyond_the_measurements_of_a_device(self):
        """Devices that are written anew in time never grow so old."""
        sonos = PCM.evolve(device="sonos")
        frame = run(chip=[cs.Scenario("s", sonos, reprogram="4d")], times=["30d"], seeds=[0]).frame
        assert len(frame) == 2

    @pytest.mark.parametrize(
        ("scenario", "text"),
        [
            (cs.Scenario("s", PCM, refresh=0), "chip 's': refresh = 0: must be above 0 s, or None"),
            (cs.Scenario("s", PCM, reprogram="0s"), "chip 's': reprogram = '0s': must be above 0 s, or None"),
            (cs.Scenario("s", PCM, reprogram="1 month"), "chip 's': reprogram = '1 month': must be a number of"),
            (cs.Scenario("s", PCM, refresh=float("nan")), "chip 's': refresh = nan: must be"),
            (
                cs.Scenario("s", PCM.evolve(compensation=None), refresh="1d"),
                "chip 's': refresh = '1d': the compensation is off",
            ),
        ],
    )
    def test_refused_before_the_work(self, monkeypatch, scenario, text):
        calls = count_evaluations(monkeypatch)
        with pytest.raises(cs.UsageError) as error:
            run(chip=[scenario])
        assert str(error.value).startswith(text)
        assert calls == []
