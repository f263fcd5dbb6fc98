"""Core of the calibration room: ranking, intervals, tests of goodness, storage, pictures, public names."""

import ast
import dataclasses
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import yaml
from scipy import stats

import calibration
from calibration import FitPicture, ProgrammingTable, fit_programming, storage
from calibration.fit import Fit, Goodness, Parameter, build_device
from calibration.goodness import dispersion_test, normal_scores, shape_test, sum_of_squares_test
from calibration.intervals import bootstrap, hessian, normal_draws, percentile_intervals, profile_interval
from calibration.maximum import profile
from calibration.selection import Law, rank_laws
from device_models.errors import SpecError, StoreError, UsageError


def polynomial_law(name, degree, x, y):
    def held_out(train, test):
        c = np.polynomial.polynomial.polyfit(x[train], y[train], degree)
        sigma = np.std(y[train] - np.polynomial.polynomial.polyval(x[train], c))
        return stats.norm.logpdf(y[test], np.polynomial.polynomial.polyval(x[test], c), sigma)

    return Law(name, degree + 2, held_out)


@pytest.fixture(scope="module")
def fit():
    rng = np.random.default_rng(0)
    target = np.resize(np.linspace(1.0, 25.0, 8), 800)
    g = target + 0.5 * rng.standard_normal(800)
    return fit_programming(ProgrammingTable(g_target_uS=target, g_uS=g, cell=np.arange(800)), sigma="linear")


# ranking


def test_ranking_takes_the_plainest_law_within_one_standard_error():
    rng = np.random.default_rng(1)
    x = rng.uniform(-1, 1, 2000)
    y = 1 + 2 * x + rng.standard_normal(2000)
    ranking = rank_laws([polynomial_law(f"degree {k}", k, x, y) for k in range(5)], np.arange(2000))
    assert ranking.chosen == "degree 1"
    by_name = {c.model: c for c in ranking.candidates}
    assert [c.score for c in ranking.candidates] == sorted((c.score for c in ranking.candidates), reverse=True)
    # expected score of the truth is minus the entropy of the noise, of 0.707 nat standard deviation per observation
    entropy = 0.5 * np.log(2 * np.pi * np.e)
    assert by_name["degree 1"].score == pytest.approx(-entropy, abs=4 * np.sqrt(0.5 / 2000))
    assert by_name["degree 1"].score - by_name["degree 0"].score > 5 * by_name["degree 0"].score_se


def test_observations_of_one_cell_never_lie_on_both_sides():
    cells = np.repeat(np.arange(10), 7)
    seen = np.zeros(70, int)

    def held_out(train, test):
        assert not set(cells[train]) & set(cells[test])
        seen[test] += 1
        return np.zeros(test.sum())

    rank_laws([Law("any", 1, held_out)], cells)
    assert np.all(seen == 1)


def test_standard_error_of_a_score_is_over_cells():
    cells = np.repeat(np.arange(50), 20)
    shift = np.random.default_rng(2).standard_normal(50)[cells]  # the same for all of a cell
    laws = [
        Law("best", 1, lambda train, test: np.full(test.sum(), 5.0)),
        Law("other", 1, lambda train, test: shift[test]),
    ]
    other = rank_laws(laws, cells).candidates[1]
    assert other.score_se == pytest.approx(np.std(shift[::20], ddof=1) / np.sqrt(50), rel=1e-12)


def test_a_law_that_cannot_predict_is_left_out_with_a_warning():
    laws = [Law("fine", 3, lambda a, b: np.zeros(b.sum())), Law("bad", 1, lambda a, b: np.full(b.sum(), -np.inf))]
    ranking = rank_laws(laws, np.arange(20))
    assert ranking.chosen == "fine"
    assert ranking.warnings == ("candidate bad: left out, because it cannot predict 20 held-out observations",)
    with pytest.raises(UsageError, match="candidate bad: left out"):
        rank_laws(laws[1:], np.arange(20))
    with pytest.raises(UsageError, match="folds = 5: must be from 2 to 3, the number of cells"):
        rank_laws(laws, np.arange(3))


# intervals


def test_hessian_of_a_quadratic_form_is_its_matrix():
    matrix = np.array([[4.0, 1.0], [1.0, 3.0]])
    assert hessian(lambda x: x @ matrix @ x / 2, [1.0, -2.0], [1e-3, 1e-2]) == pytest.approx(matrix, rel=1e-6)


def test_normal_draws_have_their_covariance_even_where_it_is_singular():
    covariance = np.array([[4e-12, 2e-6, 0.0], [2e-6, 1.0, 0.0], [0.0, 0.0, 0.0]])  # one direction, very unlike scales
    draws = normal_draws([1.0, 2.0, 3.0], covariance, 20000, seed=1)
    assert np.cov(draws[:, :2].T)[1, 1] == pytest.approx(1.0, rel=0.04)  # 4 standard errors
    assert np.corrcoef(draws[:, 0], draws[:, 1])[0, 1] == pytest.approx(1.0, abs=1e-6)
    assert np.all(draws[:, 2] == 3.0)
    with pytest.raises(UsageError, match="negative eigenvalue"):
        normal_draws([0.0, 0.0], [[1.0, 2.0], [2.0, 1.0]])


def test_profile_interval_of_a_rate_covers():
    rng = np.random.default_rng(3)
    covered = []
    for total in rng.poisson(20.0, 400):

        def deviance(rate, total=total):
            return 2 * (total * np.log(total / rate) - (total - rate))

        low, high = profile_interval(deviance, float(total), np.sqrt(total), (1e-9, np.inf))
        assert deviance(low) == pytest.approx(stats.chi2.ppf(0.9, 1), rel=1e-3)
        covered.append(low <= 20.0 <= high)
    assert abs(np.mean(covered) - 0.9) < 0.05  # 3 standard errors and the steps of a Poisson number


def test_profile_of_what_the_data_leave_open_stays_finite():
    x = np.random.default_rng(0).standard_normal(100)

    def per_unit(theta):  # the second parameter matters only near the first one's estimate
        return -0.5 * (x - theta[0] - 0.2 * np.exp(-0.5 * theta[1] ** 2)) ** 2

    low, high = profile(per_unit, np.array([x.mean(), 9.0]), 1, None, np.eye(2))
    assert np.all(np.isfinite([low, high]))
    own = profile(per_unit, np.array([x.mean(), 9.0]), 0, [(-5.0, 5.0), (8.0, 9.0)], 0.01 * np.eye(2))
    assert own == pytest.approx(x.mean() + np.array([-0.1645, 0.1645]), abs=2e-3)


def test_profile_interval_ends_at_a_bound():
    assert profile_interval(lambda x: 100 * (x - 1) ** 2, 1.0, 0.1, (0.9, 5.0))[0] == 0.9
    assert profile_interval(lambda x: 0.0, 1.0, 0.1) == (-np.inf, np.inf)


def test_bootstrap_over_cells_gives_the_standard_error_of_a_mean():
    values = np.random.default_rng(4).normal(3.0, 2.0, 400)
    draws = bootstrap(lambda counts: [counts @ values / 400], 400, n=400)
    assert draws.shape == (400, 1)
    assert draws.std() == pytest.approx(values.std() / 20, rel=0.12)
    low, high = percentile_intervals(draws)
    assert low[0] < values.mean() < high[0]


# goodness


def test_tests_of_goodness_have_their_level_and_see_what_they_are_for():
    rng = np.random.default_rng(5)
    x = np.resize(np.arange(20.0), 2000)
    rates = np.zeros(4)
    for _ in range(200):
        z = rng.standard_normal(2000)
        trend = z * (0.8 + 0.4 * (x / 19))
        tests = [shape_test(z), dispersion_test(z, x), dispersion_test(trend, x), shape_test(rng.standard_t(3, 2000))]
        rates += [test.rejected for test in tests]
    assert np.all(rates[:2] / 200 < 0.1)
    assert np.all(rates[2:] / 200 > 0.9)


def test_dispersion_keeps_equal_places_together_and_divides_others_evenly():
    rng = np.random.default_rng(6)
    assert "(3 bins)" in dispersion_test(rng.standard_normal(90), np.resize([1.0, 2.0, 3.0], 90)).test
    assert "over t (8 bins)" in dispersion_test(rng.standard_normal(800), rng.random(800), name="t").test
    with pytest.raises(UsageError, match="1 not finite"):
        dispersion_test(np.r_[np.nan, np.zeros(30)], np.zeros(31))


def test_sum_of_squares_is_chi_squared():
    assert sum_of_squares_test([1.0, -1.0, 2.0, 0.5], 1).p_value == pytest.approx(stats.chi2.sf(6.25, 3), rel=1e-12)
    with pytest.raises(UsageError, match="nothing is left to test"):
        sum_of_squares_test([1.0], 1)


def test_normal_scores_turn_probabilities_into_normals():
    assert normal_scores([0.5, stats.norm.cdf(2.0)]) == pytest.approx([0.0, 2.0], abs=1e-12)
    assert np.all(np.isfinite(normal_scores([0.0, 1.0])))


def test_a_p_value_below_the_level_rejects():
    assert Goodness(test="t", statistic=1.0, p_value=0.049).rejected
    assert not Goodness(test="t", statistic=1.0, p_value=0.05).rejected
    with pytest.raises(SpecError, match=r"p_value = 1.5"):
        Goodness(test="t", statistic=1.0, p_value=1.5)
    with pytest.raises(SpecError, match="must not be above high"):
        Parameter(name="a", value=1.0, low=2.0, high=1.0)


# the fit


def test_a_fit_comes_back_from_yaml_bit_for_bit(fit, tmp_path):
    text = fit.to_yaml(tmp_path / "fit.yaml")
    again = type(fit).from_yaml(tmp_path / "fit.yaml")
    assert type(again) is type(fit)
    assert again.to_yaml() == text
    assert again.draws.tobytes() == fit.draws.tobytes()
    assert again.picture.residuals.tobytes() == fit.picture.residuals.tobytes()
    assert (again.parameters, again.provenance, again.goodness) == (fit.parameters, fit.provenance, fit.goodness)


HEAD = "kind: ProgrammingFit\nschema_version: 1\n"
FIRST_HEAD = "fit: ProgrammingFit\nmodule: calibration.programming\n"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("kind:", "kin:"), "is not a fit"),
        (("draws:", "drawn:"), "is damaged: unknown field 'drawn'; nearest: \"draws\""),
        (("quantity: programming error", ""), "is damaged"),
        (("quantity:", "quantity: ["), "is not valid YAML"),
        (("kind: ProgrammingFit", "kind: ProgramingFit"), "kind = 'ProgramingFit': .*nearest: \"ProgrammingFit\""),
        (("kind: ProgrammingFit", "kind: calibration.programming.Path"), "kind = 'calibration.programming.Path': must"),
        (("kind: ProgrammingFit", "kind: os.system"), "kind = 'os.system': must be one of"),
        (("kind: ProgrammingFit", "kind: [1]"), "must be one of"),
        (("schema_version: 1", "schema_version: 2"), "schema_version = 2: .* newer version"),
        (("schema_version: 1", "schema_version: 0"), "schema_version = 0: must be"),
        (("schema_version: 1", "schema_version: true"), "schema_version = True: must be"),
        (("schema_version: 1", "schema_version: '1'"), "schema_version = '1': must be"),
        (("schema_version: 1\n", ""), "schema_version = None: must be"),
        (("schema_version: 1", "schema_version: 1\nmodule: os"), "unknown field 'module'"),
        ((HEAD, FIRST_HEAD.replace("calibration.programming", "os")), "unknown class os.ProgrammingFit"),
        ((HEAD, FIRST_HEAD.replace("programming\n", "nothing\n")), "unknown class calibration.nothing.Programming"),
        ((HEAD, FIRST_HEAD.replace("ProgrammingFit", "Path")), "kind = 'Path': must be one of"),
        ((HEAD, "fit: ProgrammingFit\n"), "is not a fit"),
    ],
)
def test_a_file_that_is_no_fit_is_refused(fit, tmp_path, change, message):
    path = tmp_path / "fit.yaml"
    text = fit.to_yaml().replace(*change, 1)
    assert text != fit.to_yaml()
    path.write_text(text)
    with pytest.raises(StoreError, match=message):
        Fit.from_yaml(path)


def edited(fit, edit):
    data = yaml.safe_load(fit.to_yaml())
    edit(data)
    return yaml.safe_dump(data, sort_keys=False)


EDITS = {
    "parameters reversed": lambda data: data["parameters"].reverse(),
    "a parameter renamed": lambda data: data["parameters"][0].update(name="x"),
    "a parameter doubled": lambda data: data["parameters"][1].update(name=data["parameters"][0]["name"]),
    "a parameter dropped": lambda data: data["parameters"].pop(),
    "draws without shape": lambda data: data["draws"].pop("shape"),
    "draws without values": lambda data: data["draws"].pop("values"),
    "draws of floats": lambda data: data["draws"].update(shape=[float(n) for n in data["draws"]["shape"]]),
    "draws of one shape": lambda data: data["draws"].update(shape=5),
    "a draw that is none": lambda data: data["draws"].update(values="nan" + data["draws"]["values"][3:]),
    "another window": lambda data: data.update(window_uS=[0.0, 1.0]),
    "a text for a number": lambda data: data["provenance"].update(n_used="many"),
}


@pytest.mark.parametrize("edit", EDITS.values(), ids=EDITS)
def test_a_fit_that_was_edited_is_refused(fit, tmp_path, edit):
    (tmp_path / "fit.yaml").write_text(edited(fit, edit))
    with pytest.raises(StoreError, match="is damaged") as caught:
        Fit.from_yaml(tmp_path / "fit.yaml")
    assert "\n" not in str(caught.value)
    assert "http" not in str(caught.value)


def test_every_field_of_a_fit_is_needed_without_a_checksum_too(fit, tmp_path):
    for field in dataclasses.fields(fit):

        def without(data, name=field.name):
            del data["checksum"], data[name]

        (tmp_path / "fit.yaml").write_text(edited(fit, without))
        with pytest.raises(StoreError, match=f"field '{field.name}' is missing"):
            Fit.from_yaml(tmp_path / "fit.yaml")


def test_a_fit_without_a_checksum_is_read(fit, tmp_path):
    (tmp_path / "fit.yaml").write_text(edited(fit, lambda data: data.pop("checksum")))
    assert Fit.from_yaml(tmp_path / "fit.yaml").to_yaml() == fit.to_yaml()


@pytest.mark.parametrize("text", ["[" * 3000, "kind: 2026-13-45", "? [a]\n: 1", "kind: !!int x", "{{a: 1}: 2}"])
def test_text_that_yaml_chokes_on_is_no_fit(tmp_path, text):
    (tmp_path / "fit.yaml").write_text(text)
    with pytest.raises(StoreError) as caught:
        Fit.from_yaml(tmp_path / "fit.yaml")
    assert "\n" not in str(caught.value)


def test_a_file_says_its_kind_and_version_first_and_no_module(fit):
    text = fit.to_yaml()
    assert text.startswith(HEAD)
    assert "calibration." not in text


def test_files_from_before_kinds_are_read(fit, tmp_path):
    (tmp_path / "fit.yaml").write_text(fit.to_yaml().replace(HEAD, FIRST_HEAD))
    assert Fit.from_yaml(tmp_path / "fit.yaml").to_yaml() == fit.to_yaml()


def test_every_fit_has_a_kind_that_names_its_class():
    fits = [getattr(calibration, name) for name in calibration.__all__]
    fits = {cls for cls in fits if isinstance(cls, type) and issubclass(cls, Fit) and cls is not Fit}
    assert {cls.__name__: cls.__module__ for cls in fits} == storage.KINDS
    assert storage._IN_FIRST_FILES.keys() <= storage.KINDS.keys()


def test_a_file_is_read_wherever_the_module_of_its_class_is(fit, tmp_path, monkeypatch):
    fit.to_yaml(tmp_path / "fit.yaml")
    (tmp_path / "first.yaml").write_text(fit.to_yaml().replace(HEAD, FIRST_HEAD))
    moved = types.ModuleType("calibration.elsewhere.programming")
    moved.ProgrammingFit = type(fit)
    monkeypatch.setitem(sys.modules, moved.__name__, moved)
    monkeypatch.setitem(storage.KINDS, "ProgrammingFit", moved.__name__)
    for name in ("fit.yaml", "first.yaml"):
        assert Fit.from_yaml(tmp_path / name).draws.tobytes() == fit.draws.tobytes()


def test_a_fit_of_ones_own_is_saved_under_a_name_of_its_own(fit, tmp_path):
    own = type("LaboratoryFit", (type(fit),), {"__module__": "laboratory"})
    shadow = type("DriftFit", (type(fit),), {"__module__": "laboratory"})
    data = {field.name: getattr(fit, field.name) for field in dataclasses.fields(fit)}
    own(**data).to_yaml(tmp_path / "own.yaml")
    assert type(Fit.from_yaml(tmp_path / "own.yaml")) is own
    with pytest.raises(UsageError, match=r"laboratory\.DriftFit: must have a name of its own"):
        shadow(**data).to_yaml()


def test_values_by_name_and_a_mistyped_name(fit):
    assert fit.value("sigma_c0") == fit.values[4]
    with pytest.raises(UsageError, match=r"no parameter 'sigma_c'; has bias_c0, .*nearest: \"sigma_c"):
        fit.value("sigma_c")


def test_the_device_has_this_fit_only_and_its_window(fit):
    device = fit.to_device()
    assert (device.g_min_uS, device.g_max_uS) == (1.0, 25.0)
    assert device.drift is None
    assert device.read is None
    assert device.fit_record.laws[0].quantity == "programming error"
    assert fit.to_device(g_max_uS=20.0).g_max_uS == 20.0
    with pytest.raises(UsageError, match="g_max_uS = 30: must be at most 25 uS, as measured"):
        fit.to_device(g_max_uS=30.0)
    with pytest.raises(UsageError, match=r"g_max_uS = 0\.5: must be above 1 uS"):
        fit.to_device(g_max_uS=0.5)
    with pytest.raises(UsageError, match="'programming' is already determined by another fit"):
        build_device([fit, fit])
    with pytest.raises(UsageError, match="n = 201: must be from 1 to 200"):
        fit.sample_devices(201)


def test_the_summary_says_all_there_is_to_know(fit):
    text = fit.summary()
    for words in ("programming error", "800 observations", "sigma_c1", "uS", "90 % intervals", "not rejected"):
        assert words in text


def test_the_picture_holds_measurements_band_and_residuals(fit, tmp_path):
    figure = fit.plot(tmp_path / "fit.png")
    assert (tmp_path / "fit.png").stat().st_size > 10_000
    data, residuals, quantiles = figure.axes
    assert len(data.collections[0].get_offsets()) == 800
    assert data.lines[0].get_ydata() == pytest.approx(fit.bias_uS(data.lines[0].get_xdata()))
    assert len(residuals.collections[0].get_offsets()) == 800
    assert np.ptp(quantiles.lines[0].get_xdata()) > 4
    with pytest.raises(StoreError, match="cannot be written"):
        fit.plot(tmp_path / "nowhere" / "fit.png")


def test_a_large_picture_is_thinned_evenly():
    x = np.arange(100_000.0)
    picture = FitPicture.of((x, x, x), (x[:2], x[:2], x[:2], x[:2]), "x", "y")
    assert len(picture.x) == 3000
    assert (picture.x[0], picture.x[-1]) == (0.0, 99_999.0)
    assert np.diff(picture.x).max() <= 34
    with pytest.raises(UsageError, match="must each have one length"):
        FitPicture.of((x, x[:5], x), (x, x, x, x), "x", "y")


def test_every_public_name_can_be_had_and_a_mistyped_one_is_told_the_nearest():
    for name in calibration.__all__:
        assert getattr(calibration, name).__name__ == name
    assert set(calibration.__all__) <= set(dir(calibration))
    with pytest.raises(AttributeError) as caught:
        calibration.fit_programing  # noqa: B018
    assert str(caught.value).endswith('nearest: "fit_programming"')


def test_a_type_checker_sees_every_public_name():
    """What stands under TYPE_CHECKING is what is loaded when it is asked for, name by name."""
    tree = ast.parse(Path(calibration.__file__).read_text())
    seen = {
        alias.name: node.module
        for block in tree.body
        if isinstance(block, ast.If) and ast.unparse(block.test) == "TYPE_CHECKING"
        for node in block.body
        for alias in node.names
    }
    assert seen == calibration._LAZY
    assert sorted(seen) == sorted(calibration.__all__)
    assert (Path(calibration.__file__).parent / "py.typed").exists()
