"""`python -m studiolo.environments.conda_worker REQUEST`: rattler in a process of its own.

Rattler solves and links in threads that go on when nobody waits for them any more; a process can be killed. The request
is a JSON file; the answer is written beside it as `REQUEST.answer`: what was found, or what failed in rattler's words.
Progress is printed, a JSON object on each line; other lines are for the log.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import re
import sys
import threading
import traceback
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import rattler
import rattler.exceptions
from rattler.package_cache import PackageCache, ValidationMode
from rattler.virtual_package.virtual_package import VirtualPackageOverrides

from studiolo.environments.conda_channels import address
from studiolo.environments.conda_lock import CondaPackage
from studiolo.spec.wording import nearest

KERNEL = "ipykernel"

_RETRIES = 2
_NO_CANDIDATES = re.compile(
    r"No candidates were found for ([\w.-]+)|([\w.-]+)[^\n]*, for which no candidates were found"
)
_FREE_THREADED = re.compile(r"_cp(\d)(\d+)t$")
# What conda-meta says of the cache that a package came from, which may go at any time.
_OF_THE_CACHE = ("extracted_package_dir", "package_tarball_full_path", "link")
_SCRIPTS = ("bin/.*-post-link.sh", "etc/conda/activate.d/*.sh")


class Failed(Exception):
    """What rattler says. `stage` is `spec`, `solve`, `fetch`, `install` or `engine`; `more` is for the explanation."""

    def __init__(self, stage: str, words: str, **more: str) -> None:
        super().__init__(words)
        self.answer = {"failed": stage, "words": words, **more}


async def solve(request: dict[str, Any]) -> dict[str, Any]:
    """The packages that `specs` and what they need amount to; with the kernel where there is a Python and it can be."""
    client = rattler.Client.default_client(max_retries=_RETRIES)
    gateway = rattler.Gateway(cache_dir=Path(request["cache"]) / "repodata", client=client)
    addresses = {address(channel): channel for channel in request["channels"]}
    channels = [rattler.Channel(each) for each in addresses]
    platforms = [rattler.Subdir.current(), rattler.Subdir("noarch")]
    specs = [_match_spec(each) for each in request["specs"]]
    machine = rattler.VirtualPackage.detect(VirtualPackageOverrides.from_env())

    async def attempt(
        wanted: list[rattler.MatchSpec], known: list[rattler.RepoDataRecord]
    ) -> list[rattler.RepoDataRecord]:
        return await rattler.solve(
            channels,
            wanted,
            gateway=gateway,
            platforms=platforms,
            locked_packages=known,
            virtual_packages=machine,
            channel_priority=rattler.ChannelPriority.Flexible,  # as conda does unless told otherwise
            channel_relations="disabled",  # packages come from the channels that are written down, and from no other
        )

    kernel = ""
    try:
        known = await _still_there(gateway, channels, platforms, request["previous"])
        records = await attempt(specs, known)
        names = {record.name.normalized for record in records}
        if "python" in names and KERNEL not in names and request["kernel"]:
            try:
                kept = [*records, *(each for each in known if each.name.normalized not in names)]
                records = await attempt([*specs, rattler.MatchSpec(KERNEL)], kept)
            except rattler.exceptions.SolverError as error:
                kernel = str(error)
    except rattler.exceptions.SolverError as error:
        match = _NO_CANDIDATES.search(str(error))
        missing = (match[1] or match[2]) if match else ""
        every = [each.normalized for each in await gateway.names(channels, platforms)] if missing else []
        unknown = missing and missing not in every and not missing.startswith("__")
        more = {"missing": missing, "near": nearest(missing, every) or ""} if unknown else {}
        raise Failed("solve", str(error), **more) from error
    except rattler.exceptions.GatewayError as error:
        raise Failed("fetch", str(error)) from error
    return {
        "platform": str(platforms[0]),
        "packages": [_locked(record, addresses) for record in records],
        "python_packages": {record.name.normalized: str(record.version) for record in records if _is_python(record)},
        "kernel": kernel,
    }


async def install(request: dict[str, Any]) -> dict[str, Any]:
    """Download the packages, each checked against its hash, and link them into the folder `prefix`."""
    prefix = Path(request["prefix"])
    packages = [CondaPackage(*each) for each in request["packages"]]
    records = [_record(package) for package in packages]
    for package, record in zip(packages, records, strict=True):
        _check_local(package, record.url)
    try:
        await rattler.install(
            records,
            prefix,
            # Full: what somebody wrote into a generation, through a hard link, is not handed on to the next.
            package_cache=PackageCache.new_layered(
                [Path(request["cache"]) / "packages"], validation_mode=ValidationMode.full()
            ),
            client=rattler.Client.default_client(max_retries=_RETRIES),
            reporter=_Reporter(len(packages)),  # type: ignore[abstract]  # what it leaves out does nothing
            installed_packages=[],
        )
    except rattler.exceptions.InstallerError as error:
        raise Failed("install", str(error)) from error
    for path in sorted(prefix.glob("conda-meta/*.json")):
        _tidy(path)
    for pattern in _SCRIPTS:
        for script in sorted(prefix.glob(pattern)):
            _say(f"{script.relative_to(prefix)} comes with a package and is not run")
    return {}


class _Reporter(rattler.InstallerReporter):
    """Counts. It is called from several threads."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._names: list[str] = []
        self._done = {"downloaded": 0, "installed": 0}
        self._lock = threading.Lock()

    def on_populate_cache_start(self, operation: int, package_name: str) -> int:
        return self._begin(package_name)

    def on_populate_cache_complete(self, cache_entry: int) -> None:
        self._end("downloaded", cache_entry)

    def on_link_start(self, operation: int, package_name: str) -> int:
        return self._begin(package_name)

    def on_link_complete(self, index: int) -> None:
        self._end("installed", index)

    def _begin(self, name: str) -> int:
        with self._lock:
            self._names.append(name)
            return len(self._names) - 1

    def _end(self, what: str, token: int) -> None:
        with self._lock:
            self._done[what] += 1
            progress = {"message": f"{what} {self._names[token]}", "done": self._done[what], "total": self._total}
            _say(json.dumps(progress))


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def _match_spec(wanted: dict[str, str]) -> rattler.MatchSpec:
    text = wanted["text"]
    try:
        spec = rattler.MatchSpec(text)
        if spec.channel is not None:
            raise Failed("spec", f"{text}: the channel is written in front: name::package", where=wanted["where"])
        if wanted["channel"]:
            spec = rattler.MatchSpec(f"{address(wanted['channel'])}::{text}")
    except (rattler.exceptions.InvalidMatchSpecError, rattler.exceptions.InvalidVersionSpecError) as error:
        raise Failed("spec", f"{text}: {error}", where=wanted["where"]) from error
    return spec


async def _still_there(
    gateway: rattler.Gateway,
    channels: list[rattler.Channel],
    platforms: list[rattler.Subdir],
    previous: list[list[str]],
) -> list[rattler.RepoDataRecord]:
    """What the channels still say of packages that were locked before: only they know what each needs."""
    packages = [CondaPackage(*each) for each in previous]
    if not packages:
        return []
    files = {(package.subdir, package.file, package.hash) for package in packages}
    specs = [rattler.MatchSpec(f"{package.name} =={package.version}") for package in packages]
    found = await gateway.query(channels, platforms, specs, recursive=False, channel_relations="disabled")
    records = [record for each in found for record in each]
    return [record for record in records if (record.subdir, record.file_name, _hash(record)) in files]


def _locked(record: rattler.RepoDataRecord, addresses: dict[str, str]) -> list[str]:
    name = record.name.normalized
    hashed = _hash(record)
    if hashed is None:
        raise Failed("solve", f"the channel gives no hash for {name} {record.version}, so it cannot be locked")
    channel = addresses[f"{(record.channel or '').rstrip('/')}/"]
    return [name, str(record.version), str(record.build), record.subdir, record.file_name, hashed, channel]


def _hash(record: rattler.RepoDataRecord) -> str | None:
    if record.sha256:
        return f"sha256:{record.sha256.hex()}"
    return f"md5:{record.md5.hex()}" if record.md5 else None


def _is_python(record: rattler.RepoDataRecord) -> bool:
    return any(each.split()[0] in ("python", "python_abi") for each in record.depends if each.split())


def _record(package: CondaPackage) -> rattler.RepoDataRecord:
    algorithm, _, digest = package.hash.partition(":")
    free_threaded = _FREE_THREADED.search(package.build) if package.name == "python" else None
    record = rattler.PackageRecord(
        package.name,
        package.version,
        rattler.BuildString.new_unchecked(package.build),
        0,
        package.subdir,
        python_site_packages_path=(
            f"lib/python{free_threaded[1]}.{free_threaded[2]}t/site-packages" if free_threaded else None
        ),
        **{algorithm: bytes.fromhex(digest)},  # type: ignore[arg-type]
    )
    base = address(package.channel)
    return rattler.RepoDataRecord(record, package.file, f"{base}{package.subdir}/{package.file}", base)


def _check_local(package: CondaPackage, url: str) -> None:
    """Rattler takes a file of this machine as it is, whatever its hash."""
    if url.startswith("file:"):
        algorithm, _, digest = package.hash.partition(":")
        try:
            with Path(unquote(urlsplit(url).path)).open("rb") as file:
                found = hashlib.file_digest(file, algorithm).hexdigest()
        except OSError as error:
            raise Failed("install", f"failed to fetch {package.file}\nCaused by: {error.strerror}") from error
        if found != digest:
            raise Failed("install", f"failed to fetch {package.file}\nCaused by: hash mismatch")


def _tidy(path: Path) -> None:
    """Complete a record of conda-meta with what the package says of itself, and free it of where it was made."""
    record = json.loads(path.read_text(encoding="utf-8"))
    index = Path(record.get("extracted_package_dir", ""), "info", "index.json")
    own = json.loads(index.read_text(encoding="utf-8"))
    for key in _OF_THE_CACHE:
        record.pop(key, None)
    for entry in record.get("paths_data", {}).get("paths", []):
        # another one in every folder that the package is installed to, and so of no use to compare two
        entry.pop("sha256_in_prefix", None)
        if "entry_point" in entry.get("path_type", ""):
            entry.pop("sha256", None)
    path.write_text(json.dumps({**record, **own}, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    path.chmod(0o644)


def main() -> None:
    path = Path(sys.argv[1])
    request = json.loads(path.read_text(encoding="utf-8"))
    try:
        answer = asyncio.run({"solve": solve, "install": install}[request["operation"]](request))
    except Failed as error:
        answer = dict(error.answer)
    except BaseException as error:  # where rattler itself breaks, it raises more than exceptions
        traceback.print_exc()
        answer = Failed("engine", f"{type(error).__name__}: {error}").answer
    path.with_name(f"{path.name}.answer").write_text(json.dumps(answer), encoding="utf-8")
    # Rattler's threads may still be at work, and end badly when Python is taken away from under them.
    os._exit(0)


if __name__ == "__main__":
    main()
