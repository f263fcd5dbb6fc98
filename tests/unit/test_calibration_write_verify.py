"""Writing with verification: recovery, coverage, rejection, and the programming loop that a fit makes."""

from dataclasses import replace

import numpy as np
import pytest

from calibration.write_table import WriteVerifyTable
from calibration.write_verify import WriteVerifyFit, fit_write_verify
from crossbar_sim.devices.effect_tables import verify_table
from crossbar_sim.kernels.programming import program_verify_matrix, write_keys
from device_models.errors import UsageError

RATE, EXPONENT, SLOPE, THETA = 0.05, 0.5, 0.7, 0.5


def writes(seed, n=4000, theta=0.0, count=False, cell_sigma=0.0):
    """Attempts that succeed with 1 - exp(-rate (h/h_ref)^0.5 exp(0.7 u) gamma); 40 cells."""
    rng = np.random.default_rng(seed)
    half = rng.choice([0.25, 0.5, 1.0, 2.0], n)
    half[:4] = [0.25, 0.5, 1.0, 2.0]
    middle = rng.uniform(20, 100, n)
    middle[:2] = [20, 100]
    cell = np.arange(n) % 40
    rate = RATE * (half / np.exp(np.mean(np.log(half)))) ** EXPONENT * np.exp(SLOPE * (middle - 60) / 40)
    rate = rate * np.exp(cell_sigma * rng.standard_normal(40))[cell]
    if theta:
        rate = rate * rng.gamma(1 / theta, theta, n)
    needed = rng.geometric(-np.expm1(-rate).clip(max=-1e-9))
    limit = rng.choice([10, 25, 50, 100], n)
    accepted = needed <= limit
    after = np.where(accepted, middle + half * rng.uniform(-1, 1, n), middle + 3 * half)
    return WriteVerifyTable(
        g_low_uS=middle - half, g_high_uS=middle + half, max_attempts=limit, accepted=accepted, cell=cell,
        attempts=np.minimum(needed, limit) if count else None, g_after_uS=after,
    )  # fmt: skip


@pytest.mark.parametrize(("theta", "count"), [(0.0, False), (THETA, False), (THETA, True)])
def test_intervals_cover_and_are_centred(theta, count):
    model = "geometric, degree 1" + (", mixed" if theta else "")
    truth = [RATE, EXPONENT, SLOPE, *([theta] if theta else []), 0.0, 1 / np.sqrt(3)]
    covered, offset = [], []
    for seed in range(30):
        table = writes(seed, n=1500, theta=theta, count=count)
        fit = fit_write_verify(table, model=model)
        covered += [p.low <= true <= p.high for p, true in zip(fit.parameters, truth, strict=True)]
        offset.append([(p.value - true) / (p.high - p.low) for p, true in zip(fit.parameters, truth, strict=True)])
    assert 0.83 <= np.mean(covered) <= 0.97  # 150 intervals and more: 0.9 +- 0.024
    assert np.abs(np.mean(offset, axis=0)).max() < 0.25


def test_standard_errors_hold_where_cells_differ():
    """Those of independent writes would be too small: the 40 cells share what their writes have in common."""
    values, own, naive = [], [], []
    for seed in range(30):
        table = writes(seed, n=2000, cell_sigma=0.5)
        fit = fit_write_verify(table, model="geometric, degree 1")
        assert "robust to 40 cells" in fit.intervals
        values.append(np.log(fit.value("rate")))
        own.append(np.log(fit.parameters[0].high / fit.parameters[0].low) / 3.29)
        if seed < 5:  # widths of independent writes hardly differ among tables
            alone = fit_write_verify(replace(table, cell=np.arange(2000)), model="geometric, degree 1")
            naive.append(np.log(alone.parameters[0].high / alone.parameters[0].low) / 3.29)
    assert np.mean(own) == pytest.approx(np.std(values), rel=0.4)  # the s.d. of 30 values is known to 13 %
    assert np.mean(naive) < 0.6 * np.std(values)


def test_right_law_is_kept_and_wrong_laws_are_rejected():
    right, no_place, not_mixed = 0, 0, 0
    for seed in range(8):
        table = writes(seed, n=5000, theta=2.0)
        right += fit_write_verify(table, model="geometric, degree 1, mixed").goodness[0].rejected
        no_place += fit_write_verify(table, model="geometric, degree 0, mixed").goodness[0].rejected
        not_mixed += fit_write_verify(table, model="geometric, degree 1").goodness[0].rejected
    assert right <= 2  # 5 % of 8 expected; more has a chance of 0.6 %
    assert no_place >= 7
    assert not_mixed >= 7


def test_ranking_finds_the_law():
    assert fit_write_verify(writes(1, theta=1.5), seed=1).model == "geometric, degree 1, mixed"


def test_programming_loop_succeeds_as_often_as_the_fit_says():
    fit = fit_write_verify(writes(2, theta=THETA), model="geometric, degree 1, mixed")
    loop = fit.to_programming(60.0, 0.5, 25)
    target = np.full((4, 5000), 60.0)
    g, pulses, converged = np.empty_like(target), np.empty(target.shape, np.int32), np.empty(target.shape, bool)
    table = verify_table(loop, 0.0)
    program_verify_matrix(0, 0, len(target), target, write_keys(0, "w")[0], 0, 0, table, g, pulses, converged)
    expected = float(fit.success(60.0, 0.5, 25))
    assert converged.mean() == pytest.approx(expected, abs=4 * np.sqrt(expected * (1 - expected) / target.size))
    assert expected == pytest.approx(1 - (1 + THETA * 25 * RATE * (0.5 / 0.7071) ** EXPONENT) ** (-1 / THETA), abs=0.04)


def test_resistances_become_conductances(tmp_path):
    path = tmp_path / "w.csv"
    rows = "\n".join(f"{k % 5},8000,10000,10,{int(k % 3 > 0)},110" for k in range(40))
    path.write_text("cell,target_r_lo_ohm,target_r_hi_ohm,max_attempts,accepted,g_after_uS\n" + rows)
    table = WriteVerifyTable.from_csv(path)
    assert (table.g_low_uS[0], table.g_high_uS[0]) == pytest.approx((100.0, 125.0))
    fit = fit_write_verify(table, model="geometric, degree 0")
    assert any("window_exponent: not identified" in text for text in fit.warnings)
    # 26 of 40 within 10 attempts
    assert float(fit.success(112.5, 12.5, 10)) == pytest.approx(26 / 40, abs=1e-3)


def test_yaml_gives_the_same_fit(tmp_path):
    fit = fit_write_verify(writes(3, n=500), model="redraw, degree 1")
    fit.to_yaml(tmp_path / "w.yaml")
    again = WriteVerifyFit.from_yaml(tmp_path / "w.yaml")
    assert np.array_equal(again.draws, fit.draws)
    assert again.success(50.0, 1.0, 7) == fit.success(50.0, 1.0, 7)


def test_refusals():
    table = writes(4, n=100)
    columns = {
        "g_low_uS": table.g_low_uS, "g_high_uS": table.g_high_uS, "max_attempts": table.max_attempts,
        "accepted": table.accepted.astype(int),
    }  # fmt: skip
    for name, bad, text in (
        ("accepted", 2, "accepted = 2: must be 0 or 1"),
        ("max_attempts", 0, "max_attempts = 0: must be a whole number from 1"),
        ("g_high_uS", 0.0, "must be above 0 uS"),
    ):
        with pytest.raises(UsageError, match=text):
            WriteVerifyTable.from_frame({**columns, name: np.full(100, bad)})
    with pytest.raises(UsageError, match="100 of 100 writes: all or none"):
        fit_write_verify(WriteVerifyTable.from_frame({**columns, "accepted": np.ones(100)}))
    fit = fit_write_verify(table, model="geometric, degree 1")
    with pytest.raises(UsageError, match="was measured from 20 to 100 uS"):
        fit.success(120.0, 1.0, 10)
    with pytest.raises(UsageError, match="is no property of a device"):
        fit.to_device(100.0)
