import pandas as pd
import pytest

from reproduce.bound import Binder
from reproduce.declared import Claim, Reproduction, Row
from reproduce.prose import strays_in
from shared.errors import UserError

A = {"row": "a", "metric": "test_accuracy_last"}


@pytest.fixture
def binder() -> Binder:
    rows = tuple(
        Row.model_validate(
            {"name": name, "script": "x.py", "dataset": "d", "epochs": 2, "minutes": 1.0}
        )
        for name in ("a", "b")
    )
    content = {"name": "c", "says": "so", "where": "here", "kind": "above", "left": A, "right": 0.5}
    runs = [
        {"experiment": name, "dataset": "d", "epochs": epochs, "seed": seed}
        | {"metrics": {"test_accuracy_last": accuracy, "loss_last": 0.5, "trial_on_target": 2701.0}}
        for name, epochs, accuracies in (
            ("a", 2, (0.95, 0.951, 0.949, 0.1)),  # a fourth seed is not declared
            ("a", 3, (0.2,)),
            ("undeclared", 2, (0.25,)),
            ("mixed", 2, (0.25,)),
            ("mixed", 3, (0.25,)),
        )
        for seed, accuracy in enumerate(accuracies)
    ]
    declared = Reproduction(paper="p", row=rows, claim=(Claim.model_validate(content),))
    return Binder.of([declared], pd.DataFrame(runs))


@pytest.mark.parametrize(
    ("mark", "written"),
    [
        ("value: a test_accuracy_last", "95.00 ± 0.10 %"),
        ("value: a loss_last", "0.50 ± 0.00"),
        ("value: undeclared test_accuracy_last", "25.00 %"),
        ("value: undeclared trial_on_target", "2701"),
        ("value: b test_accuracy_last", "not run"),
        ("seeds: a", "3 seeds"),
        ("seeds: undeclared", "1 seed"),
        ("seeds: b", "0 seeds"),
        ("ours: c", "+45.00 (+44.75 to +45.25) points"),
        ("verdict: c", "holds"),
    ],
)
def test_marks_are_filled_in(binder, mark, written):
    text = f"Before <!-- {mark} -->what was\nthere<!-- end -->, after."
    filled = f"Before <!-- {mark} -->{written}<!-- end -->, after."
    assert binder.filled(text) == filled
    assert binder.filled(filled) == filled


def test_each_of_several_marks_in_a_line_is_its_own(binder):
    mark = "<!-- seeds: {} -->?<!-- end -->"
    text = binder.filled(f"| {mark.format('a')} | 5 | {mark.format('b')} |")
    assert (
        text
        == "| <!-- seeds: a -->3 seeds<!-- end --> | 5 | <!-- seeds: b -->0 seeds<!-- end --> |"
    )


@pytest.mark.parametrize(
    ("mark", "sentence"),
    [
        ("value: z test_accuracy_last", '"z" is neither a run under results/ nor a declared row'),
        ("value: a accuracy", 'runs of a have no metric "accuracy"'),
        ("value: a", '"value: a" takes 2 names, not 1'),
        ("verdict: z", 'no claim is named "z"; --list has them all'),
        (
            "seeds: mixed",
            'runs of "mixed" differ in data set or epochs: declare a row of those meant',
        ),
    ],
)
def test_a_mark_that_names_nothing_is_refused(binder, mark, sentence):
    with pytest.raises(UserError) as refusal:
        binder.filled(f"<!-- {mark} --><!-- end -->")
    assert str(refusal.value) == sentence


@pytest.mark.parametrize(
    ("text", "alone"),
    [
        ("a\n<!-- seeds: a -->3 seeds, and words <!-- seeds: b -->?<!-- end -->", "seeds: a"),
        ("a\n<!-- seeds: a -->3 seeds", "seeds: a"),
        ("a\n<!-- sedes: a -->3 seeds<!-- end -->", "end"),
        ("<!-- seeds: a -->3\n<!-- end --> and <!-- end -->", "end"),
    ],
)
def test_a_mark_that_stands_alone_takes_no_text_with_it(binder, text, alone):
    with pytest.raises(UserError, match=f'line 2: "<!-- {alone} -->" stands alone'):
        binder.filled(text)


def test_what_is_filled_in_is_not_typed(tmp_path):
    text = "<!-- value: a test_accuracy_last -->95.00 %<!-- end --> here, 94 % typed"
    assert [s.number for s in strays_in(text, tmp_path, frozenset())] == ["94 %"]
