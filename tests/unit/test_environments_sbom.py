from __future__ import annotations

import json
import uuid
from typing import Any

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from studiolo import __version__
from studiolo.environments.kind import Lock, Package
from studiolo.environments.sbom import bom

LOCK = Lock("uv", "numpy==2.0\n", "3.12.4", "linux-x86_64")
PACKAGES = (
    Package("numpy", "2.0", "BSD-3-Clause AND MIT", "pkg:pypi/numpy@2.0"),
    Package("six", "1.17", "mit", "pkg:pypi/six@1.17"),
    Package("own", "1", "ask Ada first", "no package url"),
    Package("unknown", "3"),
)


def made(*packages: Package, name: str = "analysis") -> dict[str, Any]:
    found: dict[str, Any] = json.loads(bom(name, LOCK, packages, 1_700_000_000.0))
    return found


def test_what_is_in_it_and_what_it_is_of() -> None:
    found = made(*PACKAGES)
    assert (found["bomFormat"], found["specVersion"]) == ("CycloneDX", "1.6")
    metadata = found["metadata"]
    assert metadata["timestamp"] == "2023-11-14T22:13:20+00:00"
    assert (metadata["component"]["name"], metadata["component"]["version"]) == ("analysis", LOCK.id)
    assert [(each["name"], each["version"]) for each in metadata["tools"]["components"]] == [("studiolo", __version__)]
    components = {each["name"]: each for each in found["components"]}
    assert components["numpy"]["licenses"] == [{"expression": "BSD-3-Clause AND MIT"}]
    assert components["numpy"]["purl"] == "pkg:pypi/numpy@2.0"
    assert components["six"]["licenses"] == [{"license": {"id": "MIT"}}]
    assert components["own"]["licenses"] == [{"license": {"name": "ask Ada first"}}]
    assert "purl" not in components["own"]
    assert "licenses" not in components["unknown"]
    assert {each["bom-ref"] for each in found["components"]} == {
        ref for each in found["dependencies"] for ref in each.get("dependsOn", ())
    }


def test_the_same_gives_the_same_and_another_lock_another_number() -> None:
    text = bom("analysis", LOCK, PACKAGES, 1.0)
    assert bom("analysis", LOCK, tuple(reversed(PACKAGES)), 1.0) == text
    other = json.loads(bom("analysis", Lock("uv", "six==1\n"), PACKAGES, 1.0))["serialNumber"]
    assert other != json.loads(text)["serialNumber"]
    assert uuid.UUID(other)


@pytest.mark.parametrize(
    "packages",
    [
        (),
        PACKAGES,
        (Package("twice", "1", "", "pkg:deb/debian/twice@1"), Package("twice", "1"), Package("twice", "2")),
        (Package("odd\x1b\n", "", "(MIT", "pkg:"), Package("@scope/name", "1.0-β", "x" * 5000)),
    ],
)
def test_it_is_valid(packages: tuple[Package, ...]) -> None:
    text = bom("analysis", LOCK, packages, 0.0)
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
