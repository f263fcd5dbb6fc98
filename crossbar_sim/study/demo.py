"""The main job in one call: SmolLM2 on PCM chips over a year, and what it says before and after."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import torch

from crossbar_sim.bridge.convert import map_model
from crossbar_sim.bridge.hf import load_model
from crossbar_sim.chip import Chip
from crossbar_sim.spec import CalibratedRange, ChipSpec
from crossbar_sim.study.metrics import KLToDigital, NextTokenAccuracy, Perplexity, token_windows
from crossbar_sim.study.sweep import Scenario, SweepResult, sweep

TIMES = ("1s", "1h", "1d", "30d", "1y")
PROMPT = "The sun rises in the"
HEAD_DIGITAL: dict[str | None, ChipSpec | str] = {"lm_head": "digital"}
_CALIBRATION_WINDOWS = 2


class Sentence(NamedTuple):
    """What a model wrote after the prompt."""

    model: str
    text: str


class DemoResult(NamedTuple):
    result: SweepResult
    sentences: list[Sentence]
    plot: Path
    table: Path
    summary: str


def run_demo(model_name: str, text: str, out: str | Path, n_seeds: int, windows: int, window: int = 512) -> DemoResult:
    """Sweep the model over TIMES on pcm_1m and hermes_2d with a digital head, and on pcm_1m with everything on chip.

    A fourth line, of one seed and three times, has calibrated static input ranges in place of one range per vector.
    Results go to `out`.
    """
    model, tokenizer = load_model(model_name)
    metrics = [kind(text, window, windows) for kind in (Perplexity, NextTokenAccuracy, KLToDigital)]
    calibration = token_windows(text, tokenizer, window, windows + _CALIBRATION_WINDOWS)[windows:]
    pcm, hermes = ChipSpec.preset("pcm_1m"), ChipSpec.preset("hermes_2d")
    static = pcm.evolve(name="pcm_1m_static", **{"dac.range": CalibratedRange()})
    scenarios = [
        Scenario("pcm_1m, digital head", pcm, HEAD_DIGITAL),
        Scenario("hermes_2d, digital head", hermes, HEAD_DIGITAL),
        Scenario("pcm_1m, all on chip", pcm),
        Scenario("pcm_1m, digital head, static range", static, HEAD_DIGITAL, calibration, seeds=[0], times=TIMES[::2]),
    ]
    folder = Path(out)
    result = sweep(model, scenarios, TIMES, range(n_seeds), metrics, out=folder, tokenizer=tokenizer)
    plot = result.plot(folder / "accuracy_vs_drift.png")

    mapped = map_model(model, pcm, rules=HEAD_DIGITAL)
    chip = mapped.chip
    assert isinstance(chip, Chip)
    sentences = [Sentence("digital", complete(model, tokenizer))]
    for t in (TIMES[0], TIMES[-1]):
        chip.set_time(t)
        sentences.append(Sentence(f"pcm_1m after {t}", complete(mapped, tokenizer)))
    return DemoResult(result, sentences, plot, folder / "results.csv", str(chip.summary()))


def complete(model: Any, tokenizer: Any, prompt: str = PROMPT, max_new_tokens: int = 24) -> str:
    """Greedy continuation of a prompt."""
    inputs = tokenizer(prompt, return_tensors="pt")
    with torch.no_grad():
        tokens = model.generate(
            input_ids=inputs["input_ids"],
            attention_mask=inputs["attention_mask"],
            max_new_tokens=max_new_tokens,
            do_sample=False,
            pad_token_id=tokenizer.eos_token_id,
        )
    return " ".join(tokenizer.decode(tokens[0], skip_special_tokens=True).split())
