"""Patterns over paths: `.dockerignore`'s rules, and what a COPY takes.

As Docker reads them: `*` and `?` stay within a name, `**` stands for any number of folders, a pattern that matches a
folder matches all below it, and the last pattern that matches decides. Matching goes name by name and takes time in
proportion to the pattern and the path, whatever stands in the pattern.
"""

from __future__ import annotations

import fnmatch
import posixpath
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

from studiolo.problem import Problem, WrongInput

_MOST_PATTERNS = 1000
_MOST_ALTERNATIVES = 16

Names = tuple[str, ...]


@dataclass(frozen=True)
class Pattern:
    """`forms` are sequences of names to match, one of which must: `a**b` is `ab` or `a*/**/b`."""

    forms: tuple[Names, ...]
    allows: bool = False

    @classmethod
    def parse(cls, text: str, allows: bool = False) -> Pattern:
        clean = posixpath.normpath(f"/{text}").lstrip("/")
        # `**/` and a `**` in front of a name are the same
        forms = [clean]
        complete: list[Names] = []
        while forms:
            form = forms.pop()
            inner = re.search(r"(?<=[^/*])\*{2,}/?(?=[^/*])", form)
            if inner is None:
                complete.append(_names(form))
            else:
                before, after = form[: inner.start()], form[inner.end() :]
                forms += [before + after, f"{before}*/**/{after}"]
            if len(forms) + len(complete) > _MOST_ALTERNATIVES:
                raise ValueError(f"{text[:80]!r} has too many `**`")
        return cls(tuple(sorted(complete)), allows)

    def matches(self, path: Names) -> bool:
        """Whether it matches this path itself; what lies below follows from that."""
        return any(_reached(form, path)[-1] for form in self.forms)

    def may_match_below(self, folder: Names) -> bool:
        """Whether it could match something in this folder."""
        return any(any(_reached(form, folder)[:-1]) for form in self.forms)


class Patterns:
    """An ordered list of patterns. `decide` is fed while walking down a tree, so that no parent is matched twice."""

    def __init__(self, patterns: Sequence[Pattern]) -> None:
        self._patterns = tuple(patterns)
        self.has_exceptions = any(pattern.allows for pattern in self._patterns)

    @classmethod
    def ignoring(cls, text: str, where: str, before: Iterable[str] = ()) -> Patterns:
        """The rules of an ignore file. Raises `WrongInput` with the line."""
        patterns = [Pattern.parse(each) for each in before]
        for number, raw in enumerate(text.splitlines(), 1):
            line = raw.strip()
            if raw.startswith("#") or not line:
                continue
            allows = line.startswith("!")
            try:
                if len(patterns) == _MOST_PATTERNS:
                    raise ValueError(f"there are more than {_MOST_PATTERNS} patterns")
                patterns.append(Pattern.parse(line.removeprefix("!").strip(), allows))
            except (ValueError, re.error) as error:
                raise WrongInput(
                    Problem("ignore-syntax", f"this pattern cannot be used: {error}", "", f"{where}:{number}:1")
                ) from error
        return cls(patterns)

    def start(self) -> tuple[bool, ...]:
        """What has matched at the root: nothing."""
        return (False,) * len(self._patterns)

    def step(self, path: Names, above: tuple[bool, ...]) -> tuple[bool, ...]:
        """Which patterns match `path` or a folder above it, given that of its folder."""
        return tuple(seen or pattern.matches(path) for pattern, seen in zip(self._patterns, above, strict=True))

    def chosen(self, matched: tuple[bool, ...]) -> bool:
        """What the last pattern that matches says; False where none does."""
        for pattern, seen in zip(reversed(self._patterns), reversed(matched), strict=True):
            if seen:
                return not pattern.allows
        return False

    def may_choose_below(self, folder: Names) -> bool:
        return any(pattern.may_match_below(folder) for pattern in self._patterns)


def _names(form: str) -> Names:
    names: list[str] = []
    for name in form.split("/"):
        if name.startswith("**") and name.strip("*"):
            names += ["**", name.lstrip("*")]
        elif name.startswith("**"):
            names.append("**")
        elif name:
            names.append(re.sub(r"\*+", "*", name))
        if name not in ("", "**"):
            _matcher(names[-1])  # a bad class is found here
    return tuple(names)


def _reached(form: Names, path: Names) -> list[bool]:
    """For each number of names of the form: whether these match the whole path."""
    reached = [False] * (len(form) + 1)
    reached[0] = True
    for index, name in enumerate(form):
        if name == "**" and reached[index] and index + 1 < len(form):
            reached[index + 1] = True
    for part in path:
        following = [False] * (len(form) + 1)
        for index, name in enumerate(form):
            if not reached[index]:
                continue
            if name == "**":
                following[index] = True
                if index + 1 == len(form):
                    following[index + 1] = True
            elif _matcher(name)(part):
                following[index + 1] = True
        for index, name in enumerate(form):
            if name == "**" and following[index] and index + 1 < len(form):
                following[index + 1] = True
        reached = following
    return reached


@lru_cache(maxsize=4096)
def _matcher(name: str) -> Callable[[str], object]:
    if not re.search(r"[*?\[\\]", name):
        return name.__eq__
    # Go's `[^a]` is `[!a]` here, and `\*` is `[*]`
    shell = re.sub(r"\\(.)", lambda match: f"[{match[1]}]", name).replace("[^", "[!")
    return re.compile(fnmatch.translate(shell), re.DOTALL).match
