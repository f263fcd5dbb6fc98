"""Lines of a sweep: their rules, their devices, and what makes them the same."""

import json

import pytest
import torch
from test_sweep import HERMES, METRICS, PCM, count_evaluations, run, same

import crossbar_sim as cs


def test_scenarios_bring_their_rules(tmp_path):
    scenarios = [cs.Scenario("all", PCM), cs.Scenario("digital head", PCM, {"head": "digital"})]
    frame = run(chip=scenarios, times=["1y"]).frame
    assert list(dict.fromkeys(frame["chip"])) == ["all", "digital head"]
    kl = frame[frame["metric"] == "kl_to_digital"].groupby("chip")["value"].mean()
    assert kl["digital head"] < kl["all"]


class TestDevices:
    """Several devices in place of the chip's: the uncertainty of a fit beside that of chips."""

    DEVICES = tuple(PCM.device.evolve(program_scale=scale) for scale in (0.5, 1.0, 4.0))
    FITTED = cs.Scenario("fitted", PCM, devices=DEVICES)

    def test_each_device_is_a_chip_of_its_own(self):
        frame = run(chip=[self.FITTED]).frame
        assert len(frame) == 3 * 2 * 2 * 2
        assert [str(kind) for kind in frame.dtypes[["device", "seed"]]] == ["int64", "int64"]
        for index, device in enumerate(self.DEVICES):
            own = frame[frame["device"] == index].drop(columns="device").reset_index(drop=True)
            alone = run(chip=[cs.Scenario("fitted", PCM.evolve(device=device))]).frame
            assert set(alone["device"]) == {0}
            assert same(own, alone.drop(columns="device"))

    def test_goes_on_with_further_devices(self, tmp_path, monkeypatch):
        run(tmp_path, chip=[cs.Scenario("fitted", PCM, devices=self.DEVICES[:2])])
        calls = count_evaluations(monkeypatch)
        more = run(tmp_path, chip=[self.FITTED]).frame
        assert len(calls) == 1 + 4  # the digital model, and two seeds and times of the third device
        assert same(more, run(chip=[self.FITTED]).frame)
        with pytest.raises(cs.StoreError, match="holds a sweep with another chip 'fitted', device 0"):
            run(tmp_path, chip=[cs.Scenario("fitted", PCM, devices=self.DEVICES[1:])])

    def test_table_tells_chips_and_fit_apart(self):
        result = run(chip=[self.FITTED], times=["1s"], metrics=METRICS[:1])
        values = result.frame.pivot(index="seed", columns="device", values="value").to_numpy()
        chips, fit = values.var(axis=0, ddof=1).mean() ** 0.5, values.mean(axis=0).std(ddof=1)
        assert result.table().iloc[0]["1s"] == f"{values.mean():.4g} ± {chips:.2g} ± {fit:.2g} (fit)"

    @pytest.mark.parametrize(
        ("devices", "text"),
        [
            ([], "chip 'one': devices: give at least one, or none at all"),
            (["pcm_1m"], "chip 'one': devices: 'pcm_1m' must be a device"),
        ],
    )
    def test_refused(self, devices, text):
        with pytest.raises(cs.UsageError) as error:
            run(chip=[cs.Scenario("one", PCM, devices=devices)])
        assert str(error.value) == text


def test_what_a_scenario_is():
    """Everything that changes its numbers: the order of rules, too, and how calibration data are cut."""
    data = torch.arange(8)
    scenarios = [
        cs.Scenario("s", PCM, {"u*": HERMES, "*p": "digital"}),
        cs.Scenario("s", PCM, {"*p": "digital", "u*": HERMES}),
        cs.Scenario("s", PCM, {None: HERMES}),
        cs.Scenario("s", PCM, {"None": HERMES}),
        cs.Scenario("s", PCM, calibration_data=[data.view(2, 4)]),
        cs.Scenario("s", PCM, calibration_data=[data.view(1, 8)]),
        cs.Scenario("s", PCM, calibration_data=[{"a": data, "b": data}]),
        cs.Scenario("s", PCM, calibration_data=[{"b": data, "c": data}]),
    ]
    identities = [json.dumps(scenario.identity(), sort_keys=True) for scenario in scenarios]
    assert len(set(identities)) == len(scenarios)
