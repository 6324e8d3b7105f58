"""What is drawn, read back from the artists."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest

pytest.importorskip("matplotlib", reason="plots need matplotlib: pip install 'dicomlake[lab]'")

from dicomlake.cohorts.telling.plotting import Plots
from dicomlake.errors import QueryError

CALLS: dict[str, Callable[[Plots], Any]] = {
    "timeline": lambda plots: plots.timeline(),
    "density": lambda plots: plots.timeline(patients=2),
    "intervals": lambda plots: plots.intervals(),
    "hist": lambda plots: plots.hist("SliceThickness", by="Manufacturer"),
    "bar": lambda plots: plots.bar("Modality"),
    "facet": lambda plots: plots.facet("Manufacturer", "SliceThickness"),
    "scatter": lambda plots: plots.scatter("SliceThickness", "KVP", "Modality"),
    "missing": lambda plots: plots.missing(),
    "heatmap": lambda plots: plots.heatmap("Modality", "Manufacturer"),
}


@pytest.fixture
def table() -> pd.DataFrame:
    """Two hundred series of ten patients."""
    n = 200
    at = np.arange(n)
    return pd.DataFrame(
        {
            "PatientID": [f"secret{i // 20}" for i in at],
            "StudyInstanceUID": [f"1.{i // 5}" for i in at],
            "StudyDate": [f"20{10 + i // 5 % 4}0{1 + i // 5 % 9}11" if i >= 5 else None for i in at],
            "Modality": [["CT", "PT", "MR", None][i % 4] for i in at],
            "Manufacturer": [f"maker {i % 9}" for i in at],
            "SliceThickness": np.where(at % 10 == 0, np.nan, 1.0 + at % 3),
            "KVP": 80.0 + 20 * (at % 3),
        }
    )


def texts(figure: Any) -> str:
    from matplotlib.text import Text

    figure.canvas.draw()
    return "\n".join(one.get_text() for one in figure.findobj(Text))


@pytest.mark.parametrize("name", CALLS)
def test_every_plot_is_a_picture_without_a_patient_in_it(name: str, table: pd.DataFrame) -> None:
    figure = CALLS[name](Plots(table))
    assert figure._repr_png_().startswith(b"\x89PNG")
    assert "secret" not in texts(figure)


@pytest.mark.parametrize("name", CALLS)
def test_every_plot_of_nothing_is_a_picture_too(name: str, table: pd.DataFrame) -> None:
    empty = pd.DataFrame(table.iloc[:0])
    assert CALLS[name](Plots(empty))._repr_png_().startswith(b"\x89PNG")


def test_plots_leave_pyplot_alone() -> None:
    code = (
        "import sys, pandas as pd\nfrom dicomlake.cohorts.telling.plotting import Plots\n"
        "assert 'matplotlib' not in sys.modules\n"
        "Plots(pd.DataFrame({'Modality': ['CT']})).bar('Modality')._repr_png_()\n"
        "assert 'matplotlib.pyplot' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_bars_are_the_counts_with_others_and_missing_last(table: pd.DataFrame) -> None:
    figure = Plots(table.iloc[:45]).bar("Manufacturer", top=3)
    axes = figure.axes[0]
    assert [bar.get_width() for bar in axes.patches] == [5, 5, 5, 30]
    assert [label.get_text() for label in axes.get_yticklabels()][-1] == "6 others"
    figure = Plots(table).bar("Modality")
    assert [bar.get_width() for bar in figure.axes[0].patches] == [50, 50, 50, 50]
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()][-1] == "missing"


def test_a_histogram_counts_each_number_once_and_tells_what_is_missing(table: pd.DataFrame) -> None:
    figure = Plots(table).hist("SliceThickness")
    counts = table["SliceThickness"].value_counts().sort_index()
    drawn = [(bar.get_x() + bar.get_width() / 2, bar.get_height()) for bar in figure.axes[0].patches]
    assert drawn == list(counts.items())
    assert "20 of 200 series without a number" in texts(figure)


def test_a_stacked_histogram_adds_up(table: pd.DataFrame) -> None:
    axes = Plots(table).hist("SliceThickness", by="Manufacturer").axes[0]
    assert sum(bar.get_height() for bar in axes.patches) == 180
    assert [text.get_text() for text in axes.get_legend().get_texts()][-1] == "3 others"


def test_a_scatter_draws_each_series_that_has_both_numbers(table: pd.DataFrame) -> None:
    axes = Plots(table).scatter("SliceThickness", "KVP", "Modality").axes[0]
    assert sum(len(points.get_offsets()) for points in axes.collections) == 180


def test_the_timeline_has_a_point_for_each_visit_and_modality(table: pd.DataFrame) -> None:
    axes = Plots(table).timeline().axes[0]
    dated = table.dropna(subset=["StudyDate", "Modality"])
    expected = len(dated[["PatientID", "StudyDate", "Modality"]].drop_duplicates())
    assert sum(len(points.get_offsets()) for points in axes.collections) == expected


def test_intervals_are_those_between_dates_of_a_patient(table: pd.DataFrame) -> None:
    dates = pd.to_datetime(table["StudyDate"]).groupby(table["PatientID"]).unique()
    between = [d for one in dates for d in np.diff(np.sort(one[~pd.isna(one)]))]
    axes = Plots(table).intervals().axes[0]
    assert sum(bar.get_height() for bar in axes.patches) == len(between)


def test_the_map_shows_the_share_that_is_missing(table: pd.DataFrame) -> None:
    figure = Plots(table).missing()
    assert figure.axes[0].images[0].get_array().mean() == pytest.approx((5 + 50 + 20) / 200 / 7)
    assert "Modality  25 %" in texts(figure)


def test_the_heatmap_counts_pairs(table: pd.DataFrame) -> None:
    axes = Plots(table).heatmap("Modality", "Manufacturer").axes[0]
    assert sum(int(text.get_text()) for text in axes.texts) == 200


def test_a_column_that_identifies_is_refused(table: pd.DataFrame) -> None:
    plots = Plots(table)
    for call in (
        lambda: plots.bar("PatientID"),
        lambda: plots.heatmap("Modality", "StudyInstanceUID"),
        lambda: plots.hist("SliceThickness", by="PatientID"),
    ):
        with pytest.raises(QueryError, match="who the patients are"):
            call()


def test_text_where_numbers_are_needed_is_refused(table: pd.DataFrame) -> None:
    with pytest.raises(QueryError, match="no numbers"):
        Plots(table).hist("Modality")
    with pytest.raises(QueryError, match="no column EchoTime"):
        Plots(table).hist("EchoTime")
