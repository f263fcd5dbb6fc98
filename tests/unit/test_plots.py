"""What a plot of a sweep shows."""

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

import crossbar_sim as cs
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


def test_infinite_values_are_drawn_around(drawn, tmp_path):
    frame = table(chips=["one"], metrics=["perplexity"])
    frame.loc[frame["time_s"] == TIMES[-1], "value"] = np.inf
    path = plot_sweep(frame, tmp_path / "inf.png")
    assert path.read_bytes().startswith(b"\x89PNG")


def test_an_empty_table_is_refused(tmp_path):
    with pytest.raises(cs.UsageError, match="plot: the table has no rows"):
        plot_sweep(table().iloc[:0], tmp_path / "plot.png")
    assert not (tmp_path / "plot.png").exists()
