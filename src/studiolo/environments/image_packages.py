"""Which packages an image holds, read from the records that package managers keep in it."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator, Mapping, Sequence
from email.parser import HeaderParser
from urllib.parse import quote

from packaging.utils import canonicalize_name

from studiolo.environments.engine import Engine
from studiolo.environments.engine_files import read_files
from studiolo.environments.kind import Package
from studiolo.environments.python_packages import licence, purl

_READ_AT_MOST = 8 << 30
"""Bytes that go by while looking for records among installed files: some seconds each GiB."""

_MOST = 20_000
_METADATA = re.compile(r".+\.dist-info/METADATA")
_SYSTEM = ("/", "/usr")


async def read_packages(engine: Engine, image: str, env: Mapping[str, str]) -> tuple[Package, ...]:
    """Debian's, Alpine's and Python's packages, sorted. What cannot be read counts for nothing. Runs nothing."""
    found: set[Package] = set()
    async with engine.container(image) as container:

        async def one(path: str) -> str:
            files = await read_files(engine.socket, container, path, lambda _: True, _READ_AT_MOST)
            return next(iter(files.values()), b"").decode(errors="replace")

        distribution = os_name(await one("/usr/lib/os-release") or await one("/etc/os-release"))
        found |= set(debian(await one("/var/lib/dpkg/status"), distribution))
        found |= set(alpine(await one("/lib/apk/db/installed")))
        for folder in python_folders(env):
            files = await read_files(
                engine.socket, container, folder, lambda name: bool(_METADATA.fullmatch(name)), _READ_AT_MOST
            )
            found |= {package for text in files.values() for package in python(text.decode(errors="replace"))}
    return tuple(sorted(found, key=lambda package: (package.name, package.version, package.purl)))[:_MOST]


def os_name(text: str) -> str:
    match = re.search(r'^ID="?([a-z0-9._-]+)"?$', text, re.MULTILINE)
    return match[1] if match else "debian"


def debian(text: str, distribution: str) -> Iterator[Package]:
    """dpkg's status file."""
    for fields in _paragraphs(text, ": "):
        name, version = fields.get("Package", ""), fields.get("Version", "")
        if name and version and fields.get("Status", "").endswith(" installed"):
            yield Package(name, version, "", f"pkg:deb/{distribution}/{quote(name)}@{quote(version)}")


def alpine(text: str) -> Iterator[Package]:
    """apk's database of what is installed."""
    for fields in _paragraphs(text, ":"):
        name, version = fields.get("P", ""), fields.get("V", "")
        if name and version:
            yield Package(name, version, fields.get("L", ""), f"pkg:apk/alpine/{quote(name)}@{quote(version)}")


def python(text: str) -> Iterator[Package]:
    """One METADATA file."""
    fields = HeaderParser().parsestr(text)
    name, version = str(fields["Name"] or "").strip(), str(fields["Version"] or "").strip()
    if name and version:
        yield Package(canonicalize_name(name), version, licence(fields), purl(name, version))


def python_folders(env: Mapping[str, str]) -> Sequence[str]:
    """Where Python packages may lie, going by the image's PATH; the system's own packages are Debian's already."""
    roots = ["/usr/local", env.get("VIRTUAL_ENV", "")]
    roots += [each.removesuffix("/bin") for each in env.get("PATH", "").split(":") if each.endswith("/bin")]
    clean = [posixpath.normpath(root) for root in roots if root.startswith("/")]
    return [f"{root}/lib" for root in dict.fromkeys(clean) if root not in _SYSTEM][:8]


def _paragraphs(text: str, separator: str) -> Iterator[dict[str, str]]:
    for paragraph in re.split(r"\n\s*\n", text):
        lines = (line.partition(separator) for line in paragraph.splitlines() if not line.startswith((" ", "\t")))
        yield {name: value.strip() for name, found, value in lines if found}
