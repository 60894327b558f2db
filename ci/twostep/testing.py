"""What tests written in Python share: a folder, fixtures, expectations."""

import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

from twostep.paths import SRC
from twostep.problem import Problem
from twostep.source import Source, cached

FIXTURES = SRC / "ci/fixtures"


def tmp() -> Path:
    """The test's own folder."""
    return Path(os.environ["TEST_TMP"])


def fixture(name: str) -> Path:
    """A copy of a fixture, for the test to change."""
    copy = tmp() / name
    shutil.copytree(FIXTURES / name, copy)
    return copy


def base() -> Source:
    """The 6.12 base source; the test's `# builds: stock` has brought it here."""
    found = cached("6.12")
    assert found is not None, "the base source is not in the cache"
    return found


def refused(act: Callable[[], object], *words: str) -> Problem:
    """ACT raises a Problem whose sentence holds all WORDS."""
    try:
        act()
    except Problem as problem:
        for word in words:
            assert word in problem.sentence, f"the refusal lacks '{word}': {problem.sentence}"
        print(f"refused: {problem.sentence}")
        return problem
    raise AssertionError(f"nothing was refused; a refusal with {', '.join(words)} was due")


def content(what: str, complaints: Sequence[str]) -> None:
    """A style check has found nothing."""
    for complaint in complaints:
        print(complaint)
    assert not complaints, f"{what}: {len(complaints)} complaints, the first: {complaints[0]}"
    print(f"{what}: nothing to complain about")


def finds(complaints: Sequence[str], *words: str) -> None:
    """A style check has seen the planted fault, by all WORDS."""
    text = "\n".join(complaints)
    for word in words:
        assert word in text, f"the planted '{word}' was not found; found: {text or 'nothing'}"


def plant(name: str, text: str) -> Path:
    """A bad example in the test's folder."""
    path = tmp() / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path
