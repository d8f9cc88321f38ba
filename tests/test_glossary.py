"""docs/glossary.md: every word once, and where it says that it lives."""

import re
from pathlib import Path

ROOT = Path(__file__).parent.parent
ROWS = re.findall(
    r"^\| (?!word)([^|]+) \| ([^|]+) \| ([^|]+) \|$", (ROOT / "docs/glossary.md").read_text(), re.M
)


def test_every_word_is_explained_once_and_lives_where_it_says():
    assert len(ROWS) > 60
    for word, meaning, places in ROWS:
        assert meaning.endswith("."), word
        for place in re.findall(r"`([^`]+)`", places):
            assert (ROOT / place).is_file(), f"{word}: {place}"
    assert len({word for word, _, _ in ROWS}) == len(ROWS)


def test_the_classes_it_names_stand_there():
    """A name in capitals is a class or a constant of the file."""
    for word, _, places in ROWS:
        text = "".join((ROOT / place).read_text() for place in re.findall(r"`([^`]+)`", places))
        for name in re.findall(r"\b(?:[A-Z][a-z]+|HOPELESS)\b", word):
            if name not in ("Ray", "Pareto"):
                assert re.search(rf"^(class )?{name}\b", text, re.M), f"{name}: {places}"
