"""Which layers of a model go on which chip."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Collection, Iterable, Mapping

from crossbar_sim.spec import ChipSpec
from device_models.errors import UsageError, nearest

DIGITAL = "digital"
Rules = Mapping[str | None, ChipSpec | str]


def assign_chips(
    names: Iterable[str], chip: ChipSpec, rules: Rules | None, aside: Collection[str] = ()
) -> dict[str, ChipSpec | None]:
    """The chip of each matrix, None for digital.

    A rule's key is the exact name of a layer, a shell pattern (``model.layers.*.mlp.*``), a regular expression after
    ``re:`` (matched from the start to the end of the name), or None for every layer that no other rule names. An exact
    name goes before patterns, the first pattern before later ones. A rule that decides nothing is an error.

    `aside` are those of the names that stay digital of themselves, such as routers of mixtures: only a rule that names
    no others puts them on a chip, so that "model.layers.*" does not.
    """
    names = list(names)
    aside = set(aside)
    rules = dict(rules or {})
    for key, value in rules.items():
        if not (isinstance(value, ChipSpec) or value == DIGITAL):
            raise UsageError(f'rules[{key!r}] = {value!r}: must be a ChipSpec or "{DIGITAL}"')
    patterns = {key: _pattern(key) for key in rules if key is not None and key not in names}
    own = {key for key in rules if key in aside}
    own |= {key for key, p in patterns.items() if (hit := {n for n in names if p.fullmatch(n)}) and hit <= aside}
    used: set[str | None] = set()
    chosen: dict[str, ChipSpec | None] = {}
    for name in names:
        first = name if name in rules else next((k for k, p in patterns.items() if p.fullmatch(name)), None)
        used.add(first)
        value = rules.get(first, chip)
        if name in aside and first not in own:
            value = DIGITAL
        chosen[name] = value if isinstance(value, ChipSpec) else None
    for key in rules:
        if key not in used:
            text = (
                "matches no layer" if key is None or not _hits(patterns.get(key), names) else "is overruled everywhere"
            )
            hint = nearest(key.removeprefix("re:"), names) if key is not None else ""
            raise UsageError(f"rules[{key!r}] {text}{hint}")
    return chosen


def _hits(pattern: re.Pattern[str] | None, names: list[str]) -> bool:
    return pattern is not None and any(pattern.fullmatch(name) for name in names)


def _pattern(key: str) -> re.Pattern[str]:
    if not isinstance(key, str):
        raise UsageError(f"rules[{key!r}]: a key must be a layer name, a pattern or None")
    try:
        return re.compile(key[3:] if key.startswith("re:") else fnmatch.translate(key))
    except re.error as error:
        raise UsageError(f"rules[{key!r}]: is not a regular expression: {error}") from None
