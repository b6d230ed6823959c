import pytest

from shared.errors import UserError
from shared.options import check_positive, script


def wrapped_interruption():
    try:
        raise KeyboardInterrupt
    except KeyboardInterrupt as error:
        raise SystemError("a compiled function returned a result with an exception set") from error


def raises(error):
    def main():
        raise error

    return main


@pytest.mark.parametrize(
    ("main", "code", "words"),
    [
        (lambda: None, 0, ""),
        (raises(UserError("the file is no image")), 2, "error: the file is no image\n"),
        (raises(KeyboardInterrupt()), 130, "goes on from the last checkpoint"),
        (wrapped_interruption, 130, "goes on from the last checkpoint"),
    ],
)
def test_how_a_script_ends(main, code, words, capsys):
    with pytest.raises(SystemExit) as ended:
        script(main)
    assert ended.value.code == code
    assert words in capsys.readouterr().err


def test_an_error_of_ours_is_not_hidden():
    with pytest.raises(ZeroDivisionError):
        script(lambda: print(1 / 0))


@pytest.mark.parametrize("value", [0, -1.5, float("nan")])
def test_options_that_must_be_positive(value):
    check_positive(batch_size=1, lr=None)
    with pytest.raises(UserError, match=f"--batch-size {value} must be above 0"):
        check_positive(batch_size=value)
