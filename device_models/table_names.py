"""Names of columns of measured tables: the quantity, the unit, and which name stands for which column of a reader."""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from device_models.errors import UsageError, nearest
from device_models.units import SECONDS


class Unit(NamedTuple):
    """A unit in a file: the package's value is factor * value + offset, or factor / value for a resistance."""

    name: str
    factor: float
    offset: float = 0.0
    inverse: bool = False

    def convert(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        if self.inverse:
            with np.errstate(divide="ignore"):
                return self.factor / values
        return values * self.factor + self.offset


_PREFIXES = {"": 1.0, "m": 1e-3, "u": 1e-6, "n": 1e-9, "p": 1e-12}


def _units(factors: dict[str, float]) -> dict[str, Unit]:
    return {name: Unit(name, factor) for name, factor in factors.items()}


UNITS = {  # of each unit of this package: what else is converted to it
    "uS": _units({f"{prefix}S": factor / 1e-6 for prefix, factor in _PREFIXES.items()}),
    "s": _units(SECONDS),
    "V": _units({f"{prefix}V": factor for prefix, factor in _PREFIXES.items()}),
    "uA": _units({f"{prefix}A": factor / 1e-6 for prefix, factor in _PREFIXES.items()}),
    "Hz": _units({"Hz": 1.0, "kHz": 1e3, "MHz": 1e6}),
    "C": {"C": Unit("C", 1.0), "K": Unit("K", 1.0, -273.15)},
}
OHMS = {
    name: Unit(name, 1e6 / ohm, inverse=True)
    for name, ohm in {"ohm": 1.0, "kohm": 1e3, "Mohm": 1e6, "Gohm": 1e9}.items()
}
"""To uS."""
_KINDS = {**UNITS, "ohm": OHMS}

BOUNDS = {
    "uS": (-1e6, 1e6),  # 1 S: the wires to a cell conduct less
    "s": (-1e11, 1e11),  # 3000 years
    "V": (-1e4, 1e4),
    "uA": (-1e6, 1e6),  # 1 A
    "Hz": (-1e12, 1e12),
    "C": (-273.15, 1e4),
}
"""Beyond these a number is a mistaken unit or a mark of the instrument, whatever the device."""

_SYMBOLS = {  # of a kind of unit: first words that stand for the symbol of a quantity
    "uS": {"conductance": "g"},
    "ohm": {"resistance": "r"},
    "s": {"time": "t"},
    "V": {"voltage": "v"},
    "uA": {"current": "i"},
    "C": {"t": "temperature", "temp": "temperature"},
}
_BOUNDS_AS_RESISTANCES = {"g_low": ("r_high", "target_r_hi"), "g_high": ("r_low", "target_r_lo")}
"""The highest resistance is the lowest conductance; the second names are those of published tables."""

_BRACKETS = re.compile(r"(.*?)[\s_]*[(\[{]\s*([^()\[\]{}]*?)\s*[)\]}]")
_SLASH = re.compile(r"(.+?)\s*/\s*([^\s/]+)")
_SUFFIX = re.compile(r"(.+)[_\s]([^_\s]+)")
_NO_UNIT = ("", "1", "-", "#")


def unit_of(text: str, of: str) -> Unit | None:
    """The unit of a kind, in any case where that is clear: not of m and M, nor where it is a unit of another kind."""
    known, text = _KINDS[of], _plain_unit(text)
    if text in known:
        return known[text]
    if any(text in others for others in _KINDS.values()):
        return None
    same = [unit for name, unit in known.items() if name.casefold() == text.casefold()]
    return next((unit for unit in same if unit.name[0] == text[0] or not {unit.name[0], text[0]} & {"m", "M"}), None)


def is_unit(text: str) -> bool:
    """Whether a text is a unit of any kind."""
    return any(unit_of(text, of) for of in _KINDS)


def known_unit(text: str, of: str, what: str) -> Unit:
    """As `unit_of`; UsageError for a unit that is unknown."""
    unit = unit_of(text, of)
    if unit is None:
        accepted = list(_KINDS[of])
        raise UsageError(f"{what}: unit {text!r} is unknown; accepted: {', '.join(accepted)}{nearest(text, accepted)}")
    return unit


def _plain(text: str) -> str:
    """One character for each sign: both micro signs are u, both ohm signs ohm; the sign of degrees is dropped."""
    return unicodedata.normalize("NFKC", text).replace("μ", "u").replace("Ω", "ohm").replace("°", "").strip()


def _plain_unit(text: str) -> str:
    return re.sub(r"(?i)(?<=ohm)s$|^deg *(?=[ck]$)", "", _plain(text))


@dataclass(frozen=True)
class Heading:
    """A name in a header, taken apart: ``G (nS)``, ``g [nS]``, ``g/nS`` and ``g_nS`` are quantity g in nS.

    bracketed   the unit stands in brackets or behind a slash, so that it is one even if it is unknown
    """

    text: str
    stem: str
    unit: str
    bracketed: bool

    @classmethod
    def of(cls, text: str) -> Heading:
        name = _plain(text)
        if match := _BRACKETS.fullmatch(name):
            inner = cls.of(match[1]) if match[1] else None
            if inner is not None and inner.unit:  # a unit in the name and one in brackets: the same, or unknown
                same = any((a := unit_of(inner.unit, of)) is not None and a == unit_of(match[2], of) for of in _KINDS)
                return cls(text, inner.stem, inner.unit if same else f"{inner.unit} ({match[2]})", True)
            return cls(text, _joined(match[1]), _plain_unit(match[2]), True)
        for form in (_SLASH, _SUFFIX):
            if (match := form.fullmatch(name)) and is_unit(match[2]):
                return cls(text, _joined(match[1]), _plain_unit(match[2]), form is _SLASH)
        return cls(text, _joined(name), "", False)

    @property
    def plain(self) -> str:
        """The name in the form of this package, ``g_nS``."""
        return f"{self.stem}_{self.unit}" if self.unit else self.stem


def _joined(name: str) -> str:
    return re.sub(r"\s+", "_", name.strip())


class Quantity(NamedTuple):
    """A column that a reader asks for: its name, the quantity, and the package's unit of it (empty: a pure number)."""

    name: str
    stem: str
    of: str

    @classmethod
    def named(cls, name: str) -> Quantity:
        """``g_target_uS`` is g_target in uS."""
        stem, _, unit = name.rpartition("_")
        return cls(name, stem, unit) if stem and unit in UNITS else cls.pure(name)

    @classmethod
    def pure(cls, name: str) -> Quantity:
        """A number without a unit, or a label."""
        return cls(name, name.casefold(), "")

    def unit(self, heading: Heading) -> Unit | None:
        """In which unit a column of this name holds the quantity; none: it does not."""
        if not self.of:
            whole = heading.stem if heading.bracketed and heading.unit in _NO_UNIT else heading.plain
            return Unit("", 1.0) if whole.casefold() == self.stem else None
        if (unit := unit_of(heading.unit, self.of)) and _symbol(heading.stem, self.of) == self.stem:
            return unit
        if self.of == "uS" and (unit := unit_of(heading.unit, "ohm")):
            return unit if _symbol(heading.stem, "ohm") in self._resistances else None
        return None

    @property
    def _resistances(self) -> tuple[str, ...]:
        if self.stem in _BOUNDS_AS_RESISTANCES:
            return _BOUNDS_AS_RESISTANCES[self.stem]
        return (f"r{self.stem[1:]}",) if self.stem == "g" or self.stem.startswith("g_") else ()

    def contradicts(self, heading: Heading) -> str | None:
        """Why a column of this quantity cannot be read because of its unit; none: it can, or is something else."""
        is_resistance = self.of == "uS" and _symbol(heading.stem, "ohm") in self._resistances
        if is_resistance and heading.bracketed and heading.unit not in _NO_UNIT and not unit_of(heading.unit, "ohm"):
            return f"{heading.text} has a unit that is unknown; accepted: {', '.join(OHMS)}"
        same_symbol = _symbol(heading.stem, self.of) == self.stem and not is_unit(heading.unit)  # T may be a time
        if self.unit(heading) is not None or not (heading.stem.casefold() == self.stem or same_symbol):
            return None
        if not ((heading.bracketed and heading.unit not in _NO_UNIT) or unit_of(heading.unit, "ohm")):
            return None  # a suffix that is no unit of this quantity, as in g_min
        if not self.of:
            return f"{heading.text} has a unit: must be a pure number"
        why = ", because one of its two units contradicts the other" if " (" in heading.unit else ""
        text = f"{heading.text} has a unit that is unknown{why}; accepted: {', '.join(UNITS[self.of])}"
        if self.of == "uS" and not self._resistances:
            text += f", because {self.stem} does not follow from resistances"
        return text


def _symbol(stem: str, of: str) -> str:
    first, mark, rest = stem.casefold().partition("_")
    return _SYMBOLS[of].get(first, first) + mark + rest if of in _SYMBOLS else stem.casefold()


def find(quantity: Quantity, headings: Sequence[Heading], where: str) -> tuple[int, Unit] | None:
    """The column that holds a quantity, and its unit.

    Errors   UsageError: two columns hold it, or none and one of its name is in a unit that cannot be converted
    """
    found = [(k, unit) for k, heading in enumerate(headings) if (unit := quantity.unit(heading)) is not None]
    if len(found) > 1:
        names = " and ".join(headings[k].text for k, _ in found)
        raise UsageError(
            f"{where}: columns {names} are both {quantity.name}: must be one; "
            f'columns={{"{quantity.name}": ...}} says which'
        )
    if found:
        return found[0]
    problems = [text for heading in headings if (text := quantity.contradicts(heading)) is not None]
    if problems:
        raise UsageError(f"{where}: {problems[0]}")
    return None


def refuse_other_unit(own: str, theirs: str, what: str) -> None:
    """UsageError where a name in a file says another unit than the one it is to be read in.

    A suffix that is a unit of another kind may be a label, as in ``g_min``, unless it is a resistance.
    """
    ours, named = Heading.of(own), Heading.of(theirs)
    if named.unit == "%":
        raise UsageError(f"{what}: the name says %: must be a fraction, or in {ours.unit or 'its own unit'}")
    for of in _KINDS:
        unit = unit_of(named.unit, of)
        if unit is None or not ours.unit or unit == unit_of(ours.unit, of):
            continue
        if unit_of(ours.unit, of) is not None or named.bracketed or of == "ohm":
            raise UsageError(f"{what}: the name says {unit.name}, not {ours.unit}: must be the same unit")


def is_possible(value: float, of: str) -> bool:
    """Whether a device can have a value, in the package's unit of it."""
    low, high = BOUNDS.get(of, (-math.inf, math.inf))
    return low <= value <= high
