"""What a plot of a sweep shows."""

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

import crossbar_sim as cs
from crossbar_sim.view.fidelity import plot_fidelity
from crossbar_sim.view.plots import plot_sweep

TIMES = [0.0, 1.0, 3600.0, 31536000.0]


def table(times=TIMES, chips=("one", "other"), metrics=("perplexity", "kl_to_digital"), scale=1.0):
    rows = [
        (chip, seed, t, metric, scale * (10.0 + 5 * c + m + seed + k), 9.0)
        for c, chip in enumerate(chips)
        for seed in (0, 1, 2)
        for k, t in enumerate(times)
        for m, metric in enumerate(metrics)
    ]
    return pd.DataFrame(rows, columns=["chip", "seed", "time_s", "metric", "value", "digital"])


@pytest.fixture
def drawn(monkeypatch):
    """Figures as they were when they were saved."""
    figures = []
    save = Figure.savefig
    monkeypatch.setattr(Figure, "savefig", lambda self, *args, **kw: (figures.append(self), save(self, *args, **kw)))
    return figures


def test_axes_lines_and_bands(drawn, tmp_path):
    path = plot_sweep(table(), tmp_path / "plot.png")
    assert path.read_bytes().startswith(b"\x89PNG\r\n")
    (figure,) = drawn
    assert [axes.get_ylabel() for axes in figure.axes] == ["perplexity", "KL divergence from digital [nat]"]
    for m, axes in enumerate(figure.axes):
        assert axes.get_xscale() == "log"
        assert axes.get_yscale() == "linear"
        assert axes.get_xlabel() == "time after programming"
        one, other, digital = axes.lines
        for c, line in enumerate((one, other)):
            np.testing.assert_allclose(line.get_xdata(), [0.1, 1, 3600, 31536000])  # zero a decade ahead of the first
            np.testing.assert_allclose(line.get_ydata(), 11.0 + 5 * c + m + np.arange(4))
            corners = axes.collections[c].get_paths()[0].vertices
            assert (corners[:, 1].min(), corners[:, 1].max()) == (10.0 + 5 * c + m, 15.0 + 5 * c + m)
            assert to_rgb(axes.collections[c].get_facecolor()[0][:3]) == to_rgb(line.get_color())
        assert digital.get_linestyle() == "--"
        assert set(digital.get_ydata()) == {9.0}
        ticks = [label.get_text() for label in axes.get_xticklabels()]
        assert ticks == ["0s", "1s", "1h", "1y"]
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    assert legend == ["one", "other", "digital"]


def test_bands_over_chips_and_over_devices_are_apart(drawn, tmp_path):
    rows = [
        ("fitted", device, seed, t, "perplexity", 10.0 + 5 * device + seed, 9.0)
        for device in (0, 1, 2)
        for seed in (0, 1)
        for t in TIMES
    ]
    columns = ["chip", "device", "seed", "time_s", "metric", "value", "digital"]
    plot_sweep(pd.DataFrame(rows, columns=columns), tmp_path / "plot.png")
    axes = drawn[0].axes[0]
    np.testing.assert_allclose(axes.lines[0].get_ydata(), 15.5)
    seeds, devices = (band.get_paths()[0].vertices[:, 1] for band in axes.collections)
    assert (seeds.min(), seeds.max()) == (15.0, 16.0)  # means over devices
    assert (devices.min(), devices.max()) == (10.5, 20.5)  # means over seeds
    assert axes.collections[1].get_hatch() == "///"
    legend = [text.get_text() for text in drawn[0].legends[0].get_texts()]
    assert legend == ["fitted", "fitted: uncertainty of the fit", "digital"]


def test_large_values_get_a_log_axis_but_shares_do_not(drawn, tmp_path):
    wide = table(chips=["one"], metrics=["perplexity"])
    wide.loc[0, "value"] = 1e4
    plot_sweep(wide, tmp_path / "wide.png")
    shares = table(chips=["one"], metrics=["next_token_accuracy"], scale=0.01)
    shares.loc[0, "value"] = 1e-4
    shares["digital"] = 0.3
    plot_sweep(shares, tmp_path / "shares.png")
    assert [figure.axes[0].get_yscale() for figure in drawn] == ["log", "linear"]


@pytest.mark.parametrize("times", [[0.0], [3600.0]])
def test_a_single_time(drawn, tmp_path, times):
    assert plot_sweep(table(times, ["one"], ["some_metric"]), tmp_path / "one.png").stat().st_size > 1000
    assert drawn[0].axes[0].get_ylabel() == "some metric"


def marks(axes):
    """What is written within axes, and where on their x axis."""
    return sorted((text.get_text(), float(text.xy[0])) for text in axes.texts)


@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan])
@pytest.mark.parametrize("at", range(4))
@pytest.mark.parametrize("seeds", [(0,), (1, 2), (0, 1, 2)])
def test_what_is_not_finite_is_shown(drawn, tmp_path, value, at, seeds):
    frame = table(metrics=["perplexity"])
    missing = (frame["chip"] == "other") & (frame["time_s"] == TIMES[at]) & frame["seed"].isin(seeds)
    frame.loc[missing, "value"] = value
    plot_sweep(frame, tmp_path / "missing.png")
    (axes,) = drawn[0].axes
    places = [0.1, 1, 3600, 31536000]
    name = {np.inf: "inf", -np.inf: "-inf"}.get(value, "nan")
    assert marks(axes) == [(name if len(seeds) == 3 else f"{name} {len(seeds)} of 3", places[at])]
    assert axes.get_title() == f"not finite: {len(seeds)} of 24 values"
    low, high = axes.get_xlim()
    assert low < places[0] < places[-1] < high
    assert [label.get_text() for label in axes.get_xticklabels()] == ["0s", "1s", "1h", "1y"]
    one, other = (line for line in axes.lines if line.get_label() in ("one", "other"))
    assert np.isfinite(one.get_ydata()).all()
    assert np.flatnonzero(~np.isfinite(other.get_ydata())).tolist() == [at]
    assert np.isfinite(axes.get_ylim()).all()
    legend = [text.get_text() for text in drawn[0].legends[0].get_texts()]
    assert legend == ["one", "other", "digital"]


@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan])
@pytest.mark.parametrize("times", [[3600.0], TIMES])
@pytest.mark.parametrize("seeds", [(1,), (0, 2)])
def test_finite_values_are_drawn_beside_others_that_are_not(drawn, tmp_path, value, times, seeds):
    frame = table(times, ["one"], ["perplexity"])
    frame.loc[(frame["time_s"] == 3600.0) & frame["seed"].isin(seeds), "value"] = value
    plot_sweep(frame, tmp_path / "beside.png")
    (axes,) = drawn[0].axes
    (points,) = (found for found in axes.collections if found.get_label() == "_alone")
    left = frame[(frame["time_s"] == 3600.0) & np.isfinite(frame["value"])]
    np.testing.assert_allclose(points.get_offsets(), [(3600.0, v) for v in left["value"]])


def test_nothing_finite_at_all(drawn, tmp_path):
    frame = table(metrics=["perplexity"]).assign(value=np.nan, digital=np.inf)
    plot_sweep(frame, tmp_path / "nothing.png")
    (axes,) = drawn[0].axes
    assert axes.get_title() == "not finite: 24 of 24 values"
    assert [text for text, _ in marks(axes)] == ["inf"] + ["nan"] * 8
    low, high = axes.get_xlim()
    assert low < 0.1
    assert high > TIMES[-1]


def test_finite_values_have_no_marks(drawn, tmp_path):
    plot_sweep(table(), tmp_path / "finite.png")
    assert [(axes.get_title(), marks(axes)) for axes in drawn[0].axes] == [("", [])] * 2


@pytest.mark.parametrize("name", ["mean", "sd"])
@pytest.mark.parametrize("value", [np.inf, np.nan])
def test_columns_of_a_fidelity_report_that_are_not_finite(drawn, tmp_path, name, value):
    rows = [
        {"tier": tier, "versus": versus, "column": column, "mean": 0.1, "sd": 0.2}
        for tier, versus in (("nodal", "digital"), ("tile", "digital"), ("tile", "nodal"))
        for column in range(5)
    ]
    frame = pd.DataFrame(rows)
    frame.loc[(frame["tier"] == "tile") & (frame["column"] == 4), name] = value
    plot_fidelity(frame, tmp_path / "fidelity.png")
    for axes, count in zip(drawn[0].axes, (20, 10), strict=True):
        assert [text for text, _ in marks(axes)] == [str(value)]
        assert axes.get_title() == f"not finite: 1 of {count} values"
        assert axes.get_xlim() == (-0.5, 4.5)


def test_an_empty_table_is_refused(tmp_path):
    with pytest.raises(cs.UsageError, match="plot: the table has no rows"):
        plot_sweep(table().iloc[:0], tmp_path / "plot.png")
    assert not (tmp_path / "plot.png").exists()
