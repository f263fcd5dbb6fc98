"""Curves over conductance that are linear in their parameters: polynomials, splines, values at knots."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import Field
from scipy.interpolate import CubicSpline

from device_models.strict import NonNegative, Positive, StrictModel, Text

Floats = NDArray[np.float64]


class Curve(StrictModel):
    """A curve y(g) = design(g) @ coefficients.

    polynomial   y = sum c_k (g / reference)^k, `degree` + 1 coefficients
    spline       natural cubic spline, linear beyond its knots; the coefficients are its values at the knots
    tabulated    linear between knots; the coefficients are its values at the knots
    zero         no coefficients
    """

    kind: Literal["polynomial", "spline", "tabulated", "zero"] = Field(description="Family of the curve")
    reference_uS: Positive = Field(1.0, description="Conductance of a polynomial's unit")
    degree: int = Field(0, description="Degree of a polynomial", ge=0)
    knots_uS: tuple[NonNegative, ...] = Field((), description="Knots of a spline or table, ascending")

    @property
    def name(self) -> Text:
        names = ("constant", "linear", "quadratic", "cubic")
        if self.kind == "polynomial":
            return names[self.degree] if self.degree < len(names) else f"polynomial of degree {self.degree}"
        return self.kind if self.kind == "zero" else f"{self.kind} ({len(self.knots_uS)} knots)"

    @property
    def n_parameters(self) -> int:
        return {"polynomial": self.degree + 1, "zero": 0}.get(self.kind, len(self.knots_uS))

    def parameter_names(self, stem: str) -> list[str]:
        """``<stem>_c0`` of a polynomial, ``<stem>_at_5uS`` of a knot."""
        if self.kind == "polynomial":
            return [f"{stem}_c{k}" for k in range(self.degree + 1)]
        return [f"{stem}_at_{knot:g}uS" for knot in self.knots_uS]

    def design(self, g_uS: ArrayLike) -> Floats:
        """Values at g [uS] for each coefficient alone: (n, n_parameters)."""
        g = np.asarray(g_uS, float)
        match self.kind:
            case "zero":
                return np.zeros((len(g), 0))
            case "polynomial":
                return np.vander(g / self.reference_uS, self.degree + 1, increasing=True)
            case "tabulated":
                return np.stack([np.interp(g, self.knots_uS, row) for row in np.eye(len(self.knots_uS))], axis=1)
            case "spline":
                return linear_beyond(natural_spline(self.knots_uS), g)

    def constant(self, value: float) -> Floats:
        """Coefficients of a curve that has one value everywhere."""
        if self.kind == "polynomial":
            return value * np.eye(self.degree + 1)[0]
        return np.full(self.n_parameters, value)


def natural_spline(knots: tuple[float, ...]) -> CubicSpline:
    """Natural cubic splines, one for each knot, which is 1 there and 0 at the others."""
    return CubicSpline(knots, np.eye(len(knots)), bc_type="natural")


def linear_beyond(spline: CubicSpline, x: Floats) -> Floats:
    """A spline over x (n,), beyond its knots the straight lines that it ends in."""
    inside = np.clip(x, spline.x[0], spline.x[-1])
    return np.asarray(spline(inside) + (x - inside)[:, None] * spline(inside, 1), float)
