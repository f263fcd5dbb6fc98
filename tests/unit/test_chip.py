"""Chip: its clock, its identity and its compensation."""

import numpy as np
import pytest
import torch
from torch import nn

import crossbar_sim as cs

PCM = cs.ChipSpec.preset("pcm_1m").evolve(**{"tile.rows": 24, "tile.cols": 20})
IDEAL = cs.ChipSpec.preset("ideal")
X = torch.randn(4, 40, generator=torch.Generator().manual_seed(7))


def make(chip=PCM, seed=0, **options):
    torch.manual_seed(0)
    return cs.map_model(nn.Sequential(nn.Linear(40, 30), nn.ReLU(), nn.Linear(30, 5)).eval(), chip, seed, **options)


def state(mapped):
    """Everything that the devices and their compensation are at present, as one list of tensors."""
    parts = []
    for programmed in mapped.chip.matrices.values():
        matrix = programmed.matrix
        parts += [*matrix.effective, *(matrix.variance or []), matrix.w_max, matrix.drift_factor]
    return [part.clone() for part in parts]


def same(first, second):
    return len(first) == len(second) and all(map(torch.equal, first, second))


def read(mapped):
    with torch.no_grad():
        return mapped(X)


class TestTime:
    @pytest.mark.parametrize(
        ("t", "t_s"),
        [("1h", 3600.0), ("30d", 2592000.0), ("1y", 31536000.0), ("250ms", 0.25), ("1.5e3 s", 1500.0), (7, 7.0)],
    )
    def test_texts(self, t, t_s):
        chip = make().chip
        assert chip.time_s == 0
        chip.set_time(t)
        assert chip.time_s == t_s
        assert {m.matrix.time_s for m in chip.matrices.values()} == {t_s}

    @pytest.mark.parametrize(
        ("t", "text"),
        [
            (-1, "time = -1: must be >= 0 s, because time counts from the end of programming"),
            ("-1h", 'time = \'-1h\': must be a number of seconds >= 0 or a text such as "20s", "1h", "30d", "1y"'),
            ("1 fortnight", "time = '1 fortnight': must be"),
            ("1H", "time = '1H': must be"),
            ("", "time = '': must be"),
            (float("nan"), "time = nan: must be"),
            (float("inf"), "time = inf: must be"),
            (True, "time = True: must be"),
            (None, "time = None: must be"),
        ],
    )
    def test_bad_times_change_nothing(self, t, text):
        mapped = make()
        before = state(mapped)
        with pytest.raises(cs.UsageError) as error:
            mapped.chip.set_time(t)
        assert str(error.value).startswith(text)
        assert mapped.chip.time_s == 0
        assert same(state(mapped), before)
        read(mapped)

    def test_way_does_not_matter(self):
        direct, roundabout = make(), make()
        direct.chip.set_time("1d")
        for t in ("1h", "1y", 0, "1s", "1d"):
            roundabout.chip.set_time(t)
        assert same(state(direct), state(roundabout))
        assert torch.equal(read(direct), read(roundabout))
        for t in (0, "1d"):
            roundabout.chip.set_time(t)
        roundabout.chip.reset_reads()
        direct.chip.reset_reads()
        assert torch.equal(read(direct), read(roundabout))

    def test_back_to_zero_is_just_after_programming(self):
        mapped = make()
        before = state(mapped)
        mapped.chip.set_time("1y")
        mapped.chip.set_time(0)
        assert same(state(mapped), before)

    def test_devices_drift_as_they_should(self):
        """Without errors but drift, conductances follow ((t + t0) / t0)^-nu; physics of pcm_1m at full scale."""
        chip = PCM.evolve(read_noise=None, **{"device.program_scale": 0.0, "device.nu_sigma_law": (0.0, 0.0, 0.0, 0.0)})
        mapped = make(chip)
        then, _ = mapped.chip.conductances("0")
        mapped.chip.set_time("1d")
        now, _ = mapped.chip.conductances("0")
        top = then > 20
        assert top.sum() > 3
        np.testing.assert_allclose(now[top] / then[top], (86420 / 20) ** -0.049, rtol=1e-5)

    @pytest.mark.parametrize("spec", [IDEAL, cs.ChipSpec.preset("afm_eval")], ids=lambda spec: spec.name)
    def test_time_that_changes_nothing_is_told(self, spec):
        mapped = make(spec)
        with pytest.warns(cs.InertOptionWarning) as warned:
            mapped.chip.set_time("1d")
        kind = spec.device.kind
        assert [str(w.message) for w in warned] == [
            f"chip.set_time('1d'): devices of kind {kind} do not change with time"
        ]
        assert mapped.chip.time_s == 86400
        mapped.chip.set_time("1d")  # no change of time, no warning

    def test_time_that_matters_to_one_layer_is_not_told(self):
        mapped = make(IDEAL, rules={"2": PCM})
        mapped.chip.set_time("1d")
        assert mapped.chip.time_s == 86400


class TestSeed:
    def test_reprogrammed_chip_is_a_fresh_one(self):
        mapped = make(seed=1)
        mapped.chip.set_time("1d")
        read(mapped)
        mapped.chip.reprogram(9)
        fresh = make(seed=9)
        assert mapped.chip.seed == 9
        assert mapped.chip.time_s == 0
        assert same(state(mapped), state(fresh))
        assert torch.equal(read(mapped), read(fresh))
        for chip in (mapped.chip, fresh.chip):
            chip.set_time("1y")
        assert same(state(mapped), state(fresh))
        assert torch.equal(read(mapped), read(fresh))

    def test_reprogramming_keeps_the_seed(self):
        mapped = make(seed=1)
        before = state(mapped)
        mapped.chip.set_time("1d")
        mapped.chip.reprogram()
        assert mapped.chip.seed == 1
        assert same(state(mapped), before)

    def test_another_seed_is_another_chip(self):
        one, other = (make(seed=s).chip.conductances("0")[0] for s in (1, 2))
        assert (one != other).mean() > 0.4  # of the devices above zero, none is like its twin

    @pytest.mark.parametrize("seed", [-1, True, 1.5, "1"])
    def test_bad_seed(self, seed):
        mapped = make(seed=1)
        with pytest.raises(cs.UsageError, match="must be a whole number >= 0"):
            mapped.chip.reprogram(seed)
        assert mapped.chip.seed == 1

    def test_bad_seed_leaves_the_chip_usable(self):
        mapped = make(seed=1)
        before = read(mapped)
        with pytest.raises(cs.UsageError):
            mapped.chip.reprogram(-1)
        mapped.chip.reset_reads()
        assert torch.equal(read(mapped), before)


class TestInterruption:
    """Ctrl-C while states are computed: nothing may be read that is half of one chip and half of another."""

    def interrupt(self, mapped, monkeypatch, call, where="2", at="matrix.age"):
        programmed = mapped.chip.matrices[where]

        def stop(*_):
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(
                programmed.matrix if at.startswith("matrix.") else programmed, at.removeprefix("matrix."), stop
            )
            with pytest.raises(KeyboardInterrupt):
                call()

    @pytest.mark.parametrize("where", ["0", "2"])
    def test_set_time(self, monkeypatch, where):
        mapped = make()
        self.interrupt(mapped, monkeypatch, lambda: mapped.chip.set_time("1d"), where)
        with pytest.raises(cs.StateError, match=r"chip.set_time was interrupted; call it again"):
            read(mapped)
        assert mapped.chip.time_s == 0
        mapped.chip.set_time("1d")
        direct = make()
        direct.chip.set_time("1d")
        assert same(state(mapped), state(direct))
        mapped.chip.reset_reads()
        assert torch.equal(read(mapped), read(direct))

    def test_set_time_and_back_to_where_it_was(self, monkeypatch):
        mapped = make()
        mapped.chip.set_time("1h")
        before = state(mapped)
        self.interrupt(mapped, monkeypatch, lambda: mapped.chip.set_time("1d"))
        mapped.chip.set_time("1h")
        assert same(state(mapped), before)

    def test_an_interrupted_chip_is_not_saved(self, monkeypatch, tmp_path):
        mapped = make()
        self.interrupt(mapped, monkeypatch, lambda: mapped.chip.set_time("1d"))
        with pytest.raises(cs.StateError, match="was interrupted"):
            mapped.chip.save(tmp_path / "chip")
        assert not (tmp_path / "chip").exists()

    @pytest.mark.parametrize("where", ["0", "2"])
    @pytest.mark.parametrize("at", ["matrix.age", "_reference_read"])
    @pytest.mark.parametrize(
        "call",
        [lambda chip: chip.reprogram(9), lambda chip: chip.compensate(None), lambda c: c.compensate(probe_vectors=9)],
        ids=["reprogram", "compensation off", "compensation"],
    )
    def test_other_calls(self, monkeypatch, call, at, where):
        """Called again, they end where one undisturbed call ends."""
        mapped, whole = make(), make()
        for model in (mapped, whole):
            model.chip.set_time("1y")
        self.interrupt(mapped, monkeypatch, lambda: call(mapped.chip), where, at)
        with pytest.raises(cs.StateError, match="was interrupted; call it again"):
            read(mapped)
        call(mapped.chip)
        call(whole.chip)
        assert same(state(mapped), state(whole))
        assert {m.matrix.time_s for m in mapped.chip.matrices.values()} == {mapped.chip.time_s}

    @pytest.mark.parametrize(
        ("first", "then"),
        [
            (lambda chip: chip.reprogram(9), lambda chip: chip.set_time("1d")),
            (lambda chip: chip.compensate(probe_vectors=9), lambda chip: chip.set_time("1d")),
            (lambda chip: chip.set_time("1d"), lambda chip: chip.compensate(probe_vectors=9)),
            (lambda chip: chip.reprogram(9), lambda chip: chip.compensate(None)),
        ],
        ids=["reprogram, time", "compensate, time", "time, compensate", "reprogram, compensate"],
    )
    def test_half_of_one_call_is_not_cured_by_another(self, monkeypatch, first, then):
        mapped = make(seed=1)
        self.interrupt(mapped, monkeypatch, lambda: first(mapped.chip))
        with pytest.raises(cs.StateError, match="was interrupted; call it again"):
            then(mapped.chip)
        with pytest.raises(cs.StateError, match="was interrupted; call it again"):
            read(mapped)


class TestCompensation:
    def test_switching_it_off_and_on(self):
        mapped, never = make(), make(PCM.evolve(compensation=None))
        for model in (mapped, never):
            model.chip.set_time("1y")
        with_it = state(mapped)
        mapped.chip.compensate(None)
        assert same(state(mapped), state(never))
        assert mapped.chip.time_s == 31536000
        mapped.chip.compensate("global")
        assert same(state(mapped), with_it)

    def test_it_stays_off_while_time_goes_on(self):
        mapped = make()
        mapped.chip.compensate(None)
        mapped.chip.set_time("1y")
        assert all((m.matrix.drift_factor == 1).all() for m in mapped.chip.matrices.values())

    def test_number_of_probes(self):
        mapped, other = make(), make(PCM.evolve(**{"compensation.probe_vectors": 7}))
        mapped.chip.set_time("1y")
        other.chip.set_time("1y")
        mapped.chip.compensate(probe_vectors=7)
        assert same(state(mapped), state(other))

    def test_amplitude_of_probes(self):
        mapped, other = make(), make(PCM.evolve(**{"compensation.probe_amplitude": 0.1}))
        half = make()
        for each in (mapped, other, half):
            each.chip.set_time("1y")
        mapped.chip.compensate(probe_amplitude=0.1)
        assert same(state(mapped), state(other))
        assert not same(state(mapped), state(half))

    def test_it_corrects_the_mean_of_what_drifted(self):
        """One factor per tile, close to the ratio of the outputs then and now."""
        chip = PCM.evolve(adc=None, read_noise=None)
        mapped = make(chip)
        matrix = mapped.chip.matrices["0"].matrix
        before = [part.clone() for part in matrix.effective]
        mapped.chip.set_time("1y")
        for k, (old, new) in enumerate(zip(before, matrix.effective, strict=True)):
            for start, stop in matrix.plan.cols:
                factors = matrix.drift_factor[k, start:stop]
                assert len(factors.unique()) == 1
                least_squares = (old * new)[start:stop].sum() / new[start:stop].square().sum()
                assert float(factors[0]) == pytest.approx(float(least_squares), rel=0.1)
                assert float(factors[0]) > 1.3

    @pytest.mark.parametrize("kind", ["local", "", True])
    def test_unknown_kind(self, kind):
        with pytest.raises(cs.UsageError) as error:
            make().chip.compensate(kind)
        assert str(error.value).startswith(f"kind = {kind!r}: must be global, column, affine or None")

    def test_bad_number_of_probes(self):
        with pytest.raises(cs.UsageError, match="probe_vectors = 0: must be at least 1"):
            make().chip.compensate(probe_vectors=0)

    @pytest.mark.parametrize("amplitude", [0.0, 1.5, True, "half"])
    def test_bad_amplitude_of_probes(self, amplitude):
        with pytest.raises(cs.SpecError, match=f"probe_amplitude = {amplitude!r}: must be"):
            make().chip.compensate(probe_amplitude=amplitude)

    @pytest.mark.parametrize(
        ("option", "value"), [("probe_vectors", 9), ("probe_amplitude", 0.2), ("reference", "exact")]
    )
    def test_options_of_a_compensation_that_is_switched_off(self, option, value):
        with pytest.raises(cs.UsageError) as error:
            make().chip.compensate(None, **{option: value})
        why = "cannot act, because kind = None switches the compensation off"
        assert str(error.value) == f"{option} = {value!r}: {why}"


def test_reads_differ_until_they_are_numbered_anew():
    mapped = make()
    mapped.chip.set_time("1d")
    first, second = read(mapped), read(mapped)
    mapped.chip.reset_reads()
    assert torch.equal(read(mapped), first)
    assert torch.equal(read(mapped), second)
    assert not torch.equal(first, second)
    assert {m.matrix.reads for m in mapped.chip.matrices.values()} == {2}
