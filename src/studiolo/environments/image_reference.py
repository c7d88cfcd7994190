"""An image's name, read as engines read it: `python:3.12` is `docker.io/library/python:3.12`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import quote

from studiolo.problem import Problem, WrongInput

_PATH = re.compile(r"[a-z0-9]+(?:(?:\.|__?|-+)[a-z0-9]+)*")
_HOST = re.compile(r"[A-Za-z0-9]+(?:[.-][A-Za-z0-9]+)*(?::[0-9]{1,5})?|\[[0-9a-fA-F:]+\](?::[0-9]{1,5})?")
_TAG = re.compile(r"\w[\w.-]{0,127}", re.ASCII)
DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_LONGEST = 255


@dataclass(frozen=True)
class Reference:
    """`repository` is complete (`docker.io/library/python`) and empty where an image is named by its id alone, which
    then is the `digest`. Without tag and digest, engines take `latest`."""

    repository: str
    tag: str = ""
    digest: str = ""

    @classmethod
    def parse(cls, text: str, where: str = "") -> Reference:
        """Raises `WrongInput` that says `where`."""
        if DIGEST.fullmatch(text):
            return cls("", "", text)
        rest, at, digest = text.partition("@")
        name, colon, tag = rest.rpartition(":")
        if not colon or "/" in tag:
            name, colon, tag = rest, "", ""
        host, _, path = name.partition("/")
        if not path or not ("." in host or ":" in host or host == "localhost"):
            host, path = "docker.io", name if "/" in name else f"library/{name}"
        good = (
            len(text) <= _LONGEST + 80
            and _HOST.fullmatch(host)
            and all(_PATH.fullmatch(part) for part in path.split("/"))
            and (_TAG.fullmatch(tag) if colon else True)
            and (DIGEST.fullmatch(digest) if at else True)
            and len(f"{host}/{path}") <= _LONGEST
        )
        if not good:
            raise WrongInput(
                Problem(
                    "image-name",
                    f"{text[:120]!r} is not the name of an image",
                    "write it such as python:3.12-slim, or with a digest: python@sha256:...",
                    where,
                )
            )
        return cls(f"{host}/{path}", "" if digest else tag or "latest", digest)

    @property
    def text(self) -> str:
        if not self.repository:
            return self.digest
        return f"{self.repository}@{self.digest}" if self.digest else f"{self.repository}:{self.tag}"

    @property
    def local(self) -> bool:
        """It is on no registry, for it has a name that engines give to what they build."""
        return not self.repository or self.repository.startswith("localhost/")

    @property
    def shown(self) -> str:
        """As people write it."""
        return self.text.removeprefix("docker.io/library/").removeprefix("docker.io/")

    @property
    def name(self) -> str:
        return self.repository.removeprefix("docker.io/library/").removeprefix("docker.io/") or "image"

    @property
    def purl(self) -> str:
        """A package URL; empty for an image that is known by its id alone, which nobody else can look up."""
        if not self.repository or not self.digest:
            return ""
        last = self.repository.rpartition("/")[2]
        return f"pkg:oci/{last}@{quote(self.digest, safe='')}?repository_url={quote(self.repository, safe='/')}"

    def at(self, digest: str) -> Reference:
        return Reference(self.repository, "", digest)
