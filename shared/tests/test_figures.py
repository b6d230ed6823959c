import math

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from scipy import stats

from shared.figures import (
    COLORS,
    LINES,
    RULES,
    Curve,
    Panel,
    count_of_seeds,
    draw_confusion,
    draw_curves,
    draw_panels,
    draw_run,
    integer_ticks,
    interval,
    legend_beside,
    plot_columns,
    plot_curves,
    save_figure,
    styles_of,
)


@pytest.fixture(autouse=True)
def _closed():
    yield
    plt.close("all")


def series(*values: float, first: int = 1) -> pd.Series:
    return pd.Series(values, index=range(first, first + len(values)), dtype=float)


def words_of(legend) -> list[str]:
    return [text.get_text() for text in legend.get_texts()]


def assert_beside(figure, legend) -> None:
    """The legend covers no axes."""
    figure.canvas.draw()
    covered = legend.get_window_extent()
    for axes in figure.axes:
        assert not covered.overlaps(axes.get_window_extent())


def test_no_two_rules_are_drawn_alike():
    assert len(set(RULES.values())) == len(RULES)
    assert len(set(COLORS)) == len(COLORS)
    assert {style.color for style in RULES.values()} <= set(COLORS)


def test_a_rule_keeps_its_style_and_variants_of_it_differ_by_line():
    brp, again, other, dfa = styles_of(["BRP", "BRP", "layer 1", "DFA"])
    assert brp == (RULES["BRP"], LINES[0])
    assert again == (RULES["BRP"], LINES[1])
    assert dfa == (RULES["DFA"], LINES[0])
    assert other[0].color not in {RULES["BRP"].color, RULES["DFA"].color}


def test_what_is_no_rule_gets_colors_of_its_own():
    styles = [style for style, _ in styles_of(f"layer {k}" for k in range(len(COLORS)))]
    assert {style.color for style in styles} == set(COLORS)


def test_seeds_are_counted_in_words():
    assert (count_of_seeds(1), count_of_seeds(3)) == ("1 seed", "3 seeds")


def test_interval_is_that_of_scipy():
    values = np.random.default_rng(0).normal(size=(4, 5))
    low, high = interval(pd.DataFrame(values))
    for row, ends in zip(values, zip(low, high, strict=True), strict=True):
        scale = stats.sem(row)
        assert ends == pytest.approx(stats.t.interval(0.95, 4, loc=row.mean(), scale=scale))


def test_curves_show_the_mean_each_seed_and_an_interval_from_three_seeds_on():
    three = Curve("BRP", [series(1, 2), series(2, 3), series(3, 7)])
    two = Curve("DFA", [series(5, 6), series(6, 8)])
    figure = draw_curves([three, two, Curve("BP", [series(9, 9)])], "test accuracy (%)", "digits")
    (axes,) = figure.axes
    named = {line.get_label(): line for line in axes.lines if not line.get_label().startswith("_")}
    assert list(named) == ["BRP (3 seeds)", "DFA (2 seeds)", "BP (1 seed)"]
    assert words_of(axes.get_legend()) == list(named)
    assert named["BRP (3 seeds)"].get_ydata() == pytest.approx([2, 4])
    assert named["DFA (2 seeds)"].get_color() == RULES["DFA"].color
    assert len(axes.lines) == 3 + 3 + 2
    assert len(axes.collections) == 1
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("epoch", "test accuracy (%)")
    assert_beside(figure, axes.get_legend())


def test_a_label_names_its_rule_before_a_comma():
    curves = [Curve("BRP", [series(1, 2)]), Curve("BRP, 30 steps", [series(2, 3)])]
    plain, variant = draw_curves(curves, "test accuracy (%)").axes[0].lines
    assert plain.get_color() == variant.get_color() == RULES["BRP"].color
    assert plain.get_linestyle() != variant.get_linestyle()


def test_epochs_without_a_number_are_skipped_so_that_lines_are_drawn():
    figure = draw_curves([Curve("BRP", [series(math.nan, 1, math.nan, 2, math.nan)])], "error")
    (line,) = figure.axes[0].lines
    assert line.get_xdata().tolist() == [2, 4]
    assert line.get_ydata().tolist() == [1, 2]


def test_a_mean_is_over_epochs_that_all_seeds_have():
    curve = Curve("BRP", [series(1, 2, 3), series(3, 4)])
    assert curve.table.mean(axis=1).to_dict() == {1: 2, 2: 3}


def test_one_epoch_is_a_named_row_of_points_per_curve():
    curves = [Curve("BRP", [series(90), series(92), series(94)]), Curve("FSDD", [series(70)])]
    figure = draw_curves(curves, "test accuracy (%)")
    (axes,) = figure.axes
    labels = [label.get_text() for label in axes.get_yticklabels()]
    assert labels == ["BRP (3 seeds)", "FSDD (1 seed)"]
    assert axes.get_xlabel() == "test accuracy (%)"
    assert axes.get_legend() is None
    assert [text.get_text() for text in axes.texts] == ["92", "70"]
    assert sorted(axes.collections[0].get_offsets()[:, 0]) == [90, 92, 94]


def test_ticks_of_epochs_are_whole_numbers():
    for last in (1, 2, 3, 7, 100):
        _, axes = plt.subplots()
        axes.plot([1, last], [0, 1])
        integer_ticks(axes.xaxis)
        assert all(tick == round(tick) for tick in axes.get_xticks())


def test_levels_keep_broken_ticks():
    _, axes = plt.subplots()
    curve = Curve("HP", [pd.Series([90.0, 80.0], index=[0.0, 0.06])])
    plot_curves(axes, [curve], "test accuracy (%)", "variance")
    assert any(tick != round(tick) for tick in axes.get_xticks())


def test_values_that_differ_by_rounding_look_equal():
    _, axes = plt.subplots()
    plot_curves(axes, [Curve("TL", [series(0.1, 0.1 + 1e-12, 0.1)])], "loss")
    low, high = axes.get_ylim()
    assert (low, high) == pytest.approx((0.09, 0.11))


def test_panels_share_one_legend_beside_them():
    curves = [Curve("HP", [series(9, 8)]), Curve("HP, frozen", [series(9, 7)], "HP", "--")]
    panels = [Panel(kind, "level", curves) for kind in ("crop", "salt", "pepper", "s&p", "speckle")]
    figure = draw_panels(panels, "test accuracy (%)", "tolerance")
    (legend,) = figure.legends
    assert words_of(legend) == ["HP (1 seed)", "HP, frozen (1 seed)"]
    assert [axes.get_title() for axes in figure.axes[:5]] == [panel.title for panel in panels]
    assert not figure.axes[5].axison
    assert [axes.get_ylabel() for axes in figure.axes[:5]] == [
        *("test accuracy (%)", "", ""),
        *("test accuracy (%)", ""),
    ]
    assert_beside(figure, legend)


def test_a_run_is_drawn_by_the_parts_it_has():
    rows = [{"epoch": k, "train_loss": 1 / k, "test_loss": 2 / k} for k in (1, 2, 3)]
    figure = draw_run(rows, "regression", "mean squared error")
    (axes,) = figure.axes
    assert axes.get_ylabel() == "mean squared error"
    assert words_of(figure.legends[0]) == ["train", "test"]
    assert_beside(figure, figure.legends[0])
    rows = [row | {"test_accuracy": 0.5} for row in rows]
    figure = draw_run(rows, "digits")
    left, right = figure.axes
    assert (left.get_ylabel(), right.get_ylabel()) == ("loss", "accuracy (%)")
    assert right.lines[0].get_ydata().tolist() == [50, 50, 50]
    assert words_of(figure.legends[0]) == ["train", "test"]


def test_columns_are_over_what_they_are_asked_over():
    rows = [{"iterations": 100 * k, "angle_1": 90.0 - k, "angle_2": 80.0} for k in (1, 2)]
    figure, axes = plt.subplots(layout="constrained")
    columns = {"angle_1": "layer 1", "angle_2": "layer 2", "angle_3": "layer 3"}
    plot_columns(axes, rows, columns, "angle (degrees)", x="iterations", over="training iterations")
    assert axes.lines[0].get_xdata().tolist() == [100, 200]
    assert axes.get_xlabel() == "training iterations"
    legend_beside(axes, "gradient of")
    legend = axes.get_legend()
    assert words_of(legend) == ["layer 1", "layer 2"]
    assert legend.get_title().get_text() == "gradient of"
    assert_beside(figure, legend)


def test_confusion_leaves_out_what_never_happens():
    labels = np.array([0, 0, 0, 0, 1, 1, 2])
    figure = draw_confusion(labels, np.array([0, 0, 0, 1, 1, 1, 2]), "digits")
    axes = figure.axes[0]
    assert [text.get_text() for text in axes.texts] == ["75.0", "25.0", "100.0", "100.0"]
    assert axes.images[0].get_array().sum(axis=1).tolist() == [100, 100, 100]
    named = draw_confusion(labels, labels, "clothes", ["shirt", "coat", "boot", "bag"]).axes[0]
    assert [label.get_text() for label in named.get_xticklabels()][-1] == "bag"


def test_a_png_is_written_and_a_pdf_on_demand(tmp_path):
    def figure():
        return draw_curves([Curve("BRP", [series(1, 2)])], "test accuracy (%)")

    path = tmp_path / "new" / "curves_width-0.5"
    assert save_figure(figure(), path) == tmp_path / "new" / "curves_width-0.5.png"
    assert [file.name for file in path.parent.iterdir()] == ["curves_width-0.5.png"]
    save_figure(figure(), path, pdf=True)
    pdf = path.with_name("curves_width-0.5.pdf")
    assert pdf.read_bytes().startswith(b"%PDF")
    assert b"CreationDate" not in pdf.read_bytes()
    assert not plt.get_fignums()
