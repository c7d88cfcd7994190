"""Where a Studiolo is and what lets us in."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from studiolo.layout import Layout
from studiolo.problem import Problem, Unavailable

PREFIX = "/api/v1"


@dataclass(frozen=True)
class Address:
    """A base URL and a bearer token; with `socket`, the host of the URL is only a name and the socket is connected."""

    url: str
    token: str = field(repr=False)
    socket: Path | None = None

    @classmethod
    def local(cls, layout: Layout | None = None) -> Address:
        """This machine's own Studiolo, over its Unix socket. Raises `Unavailable` where none has ever been up."""
        layout = layout or Layout.from_environment()
        try:
            token = layout.token.read_text().strip()
        except FileNotFoundError:
            raise Unavailable(not_running()) from None
        except OSError as error:
            raise Unavailable(
                Problem("token-unreadable", f"{layout.token} cannot be read: {error.strerror}", "check who owns it")
            ) from None
        return cls("http://studiolo", token, layout.control_socket)

    @property
    def headers(self) -> dict[str, str]:
        return {"authorization": f"Bearer {self.token}"}

    def unreachable(self) -> Unavailable:
        """What it means when a connection is refused here."""
        if self.socket is not None:
            return Unavailable(not_running())
        return Unavailable(Problem("not-running", f"{self.url} does not answer", "run `studiolo up` on that machine"))


def not_running() -> Problem:
    return Problem("not-running", "Studiolo is not running", "run `studiolo up`")
