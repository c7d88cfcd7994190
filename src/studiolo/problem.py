"""What went wrong, in words a person can act on.

A `Problem` is data: the command line prints it, the API sends it as `application/problem+json`, a failed
workspace keeps it as its reason. An exception carries one or more of them and says whose turn it is.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong.

    `code` is stable and searchable (`port-taken`), `message` says what happened and why, `hint` names the exact
    command or field that helps, `where` is `file:line:column` or a field path.
    """

    code: str
    message: str
    hint: str = ""
    where: str = ""

    def __str__(self) -> str:
        head = f"{self.where}: {self.message}" if self.where else self.message
        return f"{head}; {self.hint}" if self.hint else head


class StudioloError(Exception):
    """Something failed for a reason we can name. `exit_status` is what a command ends with (1: failed)."""

    exit_status = 1
    http_status = 500

    def __init__(self, *problems: Problem) -> None:
        assert problems, "an error without a problem tells nobody anything"
        super().__init__("\n".join(str(problem) for problem in problems))
        self.problems = problems

    @property
    def problem(self) -> Problem:
        """The first problem: the one to show where there is room for one."""
        return self.problems[0]


class WrongInput(StudioloError):
    """What the person asked for cannot be done as written; asking again unchanged will not help."""

    exit_status = 2
    http_status = 422


class NotFound(StudioloError):
    """The thing named does not exist, or is not this person's to see."""

    exit_status = 1
    http_status = 404


class Conflict(StudioloError):
    """It exists already, or is in a state that does not allow this."""

    http_status = 409


class Denied(StudioloError):
    """Not signed in (401 is the server's business), or not allowed."""

    http_status = 403


class Unavailable(StudioloError):
    """A part of Studiolo does not answer now; the same request may work later."""

    http_status = 503
