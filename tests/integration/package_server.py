"""A package index on loopback, with tiny packages made on the spot: what a real one does on good days and bad ones."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import tarfile
import threading
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import quote, unquote


def wheel(
    name: str,
    version: str,
    requires: Sequence[str] = (),
    *,
    headers: Sequence[str] = (),
    files: Mapping[str, str] | None = None,
) -> tuple[str, bytes]:
    """File name and content. The module `name` knows its `version`; `headers` go into METADATA."""
    info = f"{name}-{version}.dist-info"
    metadata = ["Metadata-Version: 2.4", f"Name: {name}", f"Version: {version}"]
    metadata += [*(f"Requires-Dist: {each}" for each in requires), *headers]
    content = {
        f"{name}.py": f"version = {version!r}\n",
        **(files or {}),
        f"{info}/METADATA": "\n".join(metadata) + "\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: a test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    content[f"{info}/RECORD"] = "".join(f"{path},,\n" for path in [*content, f"{info}/RECORD"])
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for path, text in content.items():
            archive.writestr(path, text)
    return f"{name}-{version}-py3-none-any.whl", packed.getvalue()


def sdist(name: str, version: str, backend: str) -> tuple[str, bytes]:
    """File name and content of a source distribution whose build backend is the module text `backend`."""
    content = {
        "PKG-INFO": f"Metadata-Version: 2.2\nName: {name}\nVersion: {version}\n",
        "pyproject.toml": '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
        f'[project]\nname = "{name}"\nversion = "{version}"\n',
        "backend.py": backend,
    }
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        for path, text in content.items():
            entry = tarfile.TarInfo(f"{name}-{version}/{path}")
            entry.size = len(text.encode())
            archive.addfile(entry, io.BytesIO(text.encode()))
    return f"{name}-{version}.tar.gz", packed.getvalue()


@dataclass
class PackageServer:
    """`login` is wanted of everybody, where there is one; without it comes `refusal` (401 or 403). `yanked` gives
    reasons by version. Files in `dying` break off in the middle; those in `lying` are announced with another hash."""

    files: dict[str, bytes] = field(default_factory=dict)
    login: tuple[str, str] | None = None
    refusal: int = 401
    yanked: dict[str, str] = field(default_factory=dict)
    dying: set[str] = field(default_factory=set)
    lying: set[str] = field(default_factory=set)
    asked: list[str] = field(default_factory=list)
    """The paths that were asked for."""
    url: str = ""

    def add(self, *packages: tuple[str, bytes]) -> PackageServer:
        self.files.update(packages)
        return self


@contextmanager
def serving(server: PackageServer) -> Iterator[PackageServer]:
    http = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"index": server}))
    http.daemon_threads = True
    server.url = f"http://127.0.0.1:{http.server_address[1]}/simple"
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server
    finally:
        http.shutdown()
        thread.join()
        http.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    index: PackageServer

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        self.index.asked.append(self.path)
        if self.index.login is not None:
            pair = base64.b64encode(":".join(self.index.login).encode()).decode()
            if self.headers.get("Authorization") != f"Basic {pair}":
                self._answer(self.index.refusal, b"", "text/plain")
                return
        folder, _, name = unquote(self.path).strip("/").partition("/")
        if folder == "simple":
            self._list(name)
        elif name in self.index.files:
            self._answer(200, self.index.files[name], "application/octet-stream", dies=name in self.index.dying)
        else:
            self._answer(404, b"", "text/plain")

    def _list(self, package: str) -> None:
        """PEP 691, as PyPI answers, and for odd names PEP 503, as many private indexes do."""
        found = []
        for file, content in self.index.files.items():
            if file.split("-")[0] == package.replace("-", "_"):
                digest = hashlib.sha256(b"other" if file in self.index.lying else content).hexdigest()
                found.append((file, digest, self._yanked(file)))
        if not found:
            self._answer(404, b"", "text/plain")
        elif len(package) % 2:
            lines = [
                f'<a href="/files/{quote(file)}#sha256={digest}"'
                f"{f' data-yanked={reason!r}' if reason is not None else ''}>{file}</a>"
                for file, digest, reason in found
            ]
            self._answer(200, "\n".join(lines).encode(), "text/html")
        else:
            files = [
                {
                    "filename": file,
                    "url": f"/files/{quote(file)}",
                    "hashes": {"sha256": digest},
                    **({"yanked": reason} if reason is not None else {}),
                }
                for file, digest, reason in found
            ]
            document = {"meta": {"api-version": "1.0"}, "name": package, "files": files}
            self._answer(200, json.dumps(document).encode(), "application/vnd.pypi.simple.v1+json")

    def _yanked(self, file: str) -> str | None:
        return next((reason for version, reason in self.index.yanked.items() if file.startswith(f"{version}-")), None)

    def _answer(self, status: int, content: bytes, kind: str, *, dies: bool = False) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content[:40] if dies else content)
        if dies:
            self.close_connection = True

    def log_message(self, format: str, *arguments: object) -> None: ...
