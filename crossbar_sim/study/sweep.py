"""sweep: chips x seeds x times x metrics, on disk as it goes, resumable."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from typing import Any, Literal

import pandas as pd
from torch import nn

from crossbar_sim.array.matrix import checked_seed
from crossbar_sim.bridge.convert import map_model
from crossbar_sim.bridge.rules import Rules
from crossbar_sim.chip import Chip
from crossbar_sim.mapping import Coverage
from crossbar_sim.progress import Reporter
from crossbar_sim.spec import ChipSpec
from crossbar_sim.study.contract import AbstractMetric, AbstractTokenMetric
from crossbar_sim.study.identity import digest, metric_identity, model_identity, tokenizer_identity, weights_identity
from crossbar_sim.study.ledger import Ledger, Row
from crossbar_sim.study.metrics import (
    DigitalReference,
    checked_metrics,
    evaluate,
    needed_tokenizer,
    token_sequences,
)
from crossbar_sim.study.scenario import Scenario
from crossbar_sim.study.tokens import RememberingTokenizer, plain_tokenizer
from device_models.errors import UsageError
from device_models.units import readable_time, seconds

Key = tuple[str, int, int, float]
"""Chip, device, seed and time of one measurement."""


@dataclass(frozen=True)
class SweepResult:
    """The numbers of a sweep, one row per number.

    `frame` has columns chip, device, seed, time_s, metric, value, digital; device numbers those of a Scenario that has
    several, and is 0 elsewhere. `coverage` says for each chip what of the model is on it.
    """

    frame: pd.DataFrame
    coverage: Mapping[str, Coverage] = field(default_factory=dict)

    def header(self) -> str:
        """The account of each chip: what share of the model it computes, and what stays digital."""
        return "\n".join(f"{name}: {account}" for name, account in self.coverage.items())

    def table(self) -> pd.DataFrame:
        """Mean with s.d. where there are several: one line per metric and chip, one column per time.

        The s.d. is over seeds; where a chip has several devices, that of their means follows: the uncertainty of a fit.
        """
        keys = ["metric", "chip", "time_s"]
        by_device = self.frame.groupby([*keys, "device"], sort=False)["value"].agg([_mean, "var"])
        stats = by_device.groupby(keys, sort=False).agg(
            mean=("_mean", _mean), chips=("var", "mean"), devices=("_mean", "std")
        )
        stats["cell"] = [
            f"{mean:.4g}"
            + ("" if math.isnan(variance) else f" ± {math.sqrt(variance):.2g}")
            + ("" if math.isnan(of_fit) else f" ± {of_fit:.2g} (fit)")
            for mean, variance, of_fit in zip(stats["mean"], stats["chips"], stats["devices"], strict=True)
        ]
        stats = stats.reset_index()
        table = stats.pivot(index=["metric", "chip"], columns="time_s", values="cell")
        table.columns = pd.Index([readable_time(float(t)) for t in table.columns])
        digital = self.frame.groupby(["metric", "chip"])["digital"].first()
        table.insert(0, "digital", digital.reindex(table.index).map("{:.4g}".format))
        order = self.frame.drop_duplicates(["metric", "chip"]).set_index(["metric", "chip"]).index
        return table.reindex(order).fillna("-")

    def plot(self, path: str | Path) -> Path:
        """Draw every metric against drift time, with bands over seeds and devices and the digital model as a line."""
        from crossbar_sim.view.plots import plot_sweep  # matplotlib is loaded only where something is drawn

        return plot_sweep(self.frame, path)


def _mean(values: pd.Series) -> float:
    """NaN where one of them is: a number that is missing is not left out."""
    return float(values.mean(skipna=False))


def sweep(
    model: nn.Module,
    chip: ChipSpec | Scenario | Sequence[ChipSpec | Scenario],
    times: Iterable[float | str],
    seeds: Iterable[int] = (0,),
    metrics: Iterable[AbstractMetric] = (),
    out: str | Path | None = None,
    rules: Rules | None = None,
    calibration_data: Sequence[Any] | None = None,
    tokenizer: Any = None,
    backend: str = "auto",
    state: Literal["kept", "regenerated"] = "kept",
) -> SweepResult:
    """Measure a model on chips over time.

    Every seed is another chip of the same kind; every time is the same devices later. With `out`, each number is on
    disk as soon as it is known, and calling again with the same arguments (or more times and seeds) continues. What
    else decides numbers must be the same: weights, class and configuration of the model, chips, metrics, tokens.
    Models are measured in evaluation mode, whichever they are in.

    Arguments
        model             the digital model; it is left as it is
        chip              a ChipSpec, a Scenario (chip with its own rules, name and devices), or a list of them
        times             seconds or texts such as "1h", "30d", "1y", for every Scenario without times of its own
        seeds             whole numbers, for every Scenario without seeds of its own
        metrics           e.g. [Perplexity(text), NextTokenAccuracy(text), KLToDigital(text)]
        out               folder for results.csv
        rules, calibration_data   as in map_model, for chips that are not a Scenario
        tokenizer         taken from the model's own source where not given; not asked for where no metric needs one
        backend, state    as in map_model; no number depends on `state`, so a sweep may go on with another one
    """
    if not isinstance(model, nn.Module):
        raise UsageError(f"model = {model!r}: must be a torch.nn.Module")
    if out is not None and not isinstance(out, str | PathLike):
        raise UsageError(f"out = {out!r}: must be the path of a folder, or None")
    chosen = checked_metrics(metrics)
    scenarios = _scenarios(chip, rules, calibration_data)
    times_s = _sorted_times(times, "times")
    seed_list = _checked_seeds(seeds, "seeds")
    own_seeds = {
        s.name: seed_list if s.seeds is None else _checked_seeds(s.seeds, f"chip {s.name!r}: seeds") for s in scenarios
    }
    own_times = {
        s.name: times_s if s.times is None else _sorted_times(s.times, f"chip {s.name!r}: times") for s in scenarios
    }
    for scenario in scenarios:
        scenario.check_times(model, own_times[scenario.name])
    coverage = {scenario.name: scenario.coverage(model) for scenario in scenarios}
    tokenizer = needed_tokenizer(model, chosen, tokenizer)
    if tokenizer is not None:
        tokenizer = RememberingTokenizer(tokenizer)
    sequences = token_sequences(model, chosen, tokenizer)
    reference = DigitalReference(model)
    ledger = None
    if out is not None:
        ledger = Ledger(out, _manifest(model, scenarios, chosen, tokenizer, sequences))
    cells: dict[Key, list[Row]] = {}
    for row in ledger.rows if ledger else []:
        cells.setdefault((row.chip, row.device, row.seed, row.time_s), []).append(row)
    names = [metric.name for metric in chosen]

    def is_done(key: Key) -> bool:
        return {row.metric for row in cells.get(key, [])} >= set(names)

    chips = {s.name: s.chips() for s in scenarios}
    wanted: list[Key] = [
        (s.name, device, seed, t)
        for s in scenarios
        for device in range(len(chips[s.name]))
        for seed in own_seeds[s.name]
        for t in own_times[s.name]
    ]
    missing = [key for key in wanted if not is_done(key)]
    if missing:
        digital = evaluate(model, chosen, tokenizer, reference)
        with Reporter("sweep", total=len(missing)) as reporter:
            for scenario, device in [(s, d) for s in scenarios for d in range(len(chips[s.name]))]:
                own = [key for key in missing if key[:2] == (scenario.name, device)]
                spec = chips[scenario.name][device]
                if not own:
                    continue
                reporter.note(f"{scenario.name}: programming")
                mapped = map_model(
                    model, spec, own[0][2], scenario.rules, calibration_data=scenario.calibration_data,
                    backend=backend, state=state,
                )  # fmt: skip
                if device == 0:
                    print(f"{scenario.name}: {coverage[scenario.name]}", file=sys.stderr, flush=True)
                for key, values in _measure(mapped, scenario, own, chosen, tokenizer, reference, reporter):
                    rows = [Row(*key, name, values[name], digital[name]) for name in names]
                    if ledger:
                        ledger.append(rows)
                    cells[key] = rows
    frame = pd.DataFrame(
        [row for key in wanted for row in cells[key] if row.metric in names], columns=list(Row._fields)
    ).drop_duplicates(["chip", "device", "seed", "time_s", "metric"], ignore_index=True)
    return SweepResult(frame, coverage)


def _measure(
    mapped: nn.Module,
    scenario: Scenario,
    keys: list[Key],
    metrics: list[AbstractMetric],
    tokenizer: Any,
    reference: DigitalReference,
    reporter: Reporter,
) -> Iterator[tuple[Key, dict[str, float]]]:
    """Go through seeds and times of one chip."""
    chip = mapped.chip
    assert isinstance(chip, Chip)
    for key in keys:
        _, device, seed, t_s = key
        which = "" if scenario.devices is None else f", device {device}"
        reporter.note(f"{scenario.name}{which}, seed {seed}, {readable_time(t_s)}")
        moment = scenario.schedule.at(t_s)
        if (chip.seed, chip.write) != (seed, moment.write):
            chip.reprogram(seed, moment.write)
        if chip.time_s != moment.age_s:
            chip.set_time(moment.age_s, moment.compensated_s)
        chip.reset_reads()  # the numbers of a cell must not depend on which cells were measured before
        yield key, evaluate(mapped, metrics, tokenizer, reference)
        reporter.advance()


def _scenarios(
    chip: ChipSpec | Scenario | Sequence[ChipSpec | Scenario], rules: Rules | None, data: Sequence[Any] | None
) -> list[Scenario]:
    if isinstance(chip, str) or not isinstance(chip, ChipSpec | Scenario | Iterable):
        hint = f"; did you mean ChipSpec.preset({chip!r})?" if isinstance(chip, str) else ""
        raise UsageError(f"chip = {chip!r}: must be a ChipSpec, a Scenario or a list of them{hint}")
    given = [chip] if isinstance(chip, ChipSpec | Scenario) else list(chip)
    if not given:
        raise UsageError("chip: give at least one ChipSpec or Scenario")
    scenarios = []
    for item in given:
        if isinstance(item, Scenario):
            if rules is not None or data is not None:
                raise UsageError("rules, calibration_data: a Scenario brings its own; give them there")
            scenarios.append(item)
        elif isinstance(item, ChipSpec):
            scenarios.append(Scenario(item.name, item, rules, data))
        else:
            raise UsageError(f"chip = {item!r}: must be a ChipSpec or a Scenario")
    _distinct([scenario.name for scenario in scenarios], "chip names")
    return scenarios


def _checked_seeds(seeds: Iterable[int], what: str) -> list[int]:
    if isinstance(seeds, str) or not isinstance(seeds, Iterable):
        raise UsageError(f"{what} = {seeds!r}: must be a list of whole numbers >= 0")
    return _distinct([checked_seed(seed) for seed in seeds], what)


def _sorted_times(times: Iterable[float | str], what: str) -> list[float]:
    if isinstance(times, str | float | int):
        times = [times]
    if not isinstance(times, Iterable):
        raise UsageError(f'{what} = {times!r}: must be a time such as "1h" or a list of times')
    times_s = [seconds(t, what) for t in times]
    return sorted(_distinct(times_s, what))


def _distinct(values: list[Any], what: str) -> list[Any]:
    if not values:
        raise UsageError(f"{what}: give at least one")
    twice = [value for value in dict.fromkeys(values) if values.count(value) > 1]
    if twice:
        raise UsageError(f"{what}: {twice[0]!r} appears more than once")
    return values


def _manifest(
    model: nn.Module,
    scenarios: list[Scenario],
    metrics: list[AbstractMetric],
    tokenizer: Any,
    sequences: dict[str, list[list[int]]],
) -> dict[str, Any]:
    """Everything that decides the numbers, by what it is called where a folder holds another one.

    Metrics of language models know the tokenizer by its tokens; what others take from it nobody knows.
    """
    parts: dict[str, Any] = {"model": weights_identity(model), "model configuration": model_identity(model)}
    for scenario in scenarios:
        parts.update(scenario.identities())
    for metric in metrics:
        parts[f"metric {metric.name!r}"] = metric_identity(metric)
        if isinstance(metric, AbstractTokenMetric):
            parts[f"tokenizer, by its tokens for metric {metric.name!r}"] = digest(sequences[metric.name])
        elif tokenizer is not None:
            parts["tokenizer"] = tokenizer_identity(plain_tokenizer(tokenizer))
    return parts
