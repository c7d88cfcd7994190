"""Images, with a real Docker, a real Podman and a real registry."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from engines import Client, Cutting, docker, free_port, podman, reason_against, registry, root_filesystem
from studiolo.environments.engine import Engine
from studiolo.environments.generations import Generations
from studiolo.environments.image import ImageKind
from studiolo.environments.image_reference import Reference
from studiolo.environments.kind import Package, Progress, Request, Upgrade
from studiolo.problem import StudioloError, Unavailable, WrongInput

pytestmark = pytest.mark.skipif(
    bool(reason_against("dockerd", "podman", "docker-registry", "ip")),
    reason=reason_against("dockerd", "podman", "docker-registry", "ip"),
)

SEVEN = """\
ARG BASE={base}
FROM ${{BASE}} AS made
RUN mkdir -p /opt
COPY a.txt /opt/
FROM made
# a comment in between
RUN echo one \\
    && echo two
RUN echo last words; false
RUN echo never
"""


@pytest.fixture(scope="module")
def place() -> Iterator[Path]:
    # not below pytest's own folder: a Unix socket's path is short
    folder = Path(tempfile.mkdtemp(prefix="st", dir="/tmp"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def hub(place: Path) -> Iterator[str]:
    (place / "r").mkdir()
    with registry(place / "r") as address:
        yield address


@pytest.fixture(scope="module")
def the_docker(place: Path, hub: str) -> Iterator[Client]:
    (place / "d").mkdir()
    with docker(place / "d") as client:
        client.load("local/base:1", root_filesystem())
        client.load(f"{hub}/team/base:1", root_filesystem())
        client.push(f"{hub}/team/base:1")
        client.remove(f"{hub}/team/base:1")
        yield client


@pytest.fixture(scope="module")
def the_podman(place: Path, hub: str, the_docker: Client) -> Iterator[Client]:
    (place / "p").mkdir()
    with podman(place / "p", hub) as client:
        client.load("localhost/local/base:1", root_filesystem())
        yield client


@pytest.fixture(params=["docker", "podman"])
def engine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Client:
    client: Client = request.getfixturevalue(f"the_{request.param}")
    monkeypatch.setenv("DOCKER_HOST", f"unix://{client.socket}")
    return client


@pytest.fixture
def only_docker(the_docker: Client, monkeypatch: pytest.MonkeyPatch) -> Client:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{the_docker.socket}")
    return the_docker


@pytest.fixture
def kind(tmp_path: Path) -> ImageKind:
    return ImageKind(tmp_path / "cache")


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    folder = tmp_path / "repository"
    folder.mkdir()
    (folder / "a.txt").write_text("a\n")
    return folder


@pytest.fixture
def built(tmp_path: Path) -> Path:
    folder = tmp_path / "built"
    folder.mkdir()
    return folder


def ignore(_: Progress) -> None: ...


async def failure(work: object, error: type[StudioloError] = StudioloError) -> StudioloError:
    with pytest.raises(error) as caught:
        await work  # type: ignore[misc]
    return caught.value


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.05)


async def test_a_tag_is_locked_by_its_digest_and_described(
    engine: Client, hub: str, kind: ImageKind, built: Path
) -> None:
    name = f"{hub}/team/base:1"
    heard: list[Progress] = []
    lock = await kind.lock(Request(image=name), heard.append)
    document = json.loads(lock.text)
    assert document["image"].startswith(f"{hub}/team/base@sha256:")
    assert any(each.total for each in heard), "layers are counted"
    assert await kind.lock(Request(image=name), ignore) == lock
    await kind.build(lock, built, ignore)
    image = json.loads((built / "image.json").read_text())
    assert image["digest"] == document["image"].partition("@")[2]
    assert image["architecture"] in ("amd64", "arm64")
    assert f"localhost/studiolo-environment:{lock.id}" in engine.names()
    (itself,) = kind.describe(lock)
    assert itself.name == f"{hub}/team/base"
    assert itself.version == image["digest"]
    assert itself.purl.startswith("pkg:oci/base@sha256%3A")
    assert set(kind.describe(lock, built)) == {
        itself,
        Package("bash", "5.2.15-2", "", "pkg:deb/debian/bash@5.2.15-2"),
        Package("six", "1.17.0", "MIT", "pkg:pypi/six@1.17.0"),
    }
    assert (await kind.export(lock, "dockerfile"))["Dockerfile"] == f"FROM {document['image']}\n"
    assert engine.containers() == []
    await kind.forget(lock)
    await kind.forget(lock)
    assert f"localhost/studiolo-environment:{lock.id}" not in engine.names()


async def test_a_digest_stays_what_it_is_and_what_was_locked_too(
    only_docker: Client, hub: str, kind: ImageKind
) -> None:
    name = f"{hub}/team/moving:1"
    locks = []
    for content in (b"one", b"two"):
        only_docker.load(name, root_filesystem({"content": content}))
        only_docker.push(name)
        only_docker.remove(name)
        locks.append(await kind.lock(Request(image=name), ignore))
    first = locks[0]
    assert await kind.lock(Request(image=name, previous=first), ignore) == first
    moved = await kind.lock(Request(image=name, previous=first, upgrade=Upgrade()), ignore)
    assert moved != first
    assert await kind.lock(Request(image=name, previous=first, upgrade=Upgrade(("other",))), ignore) == first
    assert (
        await kind.lock(Request(image=name, previous=first, upgrade=Upgrade((f"{hub}/team/moving",))), ignore) == moved
    )
    pinned = json.loads(moved.text)["image"]
    assert json.loads((await kind.lock(Request(image=pinned), ignore)).text)["image"] == pinned


async def test_an_image_of_the_engines_own_is_locked_by_its_id(engine: Client, kind: ImageKind, built: Path) -> None:
    name = next(each for each in engine.names() if each.endswith("local/base:1"))
    heard: list[Progress] = []
    lock = await kind.lock(Request(image=name), heard.append)
    pinned = json.loads(lock.text)["image"]
    assert pinned.startswith("sha256:") or "@sha256:" in pinned
    assert "cannot be downloaded" in heard[-1].message
    await kind.build(lock, built, ignore)
    assert json.loads((built / "image.json").read_text())["id"].startswith("sha256:")


async def test_a_dockerfile_is_built_with_pinned_bases(
    engine: Client, hub: str, kind: ImageKind, repository: Path, built: Path
) -> None:
    (repository / "Dockerfile").write_text(
        f"ARG BASE={hub}/team/base:1\nFROM $BASE AS one\nENV WHO=ada GREETING=hello\nCOPY . /all\n"
        f"RUN echo found > /all/made && ls -a /all\nFROM $BASE\nCOPY --from=one /all /all\n"
        f"COPY --from={hub}/team/base:1 /etc/passwd /p\n"
        "RUN test -f /all/a.txt && test -f /all/made && test ! -e /all/.git && "
        "test ! -e /all/secret && echo 'as it should be'\nENV WHO=ada\nUSER 1000\nENTRYPOINT [\"/bin/sh\"]\n"
    )
    (repository / ".dockerignore").write_text("secret*\n")
    (repository / "secret").write_text("x")
    (repository / ".git").mkdir()
    (repository / ".git" / "HEAD").write_text("x")
    heard: list[Progress] = []
    detection = kind.detect(repository)
    assert detection is not None
    assert (detection.file, detection.reason) == ("Dockerfile", "Dockerfile found")
    lock = await kind.lock(Request(folder=repository), ignore)
    assert lock.facts["source"] == "Dockerfile"
    assert str(repository) not in lock.text
    shutil.rmtree(repository)  # what was locked can be built, whatever becomes of the repository
    await kind.build(lock, built, heard.append)
    assert "as it should be" in (built / "build.log").read_text()
    image = json.loads((built / "image.json").read_text())
    assert (image["env"]["WHO"], image["user"], image["entrypoint"]) == ("ada", "1000", ["/bin/sh"])
    assert kind.activate(lock, built).env["WHO"] == "ada"
    counted = [progress for progress in heard if progress.total == 12]
    assert [progress.done for progress in counted] == sorted(progress.done or 0 for progress in counted)
    assert counted[-1].done == 12
    exported = (await kind.export(lock, "dockerfile"))["Dockerfile"]
    assert exported.count(f"{hub}/team/base@sha256:") == 3
    again = built.parent / "again"
    again.mkdir()
    await kind.rebuild(lock, again, ignore)
    assert (again / "packages.json").read_bytes() == (built / "packages.json").read_bytes()
    assert not any("again" in name for name in engine.names())


async def test_the_step_that_fails_is_named_with_its_line(
    engine: Client, hub: str, kind: ImageKind, repository: Path, built: Path
) -> None:
    (repository / "Dockerfile").write_text(SEVEN.format(base=f"{hub}/team/base:1"))
    lock = await kind.lock(Request(folder=repository), ignore)
    problem = (await failure(kind.build(lock, built, ignore))).problem
    assert problem.code == "image-build-failed"
    assert problem.message.startswith("step 7 of 8, RUN echo last words; false, failed: ")
    assert problem.message.endswith("\nlast words")
    assert problem.where == "Dockerfile:9:1"
    log = (built / "build.log").read_text()
    assert "two" in log
    assert "never" not in log.replace("RUN echo never", "")
    assert engine.containers() == [] or "podman" in str(engine.socket)


async def test_buildkit_builds_what_only_it_can(
    only_docker: Client, kind: ImageKind, repository: Path, built: Path
) -> None:
    """From an image that only the engine has, which BuildKit cannot name by its id."""
    text = (
        "# syntax=docker/dockerfile:1\nFROM local/base:1\nRUN --mount=type=cache,target=/c echo one > /c/x\n"
        "COPY . /all\nRUN ls -a /all\nRUN echo last words; {end}\n"
    )
    (repository / "Dockerfile").write_text(text.format(end="true"))
    heard: list[Progress] = []
    await kind.build(await kind.lock(Request(folder=repository), ignore), built, heard.append)
    log = (built / "build.log").read_text()
    assert "last words" in log
    assert ".studiolo" not in log
    assert [progress.done for progress in heard if progress.total == 5] == [1, 2, 3, 4, 5]
    (repository / "Dockerfile").write_text(text.format(end="false"))
    problem = (await failure(kind.build(await kind.lock(Request(folder=repository), ignore), built, ignore))).problem
    assert problem.message.startswith("step 5 of 5, RUN echo last words; false, failed: ")
    assert problem.message.endswith("\nlast words")
    assert problem.where == "Dockerfile:6:1"


async def test_what_an_engine_alone_refuses_is_the_persons_to_correct(
    only_docker: Client, kind: ImageKind, repository: Path, built: Path
) -> None:
    (repository / "Dockerfile").write_text("FROM local/base:1\n\nEXPOSE ten\n")
    lock = await kind.lock(Request(folder=repository), ignore)
    problem = (await failure(kind.build(lock, built, ignore))).problem
    assert "ten" in problem.message
    assert problem.where == "Dockerfile:3:1"


@pytest.mark.parametrize(
    ("text", "where", "message"),
    [
        ("FROM local/base:1\nRUNN x\n", "Dockerfile:2:1", "not an instruction"),
        ("RUN x\n", "Dockerfile:1:1", "no FROM"),
        ("RUN x\nFROM a\n", "Dockerfile:1:1", "in front of the first FROM"),
        ("FROM\n", "Dockerfile:1:1", "says nothing"),
        ("FROM a b\n", "Dockerfile:1:1", "FROM takes"),
        ("ARG X\nFROM ${X}\n", "Dockerfile:2:1", "stands for nothing"),
        ("FROM ../etc\n", "Dockerfile:1:1", "not the name of an image"),
        ("FROM a@sha256:0?x=1\n", "Dockerfile:1:1", "not the name of an image"),
        ("FROM a\nRUN <<E\n", "Dockerfile:2:1", "has no end"),
        ("", "Dockerfile:1:1", "no FROM"),
        ("FROM a\n" + "RUN x\n" * 3000, "Dockerfile:2001:1", "more than 2000"),
        ("#" * (2 << 20), "Dockerfile", "larger than"),
    ],
)
async def test_a_dockerfile_that_is_none(
    only_docker: Client, kind: ImageKind, repository: Path, text: str, where: str, message: str
) -> None:
    (repository / "Dockerfile").write_text(text)
    problem = (await failure(kind.lock(Request(folder=repository), ignore), WrongInput)).problem
    assert problem.where == where
    assert message in problem.message


async def test_images_that_are_not_there(only_docker: Client, hub: str, kind: ImageKind, repository: Path) -> None:
    problem = (await failure(kind.lock(Request(image=f"{hub}/team/nope:1"), ignore), WrongInput)).problem
    assert problem.code == "image-not-found"
    assert "docker pull" in problem.hint
    (repository / "Dockerfile").write_text(f"FROM scratch\nFROM {hub}/team/nope:1\n")
    assert (await failure(kind.lock(Request(folder=repository), ignore))).problem.where == "Dockerfile:2:1"
    unreachable = await failure(kind.lock(Request(image=f"127.0.0.1:{free_port()}/a:1"), ignore), Unavailable)
    assert unreachable.problem.code == "registry-unreachable"
    problem = (await failure(kind.lock(Request(image="sha256:" + "0" * 64), ignore))).problem
    assert problem.code == "image-missing"


async def test_a_registry_that_goes_away_in_the_middle(only_docker: Client, hub: str, kind: ImageKind) -> None:
    name = f"{hub}/team/large:1"
    only_docker.load(name, root_filesystem({"large": os.urandom(8 << 20)}))
    only_docker.push(name)
    only_docker.remove(name)
    way = Cutting(hub, 2 << 20)
    try:
        broken = await failure(kind.lock(Request(image=f"{way.address}/team/large:1"), ignore), Unavailable)
    finally:
        way.close()
    assert way.broken.is_set()
    assert broken.problem.code == "registry-unreachable"
    assert (await kind.lock(Request(image=name), ignore)).id


async def test_no_engine(kind: ImageKind, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    request = Request(image="python:3.12")
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/none")
    problem = (await failure(kind.lock(request, ignore))).problem
    assert problem.code == "engine-missing"
    assert f"{tmp_path}/none" in problem.message
    monkeypatch.setenv("DOCKER_HOST", "tcp://192.0.2.1:2375")
    assert (await failure(kind.lock(request, ignore), WrongInput)).problem.code == "engine-address"

    async def garbage(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n[[garbage")
        await reader.read(100)
        writer.close()

    short = Path(tempfile.mkdtemp(dir="/tmp")) / "s"
    async with await asyncio.start_unix_server(garbage, short):
        monkeypatch.setenv("DOCKER_HOST", f"unix://{short}")
        assert (await failure(kind.lock(request, ignore))).problem.code == "engine-missing"
    shutil.rmtree(short.parent)


async def test_two_who_want_the_same_image_build_it_once(
    only_docker: Client, kind: ImageKind, repository: Path, tmp_path: Path
) -> None:
    (repository / "Dockerfile").write_text("FROM local/base:1\nRUN echo built >> /once\n")
    lock = await kind.lock(Request(folder=repository), ignore)
    stores = [
        Generations(tmp_path / "generations", tmp_path / "cache", {"image": each}, reserve=0)
        for each in (kind, ImageKind(tmp_path / "cache"))
    ]
    heard: list[Progress] = []
    first, second = await asyncio.gather(*(store.build(lock, heard.append) for store in stores))
    assert first == second
    assert sum(progress.message.startswith("RUN") for progress in heard) == 1
    assert any("another process" in progress.message for progress in heard)


@pytest.mark.parametrize("command", ["RUN", "RUN --mount=type=cache,target=/c"])
async def test_giving_up_stops_the_build(
    only_docker: Client, kind: ImageKind, repository: Path, built: Path, command: str
) -> None:
    (repository / "Dockerfile").write_text(f"FROM local/base:1\n{command} sleep 987\n")
    lock = await kind.lock(Request(folder=repository), ignore)
    begun = asyncio.Event()

    def hear(progress: Progress) -> None:
        if "sleep" in progress.message:
            begun.set()

    task = asyncio.create_task(kind.build(lock, built, hear))
    await asyncio.wait_for(begun.wait(), 60)
    await until(lambda: _sleeping() == 1)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert task.cancelled()
    await until(lambda: _sleeping() == 0 and only_docker.containers() == [])


def _sleeping() -> int:
    lines = (path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline") if path.exists())
    return sum(line == b"sleep\x00987\x00" for line in lines)


async def test_only_what_is_copied_makes_another_image(only_docker: Client, kind: ImageKind, repository: Path) -> None:
    (repository / "Dockerfile").write_text("FROM local/base:1\nCOPY a.txt src/*.py /x/\n")
    (repository / "src").mkdir()
    (repository / "src" / "m.py").write_text("1\n")
    request = Request(folder=repository)
    lock, before = await kind.lock(request, ignore), kind.inputs(request)
    assert set(before) == {"Dockerfile", "./"}
    (repository / "notebook.ipynb").write_text("{}")
    (repository / "a.txt").touch()
    assert await kind.lock(request, ignore) == lock
    assert kind.inputs(request) == before
    (repository / "src" / "m.py").write_text("2\n")
    assert await kind.lock(request, ignore) != lock
    assert kind.inputs(request) != before


async def test_a_link_out_of_the_repository_stays_a_link(
    only_docker: Client, kind: ImageKind, repository: Path, built: Path
) -> None:
    (repository.parent / "outside").write_text("not to be seen")
    (repository / "out").symlink_to(repository.parent / "outside")
    (repository / "folder").symlink_to(repository.parent)
    (repository / "Dockerfile").write_text("FROM local/base:1\nCOPY . /all\nRUN ls -l /all && ! cat /all/out\n")
    await kind.build(await kind.lock(Request(folder=repository), ignore), built, ignore)
    log = (built / "build.log").read_text()
    assert f"out -> {repository.parent}/outside" in log
    assert "not to be seen" not in log
    (repository / "Dockerfile").write_text("FROM local/base:1\nCOPY out /x\n")
    again = built.parent / "again"
    again.mkdir()
    assert (await failure(kind.build(await kind.lock(Request(folder=repository), ignore), again, ignore))).problem.where
    (repository / "Dockerfile").unlink()
    (repository / "Dockerfile").symlink_to(repository.parent / "outside")
    problem = (await failure(kind.lock(Request(folder=repository), ignore), WrongInput)).problem
    assert problem.code == "file-outside-repository"
    (repository / "sub").symlink_to(repository.parent)
    (repository.parent / "Dockerfile").write_text("FROM local/base:1\n")
    assert (await failure(kind.lock(Request(folder=repository, project="sub"), ignore), WrongInput)).problem.code


async def test_a_context_that_is_gone_says_so(
    only_docker: Client, kind: ImageKind, repository: Path, built: Path
) -> None:
    (repository / "Dockerfile").write_text("FROM local/base:1\nCOPY a.txt /\n")
    lock = await kind.lock(Request(folder=repository), ignore)
    shutil.rmtree(repository.parent / "cache")
    problem = (await failure(kind.build(lock, built, ignore))).problem
    assert problem.code == "context-missing"
    assert "env update" in problem.hint


async def test_a_base_that_brings_instructions_is_refused(
    only_docker: Client, kind: ImageKind, repository: Path, built: Path
) -> None:
    (repository / "Dockerfile").write_text("FROM local/base:1\nONBUILD COPY . /all\n")
    await kind.build(await kind.lock(Request(folder=repository), ignore), built, ignore)
    name = json.loads((built / "image.json").read_text())["name"]
    (repository / "Dockerfile").write_text(f"FROM {name}\n")
    problem = (await failure(kind.lock(Request(folder=repository), ignore), WrongInput)).problem
    assert problem.code == "image-onbuild"
    assert problem.where == "Dockerfile:1:1"


async def test_what_a_build_prints_without_end_is_bounded(
    only_docker: Client, kind: ImageKind, repository: Path, built: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("studiolo.environments.image_progress._LARGEST_LOG", 1 << 16)
    (repository / "Dockerfile").write_text(
        "FROM local/base:1\nRUN yes | busybox head -c 300000; "
        "busybox tr -d x < /dev/zero | busybox head -c 3000000; false\n"
    )
    problem = (await failure(kind.build(await kind.lock(Request(folder=repository), ignore), built, ignore))).problem
    assert len(problem.message) < 20_000
    assert (built / "build.log").stat().st_size < 2 << 20


@pytest.mark.parametrize(
    ("answer", "code"), [(b'5\r\n{"a":', "engine-lost"), (b"3\r\n[]\n\r\n0\r\n\r\n", "engine-garbage")]
)
async def test_an_engine_that_breaks_off(monkeypatch: pytest.MonkeyPatch, answer: bytes, code: str) -> None:

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        line = await reader.readuntil(b"\r\n\r\n")
        body = b'{"Version": "1", "Os": "linux", "Arch": "amd64"}'
        if b"/images/create" in line:
            writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n" + answer)
        else:
            writer.write(b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body))
        await writer.drain()
        writer.close()

    folder = Path(tempfile.mkdtemp(dir="/tmp"))
    async with await asyncio.start_unix_server(serve, folder / "s"):
        monkeypatch.setenv("DOCKER_HOST", f"unix://{folder / 's'}")
        async with await Engine.find() as engine:
            broken = await failure(engine.pull(Reference.parse("a:1"), ignore), Unavailable)
    assert broken.problem.code == code
    shutil.rmtree(folder)


DEVCONTAINER = """\
{
    // with a comment
    "build": {"dockerfile": "Dockerfile", "context": "..", "args": {"WHO": "ada"}, "target": "made"},
    "features": {"./tool": {"level": "it's 2"}},
}
"""


async def test_a_devcontainer_is_built_with_its_features(
    engine: Client, hub: str, kind: ImageKind, repository: Path, built: Path
) -> None:
    folder = repository / ".devcontainer"
    (folder / "tool").mkdir(parents=True)
    (folder / "devcontainer.json").write_text(DEVCONTAINER)
    (folder / "Dockerfile").write_text(
        f"FROM {hub}/team/base:1 AS made\nARG WHO=nobody\nCOPY a.txt /\nENV WHO=$WHO\nUSER 1000\nFROM made\nRUN false\n"
    )
    (folder / "tool" / "install.sh").write_text(
        '#!/bin/sh\necho "$LEVEL and $COLOUR for $_REMOTE_USER" > /tool\ncat /tool\n'
    )
    (folder / "tool" / "devcontainer-feature.json").write_text(
        '{"id": "tool", "options": {"colour": {"type": "string", "default": "green"}}, '
        '"containerEnv": {"TOOL": "/t:${PATH}"}}'
    )
    detection = kind.detect(repository)
    assert detection is not None
    assert detection.file == ".devcontainer/devcontainer.json"
    request = Request(folder=repository)
    lock = await kind.lock(request, ignore)
    assert lock.facts["source"] == detection.file
    assert {detection.file, ".devcontainer/Dockerfile", ".devcontainer/tool"} <= set(kind.inputs(request))
    await kind.build(lock, built, ignore)
    assert "it's 2 and green for 1000" in (built / "build.log").read_text()
    image = json.loads((built / "image.json").read_text())
    assert (image["env"]["WHO"], image["user"]) == ("ada", "1000")
    assert image["env"]["TOOL"].startswith("/t:/")
    assert not any("studiolo-base" in name for name in engine.names())
    (folder / "tool" / "install.sh").write_text("#!/bin/sh\necho no luck\nexit 3\n")
    again = built.parent / "again"
    again.mkdir()
    problem = (await failure(kind.build(await kind.lock(request, ignore), again, ignore))).problem
    assert "feature .devcontainer/tool, failed" in problem.message
    assert problem.message.endswith("\nno luck")
    assert problem.where == ".devcontainer/devcontainer.json:4:18"


async def test_the_example_takes_what_it_copies_and_no_more(
    only_docker: Client, kind: ImageKind, repository: Path, built: Path
) -> None:
    """Its first stage; the second installs from a Debian mirror."""
    shutil.copytree(Path(__file__).parents[2] / "examples" / "image-debian", repository, dirs_exist_ok=True)
    build = {"dockerfile": "Dockerfile", "args": {"BASE": "local/base:1"}, "target": "data"}
    (repository / ".devcontainer.json").write_text(json.dumps({"build": build}))
    lock = await kind.lock(Request(folder=repository), ignore)
    (repository / "README.md").write_text("changed")
    assert await kind.lock(Request(folder=repository), ignore) == lock
    await kind.build(lock, built, ignore)
    assert "rain.csv > /data/complete.csv" in (built / "build.log").read_text()
    (repository / "rain.csv").write_text("changed")
    assert await kind.lock(Request(folder=repository), ignore) != lock


async def test_a_devcontainer_that_names_an_image(
    only_docker: Client, hub: str, kind: ImageKind, repository: Path
) -> None:
    (repository / "Dockerfile").write_text("FROM a\n")
    (repository / ".devcontainer.json").write_text(f'{{"image": "{hub}/team/base:1", /* more */ }}')
    detection = kind.detect(repository)
    assert detection is not None
    assert detection.file == ".devcontainer.json"
    lock = await kind.lock(Request(folder=repository), ignore)
    plain = await kind.lock(Request(image=f"{hub}/team/base:1"), ignore)
    assert lock.id == plain.id, "who asks for the same image has the same environment"
    (repository / ".devcontainer.json").write_text(f'{{"image": "{hub}/team/base:1", "features": {{"./none": {{}}}}}}')
    problem = (await failure(kind.lock(Request(folder=repository), ignore), WrongInput)).problem
    assert problem.code == "feature-missing"
    assert problem.where.startswith(".devcontainer.json:1:")
    (repository / ".devcontainer.json").write_text('{"dockerComposeFile": "compose.yml"}')
    detection = kind.detect(repository)
    assert detection is not None
    assert detection.file == "Dockerfile"
    (repository / ".devcontainer.json").write_text("{")
    with pytest.raises(WrongInput) as caught:
        kind.inputs(Request(folder=repository))
    assert caught.value.problem.where.startswith(".devcontainer.json:1:")


def test_nothing_declares_an_image(kind: ImageKind, repository: Path) -> None:
    assert kind.detect(repository) is None
    with pytest.raises(WrongInput, match="neither a Dockerfile"):
        kind.inputs(Request(folder=repository))
    (repository / "Containerfile").write_text("FROM a\n")
    detection = kind.detect(repository)
    assert detection is not None
    assert detection.file == "Containerfile"
