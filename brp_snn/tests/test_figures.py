"""What the figures show: every epoch count, no legend on data, whole ticks."""

import matplotlib.pyplot as plt
import numpy as np
import pytest

from brp_snn.figures import draw_angles
from brp_snn.lisnn.train import TESTED, draw_noise, label_of


@pytest.fixture(autouse=True)
def _closed():
    yield
    plt.close("all")


def angles_of(epochs):
    return [{"epoch": i, "angle_1": 80.0 + i, "angle_2": 70.0} for i in range(1, epochs + 1)]


def test_angles_of_one_epoch_are_points_with_their_layer():
    (axes,) = draw_angles(angles_of(1), "title").axes
    assert [tick.get_text() for tick in axes.get_yticklabels()] == ["layer 1", "layer 2"]
    assert axes.get_xlabel() == "angle to BP's gradient (degrees)"
    assert [text.get_text() for text in axes.texts] == ["81", "70"]


def test_angles_of_several_epochs_are_lines_over_whole_epochs():
    figure = draw_angles(angles_of(3), "title")
    figure.canvas.draw()
    (axes,) = figure.axes
    assert all(tick == int(tick) for tick in axes.get_xticks())
    labels = [text.get_text() for text in axes.get_legend().get_texts()]
    assert labels == ["layer 1", "layer 2", "unrelated"]
    assert axes.get_legend().get_window_extent().x0 > axes.get_window_extent().x1


def test_a_layer_whose_angle_is_not_there_has_no_line():
    rows = [{"epoch": i, "angle_2": 60.0} for i in (1, 2)]
    labels = draw_angles(rows, "frozen").axes[0].get_legend_handles_labels()[1]
    assert labels == ["layer 2", "unrelated"]


def test_noise_is_drawn_over_levels_with_a_name_in_words():
    values = np.linspace(0.9, 0.4, len(TESTED)).tolist()
    seed = {"gaussian": values, "salt_pepper": values[::-1]}
    options = {"lateral": False, "noise": "salt_pepper", "noise_level": 0.1, "noise_in": "both"}
    plain = label_of(options)
    assert plain == "plain, salt and pepper 0.1"
    in_training = label_of(options | {"noise": "gaussian", "noise_in": "train"})
    assert in_training == "plain, gaussian 0.1 in train"
    assert label_of({"lateral": True, "noise": "none"}) == "lateral"
    figure = draw_noise({"lateral": [seed, seed], plain: [seed]}, "mnist")
    assert [axes.get_xlabel() for axes in figure.axes] == [
        "mean (white is 1)",
        "share of the pixels",
    ]
    drawn = [
        line.get_ydata() for line in figure.axes[1].lines if line.get_label() == f"{plain} (1 seed)"
    ]
    np.testing.assert_allclose(drawn[0], 100 * np.array(values[::-1]))
    assert not figure.axes[0].get_legend()
    assert len(figure.legends) == 1
