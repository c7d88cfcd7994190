"""Docker Engine and Podman, over the HTTP API that both speak on a Unix socket."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import httpx2

from studiolo.environments.image_reference import DIGEST, Reference
from studiolo.environments.image_steps import Line, Steps
from studiolo.environments.kind import Progress, Report
from studiolo.problem import NotFound, Problem, StudioloError, Unavailable, WrongInput

_PATIENCE = httpx2.Timeout(60.0, connect=5.0)
_PULL_SILENCE = httpx2.Timeout(600.0, connect=5.0)
"""Unpacking a layer of many GiB is silent."""
_BUILD_SILENCE = httpx2.Timeout(7200.0, connect=5.0)
"""A step may compile for hours without a word."""
_LONGEST_ANSWER = 16 << 20
_QUOTED = 900

_ABSENT = re.compile(
    r"not found|manifest unknown|name unknown|does not exist|denied|unauthorized|authentication required|no such image"
)
_UNREACHABLE = re.compile(
    r"no such host|connection refused|connection reset|i/o timeout|network is unreachable|no route to host|"
    r"TLS handshake|unexpected EOF|: EOF|Client\.Timeout|deadline exceeded|server misbehaving|toomanyrequests|"
    r"received unexpected HTTP status: 5|invalid status code from registry 5|broken pipe|unexpected end of"
)


class BuildFailed(StudioloError):
    """A step of a build failed. `step` is its instruction as the engine writes it, empty where it said none."""

    def __init__(self, message: str, step: str, refused: bool) -> None:
        super().__init__(Problem("image-build-failed", message))
        self.step = step
        self.refused = refused
        """Not one step was begun."""


@dataclass(frozen=True)
class Engine:
    """A running engine. `platform` is its own, such as linux/amd64; `buildkit`: it prefers to build with BuildKit."""

    name: str
    socket: Path
    podman: bool
    platform: str
    buildkit: bool
    _http: httpx2.AsyncClient

    @classmethod
    async def find(cls, environ: Mapping[str, str] | None = None) -> Self:
        """The engine that DOCKER_HOST names, or else the first that answers of Docker and Podman, the machine's before
        the person's. Close it. Raises `StudioloError` (engine-missing, engine-denied)."""
        environ = os.environ if environ is None else environ
        denied: Path | None = None
        tried = _sockets(environ)
        for socket in tried:
            try:
                return await cls._connect(socket)
            except PermissionError:
                denied = denied or socket
            except OSError:
                continue
        if denied is not None:
            raise StudioloError(
                Problem(
                    "engine-denied",
                    f"a container engine listens at {denied}, and this account may not use it",
                    "let it in: sudo usermod -aG docker $USER, then sign in anew; or use Podman: "
                    "systemctl --user enable --now podman.socket",
                )
            )
        named = "DOCKER_HOST" in environ
        raise StudioloError(
            Problem(
                "engine-missing",
                "an image needs Docker or Podman, and "
                + (f"none answers at {tried[0]}, which DOCKER_HOST names" if named else "none answers on this machine"),
                "start it, or unset DOCKER_HOST"
                if named
                else "install one: sudo apt-get install podman; then systemctl --user enable --now podman.socket",
            )
        )

    @classmethod
    async def _connect(cls, socket: Path) -> Self:
        """Raises OSError where nobody answers as an engine does."""
        # an HTTP client's own error does not tell who may not from who is not there
        _, writer = await asyncio.wait_for(asyncio.open_unix_connection(str(socket)), 5)
        writer.close()
        http = httpx2.AsyncClient(
            transport=httpx2.AsyncHTTPTransport(uds=str(socket), verify=False),
            base_url="http://engine",
            timeout=_PATIENCE,
        )
        try:
            version = (await http.get("/version", timeout=10.0)).json()
            ping = await http.get("/_ping", timeout=10.0)
            podman = any("Podman" in str(part.get("Name")) for part in version.get("Components") or ())
            name = f"{'Podman' if podman else 'Docker'} {str(version['Version'])[:40]}"
            platform = f"{version['Os']}/{version['Arch']}"
            buildkit = not podman and ping.headers.get("builder-version") == "2"
            return cls(name, socket, podman, platform, buildkit, http)
        except (httpx2.HTTPError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            await http.aclose()
            raise ConnectionError(str(error)) from error
        except BaseException:
            await http.aclose()
            raise

    async def close(self) -> None:
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.close()

    async def inspect(self, image: str) -> Mapping[str, Any] | None:
        """What the engine knows of an image that it has; None where it has none."""
        try:
            found = await self._ask("GET", f"/images/{image}/json")
        except NotFound:
            return None
        if not isinstance(found, dict) or not DIGEST.fullmatch(str(found.get("Id"))):
            raise self._garbage()
        return found

    async def pull(self, reference: Reference, report: Report, where: str = "") -> str:
        """Download an image; returns its digest. What is there already is not downloaded again. Raises `WrongInput`
        (image-not-found), `Unavailable` (registry-unreachable)."""
        parameters = {"fromImage": reference.repository, "tag": reference.digest or reference.tag}
        layers: dict[str, bool] = {}
        digest = reference.digest
        finished = {"Pull complete", "Already exists"} | ({"Download complete"} if self.podman else set())
        report(Progress(f"downloading {reference.shown}"))
        try:
            async for event in self._stream("/images/create", parameters, None, _PULL_SILENCE):
                if message := event.get("error"):
                    raise _Refused(str(message))
                status, layer = str(event.get("status", "")), str(event.get("id", ""))
                if status.startswith("Digest: "):
                    digest = status.removeprefix("Digest: ").strip()
                if layer and status in finished | {"Pulling fs layer", "Waiting"}:
                    layers[layer] = layers.get(layer, False) or status in finished
                    report(Progress(f"downloading {reference.shown}, layers", sum(layers.values()), len(layers)))
        except _Refused as error:
            raise _pull_failed(reference, error.message, where) from error
        except Unavailable as error:
            if error.problem.code != "engine-silent":
                raise
            raise _pull_failed(reference, "i/o timeout", where) from error
        if DIGEST.fullmatch(digest):
            return digest
        found = await self.inspect(reference.text)
        if found is None:
            raise _pull_failed(reference, "no such image", where)
        return repository_digest(found, reference)

    async def build(
        self,
        context: AsyncIterator[bytes],
        *,
        tag: str,
        file: str,
        arguments: Mapping[str, str],
        target: str,
        fresh: bool,
        buildkit: bool,
        on_step: Line,
        on_line: Line,
    ) -> str:
        """Build an archive's `file` and return the image's id. `on_step` hears each instruction as it begins, `on_line`
        all that is printed. `fresh`: nothing of earlier builds is used. Leaving early stops the build (on Podman
        before 5, when the instruction under way has ended). Raises `BuildFailed`."""
        parameters = {
            "t": tag,
            "dockerfile": file,
            "buildargs": json.dumps(dict(arguments)),
            "rm": "1",
            "forcerm": "1",
            "nocache": "1" if fresh else "0",
            "version": "2" if buildkit and not self.podman else "1",
            **({"target": target} if target else {}),
        }
        steps = Steps(on_step, on_line)
        image = ""
        try:
            async for event in self._stream("/build", parameters, context, _BUILD_SILENCE):
                if message := event.get("error"):
                    steps.end()
                    raise _Refused(str(message))
                aux = event.get("aux")
                if isinstance(aux, dict) and DIGEST.fullmatch(str(aux.get("ID"))):
                    image = aux["ID"]
                elif isinstance(aux, str):
                    steps.trace(aux)
                elif isinstance(event.get("stream"), str):
                    steps.hear(event["stream"])
        except _Refused as error:
            _raise_if_full(error.message)
            raise BuildFailed(_short(error.message), steps.failed or steps.current, not steps.begun) from error
        steps.end()
        if not image:
            raise self._garbage()
        return image

    async def tag(self, image: str, name: str) -> None:
        """Give an image a name of its own, so that the engine keeps it."""
        repository, _, tag = name.rpartition(":")
        await self._ask("POST", f"/images/{image}/tag", {"repo": repository, "tag": tag})

    async def remove(self, image: str) -> None:
        """Take a name from an image; the image goes with its last one, if nothing uses it. Idempotent."""
        with contextlib.suppress(NotFound):
            await self._ask("DELETE", f"/images/{image}")

    @contextlib.asynccontextmanager
    async def container(self, image: str) -> AsyncIterator[str]:
        """A container that never runs, to read an image's files from."""
        made = await self._ask("POST", "/containers/create", body={"Image": image, "Cmd": ["-"], "Entrypoint": ["-"]})
        container = str(made.get("Id", "")) if isinstance(made, dict) else ""
        if not re.fullmatch(r"[0-9a-f]{12,64}", container):
            raise self._garbage()
        try:
            yield container
        finally:
            with contextlib.suppress(NotFound):
                await asyncio.shield(self._ask("DELETE", f"/containers/{container}", {"force": "1"}))

    async def _ask(
        self, method: str, path: str, parameters: Mapping[str, str] | None = None, body: Mapping[str, Any] | None = None
    ) -> Any:
        with self._in_our_words():
            answer = await self._http.request(method, path, params=parameters, json=body)
            if answer.status_code == 404:
                raise NotFound(Problem("image-missing", _short(_message(answer.content))))
            if answer.status_code >= 400:
                message = _message(answer.content)
                _raise_if_full(message)
                raise StudioloError(Problem("engine-failed", f"{self.name} refuses: {_short(message)}"))
            if not answer.content:
                return None
            try:
                return answer.json()
            except (ValueError, RecursionError):
                return None

    async def _stream(
        self, path: str, parameters: Mapping[str, str], content: AsyncIterator[bytes] | None, patience: httpx2.Timeout
    ) -> AsyncIterator[Mapping[str, Any]]:
        """Each JSON object of an answer, as it comes. Raises `_Refused` for an answer that is an error."""
        headers = {"content-type": "application/x-tar"} if content else {}
        with self._in_our_words():
            async with self._http.stream(
                "POST", path, params=parameters, content=content, headers=headers, timeout=patience
            ) as answer:
                if answer.status_code >= 400:
                    raise _Refused(_message(await answer.aread()))
                rest = b""
                async for data in answer.aiter_bytes():
                    *lines, rest = (rest + data).split(b"\n")
                    if len(rest) > _LONGEST_ANSWER:
                        raise self._garbage()
                    for line in lines:
                        if (event := self._event(line)) is not None:
                            yield event
                if (event := self._event(rest)) is not None:
                    yield event

    def _event(self, line: bytes) -> Mapping[str, Any] | None:
        if not line.strip():
            return None
        try:
            event = json.loads(line)
        except (ValueError, RecursionError):
            raise self._garbage() from None
        if not isinstance(event, dict):
            raise self._garbage()
        return event

    def _garbage(self) -> Unavailable:
        return Unavailable(
            Problem("engine-garbage", f"{self.name} at {self.socket} says what no engine says", "restart it")
        )

    @contextlib.contextmanager
    def _in_our_words(self) -> Iterator[None]:
        try:
            yield
        except httpx2.TimeoutException as error:
            raise Unavailable(
                Problem("engine-silent", f"{self.name} at {self.socket} does not answer", "restart it")
            ) from error
        except httpx2.HTTPError as error:
            raise Unavailable(
                Problem(
                    "engine-lost", f"the connection to {self.name} was lost: {_short(str(error))}", "start it again"
                )
            ) from error


def repository_digest(image: Mapping[str, Any], reference: Reference) -> str:
    """The digest an image is known by in its repository, empty for one that comes from none."""
    found = []
    for text in image.get("RepoDigests") or ():
        with contextlib.suppress(WrongInput):
            each = Reference.parse(str(text))
            if each.repository == reference.repository:
                found.append(each.digest)
    return min(found, default="")


class _Refused(Exception):
    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


def _sockets(environ: Mapping[str, str]) -> tuple[Path, ...]:
    if named := environ.get("DOCKER_HOST"):
        path = named.removeprefix("unix://")
        if path == named or not path.startswith("/"):
            raise WrongInput(
                Problem(
                    "engine-address",
                    f"DOCKER_HOST is {named[:120]!r}, and only an engine on this machine can be used",
                    "set it to unix:///var/run/docker.sock, or unset it",
                    "DOCKER_HOST",
                )
            )
        return (Path(path),)
    own = Path(environ.get("XDG_RUNTIME_DIR") or f"/run/user/{os.getuid()}")
    return (
        Path("/var/run/docker.sock"),
        own / "docker.sock",
        own / "podman" / "podman.sock",
        Path("/run/podman/podman.sock"),
    )


def _pull_failed(reference: Reference, message: str, where: str) -> StudioloError:
    _raise_if_full(message)
    if _UNREACHABLE.search(message):
        host = reference.repository.split("/")[0]
        return Unavailable(
            Problem(
                "registry-unreachable",
                f"{reference.shown} cannot be downloaded, for {host} cannot be reached: {_short(message)}",
                "check the network, and the proxy settings of the engine; then try again",
                where,
            )
        )
    if _ABSENT.search(message):
        return WrongInput(
            Problem(
                "image-not-found",
                f"there is no image {reference.shown}, or it is private",
                "check its name; a private one is used once the engine has it: docker login, then docker pull",
                where,
            )
        )
    return StudioloError(
        Problem("image-pull-failed", f"{reference.shown} cannot be downloaded: {_short(message)}", "", where)
    )


def _raise_if_full(message: str) -> None:
    if re.search(r"no space left on device|disk quota exceeded", message, re.IGNORECASE):
        raise StudioloError(
            Problem(
                "disk-full",
                "the disk is full where the container engine keeps its images",
                "see what may go: docker system df; then docker image prune",
            )
        )


def _message(content: bytes) -> str:
    try:
        answer = json.loads(content)
        return str(answer.get("message") or answer.get("cause") or answer)
    except (ValueError, AttributeError, RecursionError):
        return content[:_QUOTED].decode(errors="replace")


def _short(message: str) -> str:
    return "".join(char if char.isprintable() or char == "\n" else " " for char in message.strip()[:_QUOTED])
