"""The names that the published program has."""


def test_published_names_are_there_or_explained(scripts):
    scripts.assert_published_names()
