"""One package that somebody asks for, and where they wrote it."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from studiolo.environments.pins import Pin, pinned, split_hashes
from studiolo.problem import Problem, StudioloError, WrongInput

_VCS = re.compile(r"(?:^|@\s*)(?:git|hg|svn|bzr)\+", re.IGNORECASE)
_PATH = re.compile(
    r"^(?:\.{0,2}/|\.{1,2}$|~|file:|[\w.-]+/)|@\s*(?:file:|\.{0,2}/)|\.(?:whl|zip|tar\.gz)$", re.IGNORECASE
)


@dataclass(frozen=True)
class Wanted:
    """A requirement that has been looked at: it names a package of the index, or one file by https."""

    requirement: Requirement
    where: str
    hashes: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return canonicalize_name(self.requirement.name)

    @property
    def text(self) -> str:
        return str(self.requirement)

    @property
    def line(self) -> str:
        """It with its hashes, as a requirements file has it."""
        return " ".join([self.text, *(f"--hash={each}" for each in self.hashes)])

    @property
    def pin(self) -> Pin | None:
        """What it is, where it leaves no choice and says its hashes."""
        return pinned(self.requirement, self.hashes) if self.hashes else None

    @classmethod
    def parse(cls, line: str, where: str) -> Wanted:
        """Raises `WrongInput` for anything that is not a requirement, or cannot be locked by hash."""
        try:
            text, hashes = split_hashes(line)
            requirement = Requirement(text)
        except (InvalidRequirement, ValueError) as error:
            raise WrongInput(_refusal(line, where) or _malformed(line, where, error)) from error
        if "${" in line:
            raise WrongInput(
                Problem(
                    "requirement-unsupported",
                    f"{requirement.name}: variables of this machine are not filled into a repository's requirements",
                    "write the address itself",
                    where,
                )
            )
        if requirement.url and not _is_plain_https(requirement.url):
            over_http = requirement.url.lower().startswith(("http:", "https:"))
            raise WrongInput((None if over_http else _refusal(line, where)) or _foreign(requirement, where))
        return cls(requirement, where, hashes)


def wanted_all(lines: Iterable[str], where: str) -> tuple[tuple[Wanted, ...], list[Problem]]:
    """Each line of the list `where`, and what is wrong with those that are no requirements."""
    found: list[Wanted] = []
    problems: list[Problem] = []
    for number, line in enumerate(lines):
        try:
            found.append(Wanted.parse(line, f"{where}[{number}]"))
        except StudioloError as error:
            problems.extend(error.problems)
    return tuple(found), problems


def _is_plain_https(url: str) -> bool:
    return re.match(r"https://[^/@\s]+/[^@\s]*$", url) is not None


def shown(line: str) -> str:
    """A line as it may be repeated: short, and without a user's name and password in an address."""
    return re.sub(r"//[^/@\s]*@", "//***@", line)[:120]


def _refusal(line: str, where: str) -> Problem | None:
    if _VCS.search(line):
        return Problem(
            "requirement-unsupported",
            f"{shown(line)!r}: code in a version control system has no hash, so it cannot be locked",
            "ask for a released version, or for a wheel by its https address",
            where,
        )
    if _PATH.search(line) and not line.lower().startswith("https:"):
        return Problem(
            "requirement-unsupported",
            f"{shown(line)!r} is a file or folder of one machine, so it cannot be locked",
            "ask for a released version, or for a wheel by its https address",
            where,
        )
    return None


def _malformed(line: str, where: str, error: Exception) -> Problem:
    reason = str(error).splitlines()[0]
    hint = "write it such as pandas>=2"
    if line.lower().startswith("https:"):
        hint = "put the package's name in front: name @ https://..."
    return Problem("requirement-syntax", f"{shown(line)!r} is not a requirement: {reason}", hint, where)


def _foreign(requirement: Requirement, where: str) -> Problem:
    return Problem(
        "requirement-unsupported",
        f"{requirement.name} is asked for by an address that is not plain https",
        "use https, without a user name in the address",
        where,
    )
