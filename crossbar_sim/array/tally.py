"""Counts that live where they are counted."""

from __future__ import annotations

from typing import Any, Self, overload

import torch


class Tally:
    """A whole number that a read adds to, on whatever device it runs: only looking at it waits for the device."""

    def __set_name__(self, owner: type, name: str) -> None:
        self.place = f"_{name}"

    @overload
    def __get__(self, instance: None, owner: type) -> Self: ...

    @overload
    def __get__(self, instance: object, owner: type) -> int: ...

    def __get__(self, instance: object | None, owner: type) -> Self | int:
        return self if instance is None else int(getattr(instance, self.place))

    def __set__(self, instance: object, value: int) -> None:
        setattr(instance, self.place, value)

    def add(self, instance: Any, counted: torch.Tensor) -> None:
        """Add a whole number in a tensor () without looking at it."""
        before = getattr(instance, self.place)
        if isinstance(before, torch.Tensor):
            before = before.to(counted.device)
        setattr(instance, self.place, before + counted)
