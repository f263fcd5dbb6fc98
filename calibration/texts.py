"""Fits as text."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from calibration.fit import Fit


def summary_text(fit: Fit) -> str:
    """Parameters with units and intervals, tests, candidates, what was left out, and warnings."""
    made_of = fit.provenance
    lines = [f"{fit.quantity}: {fit.model}, fitted to {made_of.n_used} observations"]
    if made_of.files:
        lines.append("  from " + ", ".join(f"{file.name} (sha256 {file.sha256[:12]})" for file in made_of.files))
    lines.append(f"  parameters, with 90 % intervals by {fit.intervals}")
    width = max((len(p.name) for p in fit.parameters), default=0)
    for p in fit.parameters:
        unit = "" if p.unit == "1" else f" {p.unit}"
        lines.append(f"    {p.name.ljust(width)}  {p.value:.5g}  ({p.low:.5g} to {p.high:.5g}){unit}")
    for test in fit.goodness:
        verdict = "rejected" if test.rejected else "not rejected"
        lines.append(f"  {test.test}: statistic {test.statistic:.4g}, p = {test.p_value:.3g}, {verdict}")
    if fit.candidates:
        lines.append("  candidates by held-out log likelihood per observation (s.e. of the difference to the best)")
        for c in fit.candidates:
            mark = "*" if c.chosen else " "
            lines.append(f"  {mark} {c.model}: {c.score:.5f} ({c.score_se:.2g}), {c.n_parameters} parameters")
    lines += [f"  left out: {item.count} ({item.reason})" for item in made_of.left_out]
    lines += [f"  warning: {text}" for text in fit.warnings]
    return "\n".join(lines)
