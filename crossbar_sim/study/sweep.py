"""sweep: chips x seeds x times x metrics, on disk as it goes, resumable."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import nn

from crossbar_sim.array.matrix import checked_seed
from crossbar_sim.bridge.convert import map_model, plan_model
from crossbar_sim.bridge.hf import tokenizer_of
from crossbar_sim.bridge.rules import Rules
from crossbar_sim.chip import Chip
from crossbar_sim.progress import Reporter
from crossbar_sim.spec import ChipSpec
from crossbar_sim.store import weights_fingerprint
from crossbar_sim.study.ledger import Ledger, Row
from crossbar_sim.study.metrics import AbstractMetric, DigitalReference, checked_metrics, evaluate
from crossbar_sim.study.schedule import Schedule
from device_models.errors import UsageError
from device_models.units import readable_time, seconds


@dataclass(frozen=True, eq=False)
class Scenario:
    """One line of a sweep: a chip, the rules of its layers and, where its ranges are calibrated, the data for them.

    refresh, reprogram   how often the compensation is measured and the devices are written anew: times as in the
                         sweep; None: the compensation at every time that is measured, the devices never
    seeds                its own in place of those of the sweep: a line that costs much may have fewer
    """

    name: str
    chip: ChipSpec
    rules: Rules | None = None
    calibration_data: Sequence[Any] | None = None
    refresh: float | str | None = None
    reprogram: float | str | None = None
    seeds: Sequence[int] | None = None

    @property
    def schedule(self) -> Schedule:
        return Schedule.of(self.refresh, self.reprogram, f"chip {self.name!r}: ")

    def identity(self) -> dict[str, Any]:
        """What its numbers depend on besides seed and time."""
        rules = [  # in their order, which decides where several fit
            [repr(key), rule.to_dict() if isinstance(rule, ChipSpec) else rule]
            for key, rule in (self.rules or {}).items()
        ]
        return {
            "chip": self.chip.to_dict(),
            "rules": rules,
            "calibration": _data_digest(self.calibration_data),
            "schedule": self.schedule._asdict(),
        }


@dataclass(frozen=True)
class SweepResult:
    """The numbers of a sweep: `frame` has columns chip, seed, time_s, metric, value, digital, one row per number."""

    frame: pd.DataFrame

    def table(self) -> pd.DataFrame:
        """Mean over seeds, with s.d. where there are several: one line per metric and chip, one column per time."""
        grouped = self.frame.groupby(["metric", "chip", "time_s"], sort=False)["value"]
        stats = grouped.agg(["mean", "std"]).reset_index()
        stats["cell"] = [
            f"{mean:.4g}" if math.isnan(std) else f"{mean:.4g} ± {std:.2g}"
            for mean, std in zip(stats["mean"], stats["std"], strict=True)
        ]
        table = stats.pivot(index=["metric", "chip"], columns="time_s", values="cell")
        table.columns = pd.Index([readable_time(float(t)) for t in table.columns])
        digital = self.frame.groupby(["metric", "chip"])["digital"].first()
        table.insert(0, "digital", digital.reindex(table.index).map("{:.4g}".format))
        order = self.frame.drop_duplicates(["metric", "chip"]).set_index(["metric", "chip"]).index
        return table.reindex(order).fillna("-")

    def plot(self, path: str | Path) -> Path:
        """Draw every metric against drift time, with a band over seeds and the digital model as a line."""
        from crossbar_sim.view.plots import plot_sweep  # matplotlib is loaded only where something is drawn

        return plot_sweep(self.frame, path)


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
) -> SweepResult:
    """Measure a model on chips over time.

    Every seed is another chip of the same kind; every time is the same devices later. With `out`, each number is on
    disk as soon as it is known, and calling again with the same arguments (or more times and seeds) continues.

    Arguments
        model             the digital model; it is left as it is
        chip              a ChipSpec, a Scenario (chip with its own rules and name), or a list of them
        times             seconds or texts such as "1h", "30d", "1y"
        seeds             whole numbers, for every Scenario without seeds of its own
        metrics           e.g. [Perplexity(text), NextTokenAccuracy(text), KLToDigital(text)]
        out               folder for results.csv
        rules, calibration_data   as in map_model, for chips that are not a Scenario
        tokenizer         taken from the model's own source where not given
    """
    chosen = checked_metrics(metrics)
    scenarios = _scenarios(chip, rules, calibration_data)
    times_s = _sorted_times(times)
    seed_list = _checked_seeds(seeds, "seeds")
    own_seeds = {
        s.name: seed_list if s.seeds is None else _checked_seeds(s.seeds, f"chip {s.name!r}: seeds") for s in scenarios
    }
    for scenario in scenarios:
        _check_times(model, scenario, times_s)
    tokenizer = tokenizer_of(model, tokenizer)
    ledger = Ledger(out, _manifest(model, scenarios, chosen)) if out is not None else None
    cells: dict[tuple[str, int, float], list[Row]] = {}
    for row in ledger.rows if ledger else []:
        cells.setdefault((row.chip, row.seed, row.time_s), []).append(row)
    names = [metric.name for metric in chosen]

    def is_done(key: tuple[str, int, float]) -> bool:
        return {row.metric for row in cells.get(key, [])} >= set(names)

    wanted = [(s.name, seed, t) for s in scenarios for seed in own_seeds[s.name] for t in times_s]
    missing = [key for key in wanted if not is_done(key)]
    if missing:
        reference = DigitalReference(model)
        digital = evaluate(model, chosen, tokenizer, reference)
        with Reporter("sweep", total=len(missing)) as reporter:
            for scenario in scenarios:
                own = [key for key in missing if key[0] == scenario.name]
                for key, values in _measure(model, scenario, own, chosen, tokenizer, reference, backend, reporter):
                    rows = [Row(*key, name, values[name], digital[name]) for name in names]
                    if ledger:
                        ledger.append(rows)
                    cells[key] = rows
    frame = pd.DataFrame(
        [row for key in wanted for row in cells[key] if row.metric in names], columns=list(Row._fields)
    ).drop_duplicates(["chip", "seed", "time_s", "metric"], ignore_index=True)
    return SweepResult(frame)


def _measure(
    model: nn.Module,
    scenario: Scenario,
    keys: list[tuple[str, int, float]],
    metrics: list[AbstractMetric],
    tokenizer: Any,
    reference: DigitalReference,
    backend: str,
    reporter: Reporter,
) -> Iterator[tuple[tuple[str, int, float], dict[str, float]]]:
    """Map the model once, then go through seeds and times."""
    if not keys:
        return
    reporter.note(f"{scenario.name}: programming")
    mapped = map_model(
        model, scenario.chip, keys[0][1], scenario.rules, calibration_data=scenario.calibration_data, backend=backend
    )
    chip = mapped.chip
    assert isinstance(chip, Chip)
    for key in keys:
        _, seed, t_s = key
        reporter.note(f"{scenario.name}, seed {seed}, {readable_time(t_s)}")
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


def _check_times(model: nn.Module, scenario: Scenario, times_s: list[float]) -> None:
    """Ask every device for every time ahead of the work: some know only the times of their measurements."""
    specs = {spec for _, spec, _ in plan_model(model, scenario.chip, scenario.rules)}
    schedule = scenario.schedule
    if schedule.refresh_s is not None and all(spec.compensation is None for spec in specs):
        raise UsageError(f"chip {scenario.name!r}: refresh = {scenario.refresh!r}: the compensation is off")
    moments = [schedule.at(t_s) for t_s in times_s]
    ages = {moment.age_s for moment in moments}
    ages |= {moment.compensated_s for moment in moments if moment.compensated_s is not None}
    for device in {spec.device for spec in specs}:
        for age_s in sorted(ages):
            device.curves(age_s, 1.0)


def _checked_seeds(seeds: Iterable[int], what: str) -> list[int]:
    return _distinct([checked_seed(seed) for seed in seeds], what)


def _sorted_times(times: Iterable[float | str]) -> list[float]:
    if isinstance(times, str | float | int):
        times = [times]
    times_s = [seconds(t, "times") for t in times]
    return sorted(_distinct(times_s, "times"))


def _distinct(values: list[Any], what: str) -> list[Any]:
    if not values:
        raise UsageError(f"{what}: give at least one")
    twice = [value for value in dict.fromkeys(values) if values.count(value) > 1]
    if twice:
        raise UsageError(f"{what}: {twice[0]!r} appears more than once")
    return values


def _manifest(model: nn.Module, scenarios: list[Scenario], metrics: list[AbstractMetric]) -> dict[str, Any]:
    fingerprint = hashlib.blake2b(digest_size=16)
    for name, tensor in model.state_dict().items():
        fingerprint.update(f"{name} {weights_fingerprint(tensor)}".encode())
    parts: dict[str, Any] = {"model": fingerprint.hexdigest()}
    parts.update({f"chip {scenario.name!r}": scenario.identity() for scenario in scenarios})
    parts.update({f"metric {metric.name!r}": metric.identity() for metric in metrics})
    return parts


def _data_digest(data: Sequence[Any] | None) -> str | None:
    if data is None:
        return None
    digest = hashlib.blake2b(digest_size=16)
    for batch in [data] if isinstance(data, torch.Tensor) else data:
        parts = batch if isinstance(batch, tuple | list) else [batch]
        for key, part in batch.items() if isinstance(batch, Mapping) else enumerate(parts):
            value = weights_fingerprint(part) if isinstance(part, torch.Tensor) else repr(part)
            digest.update(f"{key} {value}\n".encode())
        digest.update(b"\n")
    return digest.hexdigest()
