"""Tables: nested cross-validation, scaling, wine quality."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from shared import datasets
from shared.errors import UserError
from shared.experiment import as_published
from shifting_learning import SL_TCA, Dataset, tables
from shifting_learning.tables import Groups, Settings, Trainer, choose, outer_folds

CPU = torch.device("cpu")
TUNED = Settings(hidden=(5,), epochs=8)


@pytest.fixture(scope="module")
def iris() -> datasets.Table:
    return datasets.load_table("iris")


def test_outer_folds_test_every_sample_once_a_seed():
    is_test = outer_folds(150, 2, None, 0)
    assert is_test.shape == (10, 150)
    assert is_test[:5].sum(dim=0).eq(1).all()
    assert is_test[5:].sum(dim=0).eq(1).all()
    assert torch.equal(outer_folds(150, 2, 3, 0), is_test[[3, 8]])


def test_inner_folds_divide_the_training_samples():
    is_train = ~outer_folds(150, 1, None, 0)
    train, test = tables._inner_folds(is_train, 0)
    assert not (train & test).any()
    per_network = (train | test).reshape(5, tables.INNER_FOLDS, 150)
    assert torch.equal(per_network, is_train[:, None].expand_as(per_network))
    assert test.reshape(5, -1, 150).sum(dim=1).eq(is_train).all()


def test_nothing_learned_or_chosen_sees_the_samples_tested_on(iris):
    is_test = outer_folds(150, 1, 2, 0)
    (rows,) = np.nonzero(is_test[0].numpy())
    inputs, labels = iris.inputs.copy(), iris.labels.copy()
    inputs[rows] = inputs[rows[::-1]] * 3
    labels[rows] = (labels[rows] + 1) % 3
    states = []
    for table in (iris, replace(iris, inputs=inputs, labels=labels)):
        chosen, scores = choose(TUNED, table, ~is_test, CPU)
        groups = Groups(TUNED, chosen, table, is_test, CPU)
        loss = [groups.train_epoch(epoch) for epoch in range(3)]
        states.append((chosen, scores, loss, groups.state_dict()))
    assert torch.equal(states[0][0], states[1][0])
    assert torch.equal(states[0][1], states[1][1])
    assert states[0][2] == states[1][2]
    networks = [state[3]["0"]["network"]["layers.0.e_ts"] for state in states]
    assert torch.equal(*networks)


def test_networks_of_one_group_keep_their_order(iris):
    is_test = outer_folds(150, 1, None, 0)
    chosen = torch.tensor([3, 0, 3, 0, 5])
    groups = Groups(TUNED, chosen, iris, is_test, CPU)
    groups.train_epoch(0)
    candidates = tables.candidates_of(TUNED)
    alone = Trainer(candidates[3], iris, ~is_test[[0, 2]], CPU)
    alone.train_epoch(0)
    assert torch.equal(groups.outputs()[[0, 2]], alone.outputs())


def test_published_order_of_samples_stays(iris):
    is_train = ~outer_folds(150, 1, None, 0)
    trainer = Trainer(as_published(TUNED), iris, is_train, CPU)
    before = trainer.state_dict()["key"].clone()
    trainer.train_epoch(0)
    assert torch.equal(trainer.state_dict()["key"], before)


def test_words_of_settings_are_checked():
    for name in ("choose", "scaling", "scaled_by", "reference", "decay", "reward", "shuffle"):
        with pytest.raises(ValueError, match=rf"{name} must be one of .*, not 'other'"):
            replace(TUNED, **{name: "other"})
    with pytest.raises(ValueError, match=r"shuffle must be one of every, never"):
        SL_TCA.Settings(shuffle="once")
    with pytest.raises(ValueError, match=r"part must be one of train, test, not 'trian'"):
        Dataset.MNIST_show("mnist", "trian")


def test_scaling_by_some_samples_clips_the_others():
    x = np.array([[0.0, 5.0], [1.0, 7.0], [4.0, 1.0]])
    by = np.array([True, True, False])
    scaled = Dataset.table_intensities(x, "feature", by)
    np.testing.assert_allclose(scaled, [[0.01, 0.01], [1.01, 1.01], [1.01, 0.01]])
    assert Dataset.table_intensities(x, "global", by).max() == pytest.approx(1.01)


def test_breast_cancer_has_published_settings_of_its_own():
    published = tables.defaults(Settings(dataset="breast_cancer", preset="published"))
    assert (published.lr_ets, published.lr_end, published.lr_etp) == (1e-2, 0.1, 1e-2)
    assert published.scaling == "feature"
    assert (published.hidden, published.batch_size, published.epochs) == ((40,), 112, 600)


def test_wine_quality_is_read_from_the_published_files(tmp_path):
    with pytest.raises(UserError, match=r"get winequality-red.csv"):
        Dataset.load_wine_quality(tmp_path)
    folder = tmp_path / "wine_quality"
    folder.mkdir()
    header = ";".join(f'"column {k}"' for k in range(12))
    rows = [";".join(map(str, [*np.arange(11.0) + k, grade])) for k, grade in enumerate((5, 7, 5))]
    path = folder / "winequality-red.csv"
    path.write_text("\n".join([header, *rows]))
    table = Dataset.load_wine_quality(tmp_path)
    assert table.inputs.shape == (3, 11)
    assert table.labels.tolist() == [0, 1, 0]
    assert table.class_names == ("grade 5", "grade 7")
    path.write_text("a;b\nx;y")
    with pytest.raises(UserError, match="no table of numbers"):
        Dataset.load_wine_quality(tmp_path)
    path.write_text("a;b\n1;2")
    with pytest.raises(UserError, match="has 2 columns, not 12"):
        Dataset.load_wine_quality(tmp_path)
