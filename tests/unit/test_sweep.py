"""Sweeps: the table they give, and that neither order nor interruption changes it."""

import errno
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest
import torch
from torch import nn

import crossbar_sim as cs
from crossbar_sim.study import sweep as sweep_module
from crossbar_sim.study.ledger import Ledger, Row

PCM = cs.ChipSpec.preset("pcm_1m")
HERMES = cs.ChipSpec.preset("hermes_2d")
COLUMNS = ["chip", "device", "seed", "time_s", "metric", "value", "digital"]


class Tiny(nn.Module):
    """A next-token model of two layers; imported by the child process below as well."""

    def __init__(self, seed=0):
        super().__init__()
        torch.manual_seed(seed)
        self.embedding, self.norm = nn.Embedding(26, 16), nn.LayerNorm(16)
        self.up, self.head = nn.Linear(16, 32), nn.Linear(32, 26)

    def forward(self, input_ids, attention_mask=None, use_cache=None):
        return SimpleNamespace(logits=self.head(torch.relu(self.up(self.norm(self.embedding(input_ids))))))


def tokenizer(text, **_):
    return {"input_ids": [ord(letter) - ord("a") for letter in text if letter.isalpha()]}


TEXT = "sphinx of black quartz judge my vow pack my box with five dozen liquor jugs"
METRICS = [cs.Perplexity(TEXT, 20), cs.KLToDigital(TEXT, 20)]


def run(out=None, *, model=None, chip=(PCM, HERMES), times=("1s", "1d"), seeds=(0, 1), metrics=METRICS, **options):
    return cs.sweep(model or Tiny().eval(), list(chip), times, seeds, metrics, out=out, tokenizer=tokenizer, **options)


@pytest.fixture(scope="module")
def undisturbed():
    """The sweep that most tests below interrupt or take apart."""
    return run().frame


def same(first, second):
    pd.testing.assert_frame_equal(first, second, check_exact=True)
    return True


def count_evaluations(monkeypatch):
    calls = []
    real = sweep_module.evaluate
    monkeypatch.setattr(sweep_module, "evaluate", lambda *args: calls.append(args) or real(*args))
    return calls


class TestTable:
    def test_rows(self, undisturbed):
        assert list(undisturbed.columns) == COLUMNS
        assert len(undisturbed) == 2 * 2 * 2 * 2
        keys = undisturbed[["chip", "seed", "time_s", "metric"]]
        assert not keys.duplicated().any()
        assert [str(kind) for kind in undisturbed.dtypes[["seed", "time_s", "value", "digital"]]] == [
            "int64",
            "float64",
            "float64",
            "float64",
        ]
        assert set(undisturbed["time_s"]) == {1.0, 86400.0}

    def test_values_are_those_of_single_measurements(self, undisturbed):
        model = Tiny().eval()
        digital = cs.evaluate(model, METRICS[:1], tokenizer)["perplexity"]
        for row in undisturbed[undisturbed["metric"] == "perplexity"].itertuples():
            mapped = cs.map_model(model, {"pcm_1m": PCM, "hermes_2d": HERMES}[row.chip], seed=row.seed)
            mapped.chip.set_time(row.time_s)
            assert cs.evaluate(mapped, METRICS[:1], tokenizer)["perplexity"] == row.value
            assert row.digital == digital

    def test_divergence_grows_with_time(self, undisturbed):
        kl = undisturbed[undisturbed["metric"] == "kl_to_digital"].groupby("time_s")["value"].mean()
        assert 0 < kl[1.0] < kl[86400.0]

    def test_texts(self):
        result = run(times=[0, "1s", "1y"], chip=[PCM])
        table = result.table()
        assert list(table.columns) == ["digital", "0s", "1s", "1y"]
        assert list(table.index) == [("perplexity", "pcm_1m"), ("kl_to_digital", "pcm_1m")]
        values = result.frame.query("metric == 'perplexity' and time_s == 1")["value"]
        assert table.loc[("perplexity", "pcm_1m"), "1s"] == f"{values.mean():.4g} ± {values.std():.2g}"
        assert "±" not in run(chip=[PCM], seeds=[0]).table().loc[("perplexity", "pcm_1m"), "1s"]

    def test_model_is_left_alone(self):
        model = Tiny().eval()
        before = {key: value.clone() for key, value in model.state_dict().items()}
        run(model=model)
        assert not hasattr(model, "chip")
        assert type(model.up) is nn.Linear
        assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())

    def test_plot_writes_a_picture(self, tmp_path):
        path = run(times=[0, "1s"], chip=[PCM]).plot(tmp_path / "folder" / "plot.png")
        assert path.read_bytes().startswith(b"\x89PNG\r\n")


class TestOrder:
    @pytest.mark.parametrize(
        "options",
        [{"times": ("1d", "1s")}, {"seeds": (1, 0)}, {"chip": (HERMES, PCM)}, {"metrics": METRICS[::-1]}],
        ids=["times", "seeds", "chips", "metrics"],
    )
    def test_order_does_not_matter(self, undisturbed, options):
        keys = ["chip", "seed", "time_s", "metric"]
        found = run(**options).frame.sort_values(keys, ignore_index=True)
        assert same(found, undisturbed.sort_values(keys, ignore_index=True))

    def test_one_cell_at_a_time(self, undisturbed):
        cells = [run(chip=[c], seeds=[s], times=[t]).frame for c in (PCM, HERMES) for s in (0, 1) for t in ("1s", "1d")]
        assert same(pd.concat(cells, ignore_index=True), undisturbed)

    def test_times_are_sorted(self):
        assert run(chip=[PCM], times=("1d", 0, "1h"), seeds=[0]).frame["time_s"].tolist() == [
            *[0.0] * 2,
            *[3600.0] * 2,
            *[86400.0] * 2,
        ]


class TestOnDisk:
    def test_table_is_the_frame(self, tmp_path, undisturbed):
        assert same(run(tmp_path).frame, undisturbed)
        first, *rows = (tmp_path / "results.csv").read_text().splitlines()
        assert first == ",".join(COLUMNS)
        assert rows == [",".join(map(str, row)) for row in undisturbed.itertuples(index=False)]

    def test_again_computes_nothing(self, tmp_path, undisturbed, monkeypatch):
        run(tmp_path)
        before = (tmp_path / "results.csv").read_bytes()
        calls = count_evaluations(monkeypatch)
        assert same(run(tmp_path).frame, undisturbed)
        assert calls == []
        assert (tmp_path / "results.csv").read_bytes() == before

    def test_more_seeds_and_times_go_on(self, tmp_path, undisturbed, monkeypatch):
        run(tmp_path, times=["1s"], seeds=[1])
        calls = count_evaluations(monkeypatch)
        assert same(run(tmp_path).frame, undisturbed)
        assert len(calls) == 1 + 6  # the digital model and what was missing
        assert len(run(tmp_path, times=["1d"], seeds=[0]).frame) == 4

    @pytest.mark.parametrize("cut", [1, 2, 7, 30, 75, 150, 400])
    def test_goes_on_after_a_cut_within_a_line(self, tmp_path, undisturbed, cut):
        """As a process leaves the file that is killed while it writes."""
        run(tmp_path)
        path = tmp_path / "results.csv"
        path.write_bytes(path.read_bytes()[:-cut])
        assert same(run(tmp_path).frame, undisturbed)
        rows = path.read_text().splitlines()
        assert rows[0] == ",".join(COLUMNS)
        assert len(set(rows)) == 17
        assert same(run(tmp_path).frame, undisturbed)

    def test_goes_on_after_a_kill(self, tmp_path, undisturbed):
        script = (
            "import sys, time; sys.path.insert(0, sys.argv[1]); import test_sweep as t\n"
            "real = t.sweep_module.evaluate\n"
            "t.sweep_module.evaluate = lambda *a: (time.sleep(0.1), real(*a))[1]\n"
            "t.run(sys.argv[2])\n"
        )
        out = tmp_path / "out"
        child = subprocess.Popen([sys.executable, "-c", script, str(Path(__file__).parent), str(out)])
        try:
            deadline = time.monotonic() + 120
            while not (out / "results.csv").exists() or (out / "results.csv").read_bytes().count(b"\n") < 4:
                assert child.poll() is None, "the child ended by itself"
                assert time.monotonic() < deadline
                time.sleep(0.01)
        finally:
            child.kill()
            child.wait()
        assert child.returncode == -signal.SIGKILL
        assert (out / "results.csv").read_bytes().count(b"\n") < 17
        assert same(run(out).frame, undisturbed)

    def test_full_disk_keeps_what_was_computed(self, tmp_path, undisturbed, monkeypatch):
        real, calls = os.fsync, []

        def fsync(number):
            calls.append(number)
            if len(calls) == 4:
                raise OSError(errno.ENOSPC, "No space left on device")
            real(number)

        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", fsync)
            with pytest.raises(cs.StoreError) as error:
                run(tmp_path)
        path = tmp_path / "results.csv"
        assert str(error.value) == (
            f"{path}: cannot be written: No space left on device; what was computed before is kept"
        )
        assert len(path.read_text().splitlines()) == 1 + 2 * 2
        assert same(run(tmp_path).frame, undisturbed)

    @pytest.mark.parametrize("room", [3, 40, 58])
    def test_file_that_takes_only_part_of_a_row(self, tmp_path, room):
        """A real refusal of the system: the file may not grow beyond a limit that lies within a row."""
        rows = [Row("chip", 0, 0, 1.0, "perplexity", 12.345678901234567, 10.0), Row("chip", 0, 0, 1.0, "kl", 0.5, 0.0)]
        ledger = Ledger(tmp_path, {})
        ledger.append(rows)
        before = ledger.table.read_bytes()
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + room, hard))
        try:
            with pytest.raises(cs.StoreError, match=r"cannot be written: .*; what was computed before is kept"):
                ledger.append(rows)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert ledger.table.read_bytes() == before
        assert ledger.rows == rows
        ledger.append(rows)
        assert Ledger(tmp_path, {}).rows == rows * 2

    def test_numbers_keep_every_bit(self, tmp_path):
        values = (0.1 + 0.2, 1e-300, 123456789.123456789, float("inf"))
        rows = [Row('a "chip", named', 3, 2**40, t, "m", v, -v) for t, v in enumerate(values)]
        Ledger(tmp_path, {}).append(rows)
        assert Ledger(tmp_path, {}).rows == rows

    def test_further_chips_may_join(self, tmp_path, undisturbed):
        run(tmp_path, chip=[PCM])
        assert same(run(tmp_path).frame, undisturbed)


class TestSeedsOfAScenario:
    SCENARIOS = (cs.Scenario("all", PCM), cs.Scenario("one", HERMES, seeds=[1]))

    def test_each_line_has_its_own(self, undisturbed):
        frame = run(chip=self.SCENARIOS).frame
        assert sorted(set(zip(frame["chip"], frame["seed"], strict=True))) == [("all", 0), ("all", 1), ("one", 1)]
        expected = undisturbed.query("chip == 'pcm_1m' or seed == 1").replace({"pcm_1m": "all", "hermes_2d": "one"})
        assert same(frame, expected.reset_index(drop=True))

    def test_more_of_them_go_on(self, tmp_path, monkeypatch):
        run(tmp_path, chip=self.SCENARIOS)
        calls = count_evaluations(monkeypatch)
        more = run(tmp_path, chip=[self.SCENARIOS[0], cs.Scenario("one", HERMES, seeds=[0, 1])]).frame
        assert len(calls) == 1 + 2  # the digital model and two times of seed 0
        assert same(more, run(chip=[self.SCENARIOS[0], cs.Scenario("one", HERMES)]).frame)

    @pytest.mark.parametrize(
        ("seeds", "text"),
        [
            ([], "chip 'one': seeds: give at least one"),
            ([2, 2], "chip 'one': seeds: 2 appears more than once"),
            ([1.5], "seed = 1.5: must be a whole number >= 0"),
        ],
    )
    def test_refused(self, seeds, text):
        with pytest.raises(cs.UsageError) as error:
            run(chip=[cs.Scenario("one", PCM, seeds=seeds)])
        assert str(error.value) == text

    def test_times_of_its_own(self, undisturbed):
        late = sorted(set(undisturbed["time_s"]))[-1]
        result = run(chip=[cs.Scenario("all", PCM), cs.Scenario("late", PCM, times=[late])])
        own = result.frame.query("chip == 'late'").reset_index(drop=True)
        expected = undisturbed.query(f"chip == 'pcm_1m' and time_s == {late}").replace({"pcm_1m": "late"})
        assert same(own, expected.reset_index(drop=True))
        assert result.table().loc[("perplexity", "late")].tolist().count("-") == undisturbed["time_s"].nunique() - 1
        with pytest.raises(cs.UsageError, match=r"chip 'late': times: give at least one"):
            run(chip=[cs.Scenario("late", PCM, times=[])])


def test_single_arguments_need_no_list():
    result = cs.sweep(Tiny().eval(), PCM, "1h", metrics=METRICS[0], tokenizer=tokenizer)
    assert result.frame[["chip", "seed", "time_s", "metric"]].values.tolist() == [["pcm_1m", 0, 3600.0, "perplexity"]]


def test_chip_without_time():
    """Time changes nothing on an ideal chip; the sweep says so once per change."""
    with pytest.warns(cs.InertOptionWarning, match="do not change with time"):
        frame = run(chip=[cs.ChipSpec.preset("ideal")], seeds=[0]).frame
    kl = frame[frame["metric"] == "kl_to_digital"]["value"]
    assert kl.abs().max() < 1e-6
