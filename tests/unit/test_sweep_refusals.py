"""What a sweep refuses, and that it does so before the work."""

import pytest
import torch
from test_sweep import HERMES, METRICS, PCM, TEXT, Tiny, count_evaluations, run, tokenizer
from torch import nn

import crossbar_sim as cs


def other_linear(model):
    model.up.weight[0, 0] += 1e-6


def other_bias(model):
    model.head.bias[0] += 1


def other_embedding(model):
    model.embedding.weight[0, 0] += 1


class TestRefusals:
    @pytest.mark.parametrize(
        ("options", "name"),
        [
            ({"chip": [PCM.evolve(**{"dac.bits": 6})]}, "chip 'pcm_1m'"),
            ({"chip": [PCM], "rules": {"head": "digital"}}, "chip 'pcm_1m'"),
            ({"chip": [cs.Scenario("pcm_1m", PCM, {"up": HERMES})]}, "chip 'pcm_1m'"),
            ({"metrics": [cs.Perplexity(TEXT + "x", 20)]}, "metric 'perplexity'"),
            ({"metrics": [cs.Perplexity(TEXT, 10)]}, "metric 'perplexity'"),
            ({"metrics": [cs.KLToDigital(TEXT, 20, 1)]}, "metric 'kl_to_digital'"),
        ],
    )
    def test_folder_of_another_sweep(self, tmp_path, options, name):
        run(tmp_path, times=["1s"], seeds=[0])
        before = (tmp_path / "results.csv").read_bytes()
        with pytest.raises(cs.StoreError) as error:
            run(tmp_path, **{"times": ["1s"], "seeds": [0], **options})
        assert str(error.value) == f"{tmp_path}: holds a sweep with another {name}; choose another `out`"
        assert (tmp_path / "results.csv").read_bytes() == before

    @pytest.mark.parametrize("change", [other_linear, other_bias, other_embedding])
    def test_folder_of_another_model(self, tmp_path, change):
        run(tmp_path, times=["1s"], seeds=[0])
        model = Tiny().eval()
        with torch.no_grad():
            change(model)
        with pytest.raises(cs.StoreError, match="holds a sweep with another model; choose another `out`"):
            run(tmp_path, model=model, times=["1s"], seeds=[0])

    def test_other_calibration(self, tmp_path):
        chip = PCM.evolve(dac={"bits": 8, "range": {"kind": "calibrated"}})
        data = [torch.arange(20)[None]]
        run(tmp_path, chip=[chip], times=["1s"], seeds=[0], calibration_data=data)
        with pytest.raises(cs.StoreError, match="holds a sweep with another chip 'pcm_1m'"):
            run(tmp_path, chip=[chip], times=["1s"], seeds=[0], calibration_data=[torch.arange(1, 21)[None]])

    @pytest.mark.parametrize(
        ("name", "content", "text"),
        [
            ("sweep.json", b"{", "sweep.json: is damaged; remove the folder or choose another `out`"),
            ("sweep.json", b"[]", "sweep.json: is damaged; remove the folder or choose another `out`"),
            ("sweep.json", b'{"digests": []}', "sweep.json: is damaged; remove the folder or choose another `out`"),
            ("sweep.json", None, "results.csv: exists without sweep.json; choose another `out`"),
            ("results.csv", b"a,b\n", "results.csv, line 1: is not a row of a sweep: ['a', 'b']"),
            (
                "results.csv",
                b"chip,device,seed,time_s,metric,value,digital\npcm_1m,0,x,1.0,m,2.0,3.0\n",
                "results.csv, line 2: is not a row of a sweep: ['pcm_1m', '0', 'x', '1.0', 'm', '2.0', '3.0']",
            ),
            ("results.csv", b"chip,device,seed,time_s,metric,value,digital\n\xff\xfe\n", "results.csv"),
        ],
    )
    def test_damaged_folder(self, tmp_path, name, content, text):
        run(tmp_path, chip=[PCM], times=["1s"], seeds=[0])
        path = tmp_path / name
        path.unlink() if content is None else path.write_bytes(content)
        with pytest.raises(cs.StoreError) as error:
            run(tmp_path, chip=[PCM], times=["1s"], seeds=[0])
        assert text in str(error.value)
        assert "\n" not in str(error.value)

    @pytest.mark.parametrize("column", [5, 6])
    @pytest.mark.parametrize("first", [True, False])
    def test_two_values_of_one_row(self, tmp_path, column, first):
        run(tmp_path, chip=[PCM], times=["1s"], seeds=[0])
        path = tmp_path / "results.csv"
        head, row, *rest = path.read_text().splitlines()
        fields = row.split(",")
        fields[column] = "7.5"
        path.write_text("\n".join([head, *([",".join(fields), row] if first else [row, ",".join(fields)]), *rest, ""]))
        with pytest.raises(cs.StoreError, match=r"results.csv, line 3: gives another value of a row above"):
            run(tmp_path, chip=[PCM], times=["1s"], seeds=[0])

    def test_one_row_twice(self, tmp_path):
        first = run(tmp_path, chip=[PCM], times=["1s"], seeds=[0])
        path = tmp_path / "results.csv"
        path.write_text(path.read_text() + path.read_text().splitlines()[1] + "\n")
        assert run(tmp_path, chip=[PCM], times=["1s"], seeds=[0]).frame.equals(first.frame)

    @pytest.mark.parametrize(
        "options",
        [
            {"calibration_data": [torch.arange(20)[None]]},
            {"chip": [PCM.evolve(dac={"bits": 8, "range": {"kind": "calibrated"}})]},
            {"backend": "other"},
            {"state": "other"},
        ],
    )
    def test_what_is_refused_leaves_no_folder(self, tmp_path, options):
        with pytest.raises(cs.UsageError):
            run(tmp_path / "out", **{"chip": [PCM], "times": ["1s"], "seeds": [0], **options})
        assert not (tmp_path / "out").exists()

    def test_place_that_is_no_folder(self, tmp_path):
        (tmp_path / "file").write_text("in the way")
        with pytest.raises(cs.StoreError, match="cannot be written"):
            run(tmp_path / "file")

    @pytest.mark.parametrize(
        ("options", "text"),
        [
            ({"chip": []}, "chip: give at least one ChipSpec or Scenario"),
            ({"chip": ["pcm_1m"]}, "chip = 'pcm_1m': must be a ChipSpec or a Scenario"),
            ({"chip": [PCM, PCM]}, "chip names: 'pcm_1m' appears more than once"),
            ({"times": []}, "times: give at least one"),
            ({"times": ["1h", "60min"]}, "times: 3600.0 appears more than once"),
            ({"times": ["1 month"]}, "times = '1 month': must be"),
            ({"times": [-1]}, "times = -1: must be >= 0 s"),
            ({"seeds": []}, "seeds: give at least one"),
            ({"seeds": [3, 3]}, "seeds: 3 appears more than once"),
            ({"seeds": [-1]}, "seed = -1: must be a whole number >= 0"),
            ({"metrics": []}, "metrics: give at least one"),
            ({"metrics": METRICS[:1] * 2}, "metrics: perplexity appears more than once"),
            (
                {"chip": [cs.Scenario("a", PCM)], "rules": {"up": "digital"}},
                "rules, calibration_data: a Scenario brings its own; give them there",
            ),
        ],
    )
    def test_bad_arguments(self, options, text):
        with pytest.raises(cs.UsageError) as error:
            run(**options)
        assert str(error.value).startswith(text)

    @pytest.mark.parametrize(
        ("name", "values", "text"),
        [
            ("chip", ("pcm_1m", None, 5), "must be a ChipSpec, a Scenario or a list of them"),
            ("model", (None, 5, [], nn.Linear), "must be a torch.nn.Module"),
            ("out", (5, True, ["a"]), "must be the path of a folder, or None"),
            ("seeds", (None, 5, 5.0, "5"), "must be a list of whole numbers >= 0"),
            ("times", (None, object), 'must be a time such as "1h" or a list of times'),
            ("metrics", (None, 5, cs.Perplexity), "must be a metric or a list of metrics, e.g. Perplexity(text)"),
            ("tokenizer", ("gpt2", 5), "must be a tokenizer, not its name"),
        ],
    )
    def test_arguments_of_another_kind(self, name, values, text):
        good = {"model": Tiny(), "chip": PCM, "times": "1s", "metrics": METRICS, "tokenizer": tokenizer}
        for value in values:
            with pytest.raises(cs.UsageError) as error:
                cs.sweep(**{**good, name: value})
            assert str(error.value).startswith(f"{name} = {value!r}: {text}")
            assert "\n" not in str(error.value)

    def test_short_text(self):
        with pytest.raises(cs.UsageError, match="text: has 61 tokens, fewer than one window of 512"):
            run(metrics=[cs.Perplexity(TEXT)])


@pytest.mark.parametrize(
    ("device", "times", "text"),
    [("sonos", ("1d", "30d"), "sonos"), ("reram_cmo", (0, 0.5), "reram_cmo")],
)
def test_times_a_device_does_not_know_are_refused_before_the_work(monkeypatch, device, times, text):
    calls = count_evaluations(monkeypatch)
    chip = PCM.evolve(name=device, device=device)
    with pytest.raises(cs.UsageError, match=text):
        run(chip=[cs.Scenario("mixed", PCM, {"up": chip})], times=times)
    assert calls == []
