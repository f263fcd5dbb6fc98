"""Maximum likelihood of a Gaussian error whose mean and spread are curves over the target."""

from __future__ import annotations

from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from calibration.curves import Curve
from device_models.errors import UsageError

Floats = NDArray[np.float64]


class Levels(NamedTuple):
    """Sufficient statistics of errors at each target: all arrays (n_levels,).

    g_uS target; weight observations; mean_uS mean error; square_uS2 mean squared deviation from that mean.
    A published s.d. of n devices without its mean has weight n - 1, mean 0 and square s^2: its sampling law.
    """

    g_uS: Floats
    weight: Floats
    mean_uS: Floats
    square_uS2: Floats

    @classmethod
    def of(cls, g_uS: Floats, error_uS: Floats) -> Self:
        """Of single devices."""
        g, index, counts = np.unique(g_uS, return_inverse=True, return_counts=True)
        mean = np.bincount(index, error_uS) / counts
        square = np.bincount(index, (error_uS - mean[index]) ** 2) / counts
        return cls(g, counts.astype(float), mean, square)


class GaussianLaw(NamedTuple):
    """Error of a device with target g: normal with mean bias(g) and standard deviation sigma(g)."""

    bias: Curve
    sigma: Curve

    def split(self, values: Floats) -> tuple[Floats, Floats]:
        """Coefficients of bias and sigma."""
        return values[: self.bias.n_parameters], values[self.bias.n_parameters :]

    def at(self, g_uS: Floats, values: Floats) -> tuple[Floats, Floats]:
        """Mean and standard deviation of the error at g [uS]; sigma is not checked to be positive."""
        bias, sigma = self.split(values)
        return self.bias.design(g_uS) @ bias, self.sigma.design(g_uS) @ sigma

    def estimate(self, levels: Levels) -> Floats:
        """Maximum-likelihood coefficients, those of bias first [uS].

        Equation   minimise sum w (ln sigma + (s^2 + (m - bias)^2) / (2 sigma^2)) by a trust-region Newton method with
                   Fisher's expected second derivatives, from a constant spread
        Errors     UsageError where all errors are equal, so that no spread can be fitted, or nothing is found
        """
        total = levels.weight.sum()
        centre = np.sum(levels.weight * levels.mean_uS) / total if self.bias.n_parameters else 0.0
        scale = float(np.sqrt(np.sum(levels.weight * (levels.square_uS2 + (levels.mean_uS - centre) ** 2)) / total))
        if not scale > 0:
            raise UsageError("programming error: all errors are equal: no spread can be fitted")
        weight = levels.weight / total
        mean, square = levels.mean_uS / scale, levels.square_uS2 / scale**2
        of_bias, of_sigma = self.bias.design(levels.g_uS), self.sigma.design(levels.g_uS)
        p = self.bias.n_parameters

        def parts(values: Floats) -> tuple[Floats, Floats]:
            return mean - of_bias @ values[:p], of_sigma @ values[p:]

        def loss(values: Floats) -> float:
            off, sigma = parts(values)
            if not np.all(sigma > 0):
                return np.inf
            return float(np.sum(weight * (np.log(sigma) + (square + off**2) / (2 * sigma**2))))

        def gradient(values: Floats) -> Floats:
            off, sigma = parts(values)
            of_spread = (1 - (square + off**2) / sigma**2) / sigma
            return np.concatenate([-(weight * off / sigma**2) @ of_bias, (weight * of_spread) @ of_sigma])

        def information(values: Floats) -> Floats:
            _, sigma = parts(values)
            matrix = np.zeros((len(values), len(values)))
            matrix[:p, :p] = (of_bias.T * (weight / sigma**2)) @ of_bias
            matrix[p:, p:] = 2 * (of_sigma.T * (weight / sigma**2)) @ of_sigma
            return matrix

        start = np.concatenate([self.bias.constant(centre / scale), self.sigma.constant(1.0)])
        with np.errstate(invalid="ignore"):
            found = minimize(loss, start, jac=gradient, hess=information, method="trust-exact", options={"gtol": 1e-7})
        if not np.all(np.isfinite(found.x)) or np.abs(found.jac).max(initial=0.0) > 1e-4:
            raise UsageError(f"programming error: no maximum of the likelihood was found for sigma {self.sigma.name}")
        return found.x * scale

    def scores(self, g_uS: Floats, error_uS: Floats, values: Floats) -> Floats:
        """Derivative of each observation's log likelihood by the coefficients: (n, n_parameters)."""
        bias, sigma = self.at(g_uS, values)
        off = error_uS - bias
        of_spread = (off**2 / sigma**2 - 1) / sigma
        return np.hstack(
            [self.bias.design(g_uS) * (off / sigma**2)[:, None], self.sigma.design(g_uS) * of_spread[:, None]]
        )

    def information(self, levels: Levels, values: Floats) -> Floats:
        """Fisher's expected information of all observations: (n_parameters, n_parameters)."""
        _, sigma = self.at(levels.g_uS, values)
        w = levels.weight / sigma**2
        of_bias, of_sigma = self.bias.design(levels.g_uS), self.sigma.design(levels.g_uS)
        p = self.bias.n_parameters
        matrix = np.zeros((len(values), len(values)))
        matrix[:p, :p] = (of_bias.T * w) @ of_bias
        matrix[p:, p:] = 2 * (of_sigma.T * w) @ of_sigma
        return matrix

    def log_likelihood(self, g_uS: Floats, error_uS: Floats, values: Floats) -> Floats:
        """Of each observation [nat]; minus infinity where the spread is not positive."""
        bias, sigma = self.at(g_uS, values)
        positive = sigma > 0
        sigma = np.where(positive, sigma, 1.0)
        density = -0.5 * np.log(2 * np.pi) - np.log(sigma) - (error_uS - bias) ** 2 / (2 * sigma**2)
        return np.where(positive, density, -np.inf)
