"""One line of a sweep: a chip with its rules and data, and the devices that a fit allows."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from crossbar_sim.bridge.convert import plan_model
from crossbar_sim.bridge.rules import Rules
from crossbar_sim.mapping import Coverage
from crossbar_sim.spec import ChipSpec
from crossbar_sim.store import weights_fingerprint
from crossbar_sim.study.schedule import Schedule
from device_models.base import AbstractDevice
from device_models.errors import UsageError


@dataclass(frozen=True, eq=False)
class Scenario:
    """One line of a sweep: a chip, the rules of its layers and, where its ranges are calibrated, the data for them.

    refresh, reprogram   how often the compensation is measured and the devices are written anew: times as in the
                         sweep; None: the compensation at every time that is measured, the devices never
    seeds, times         its own in place of those of the sweep: a line that costs much may have fewer
    devices              devices that take the place of the chip's, one after the other, each with all seeds: those of
                         `fit.sample_devices(n)` show what the uncertainty of a fit does; not in chips within `rules`
    """

    name: str
    chip: ChipSpec
    rules: Rules | None = None
    calibration_data: Sequence[Any] | None = None
    refresh: float | str | None = None
    reprogram: float | str | None = None
    seeds: Sequence[int] | None = None
    times: Sequence[float | str] | None = None
    devices: Sequence[AbstractDevice] | None = None

    @property
    def schedule(self) -> Schedule:
        return Schedule.of(self.refresh, self.reprogram, f"chip {self.name!r}: ")

    def chips(self) -> list[ChipSpec]:
        """The chip with each of the devices, or as it is."""
        if self.devices is None:
            return [self.chip]
        if not len(self.devices):
            raise UsageError(f"chip {self.name!r}: devices: give at least one, or none at all")
        for device in self.devices:
            if not isinstance(device, AbstractDevice):
                raise UsageError(f"chip {self.name!r}: devices: {device!r} must be a device")
        return [self.chip.evolve(device=device) for device in self.devices]

    def identity(self) -> dict[str, Any]:
        """What its numbers depend on besides seed, time and device."""
        rules = [  # in their order, which decides where several fit
            [repr(key), rule.to_dict() if isinstance(rule, ChipSpec) else rule]
            for key, rule in (self.rules or {}).items()
        ]
        return {
            "chip": self.chip.to_dict(),
            "rules": rules,
            "calibration": data_digest(self.calibration_data),
            "schedule": self.schedule._asdict(),
        }

    def identities(self) -> dict[str, dict[str, Any]]:
        """Identity of the chip, or of the chip with each of the devices, by what a sweep calls it."""
        which = [""] if self.devices is None else [f", device {index}" for index in range(len(self.devices))]
        return {
            f"chip {self.name!r}{text}": replace(self, chip=chip).identity()
            for text, chip in zip(which, self.chips(), strict=True)
        }

    def coverage(self, model: nn.Module) -> Coverage:
        """What of a model is on the chip, whichever of the devices it has."""
        coverage = plan_model(model, self.chips()[0], self.rules).coverage
        assert coverage is not None  # of every plan that is made for a model
        return coverage

    def check_times(self, model: nn.Module, times_s: list[float]) -> None:
        """Ask every device for every time ahead of the work: some know only the times of their measurements."""
        schedule = self.schedule
        moments = [schedule.at(t_s) for t_s in times_s]
        ages = {moment.age_s for moment in moments}
        ages |= {moment.compensated_s for moment in moments if moment.compensated_s is not None}
        specs = {spec for chip in self.chips() for _, spec, _ in plan_model(model, chip, self.rules)}
        if schedule.refresh_s is not None and all(spec.compensation is None for spec in specs):
            raise UsageError(f"chip {self.name!r}: refresh = {self.refresh!r}: the compensation is off")
        for device in {spec.device for spec in specs}:
            for age_s in sorted(ages):
                device.curves(age_s, 1.0)


def data_digest(data: Sequence[Any] | None) -> str | None:
    """A fingerprint of calibration data."""
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
