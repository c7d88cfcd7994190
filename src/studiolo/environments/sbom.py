"""A bill of materials: what is in an environment, as CycloneDX 1.6 JSON."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from studiolo import __version__
from studiolo.environments.kind import Lock, Package

if TYPE_CHECKING:
    from cyclonedx.model.component import Component

_SERIALS = uuid.uuid5(uuid.NAMESPACE_URL, "urn:studiolo:bill-of-materials")


def bom(name: str, lock: Lock, packages: Sequence[Package], made: float) -> str:
    """The bill of materials of the environment `name`, built from `lock` at `made` (Unix time).

    The same arguments give the same text. A licence that is an SPDX expression is given as one, others in the
    package's own words. There are no hashes: a lock has those of every file that would do, and not which of them it
    came to be. Takes tenths of a second: use a thread.
    """
    from cyclonedx.model.bom import Bom, BomMetaData
    from cyclonedx.model.component import Component, ComponentType
    from cyclonedx.model.tool import ToolRepository
    from cyclonedx.output import make_outputter
    from cyclonedx.schema import OutputFormat, SchemaVersion

    root = Component(name=name, version=lock.id, type=ComponentType.APPLICATION, bom_ref=f"environment:{lock.id}")
    tool = Component(name="studiolo", version=__version__, type=ComponentType.APPLICATION, bom_ref="studiolo")
    ordered = sorted(set(packages), key=lambda each: (each.name, each.version, each.purl, each.licence))
    document = Bom(
        serial_number=uuid.uuid5(_SERIALS, lock.id),
        components=[_component(package, f"package:{number}") for number, package in enumerate(ordered, 1)],
        metadata=BomMetaData(
            component=root,
            tools=ToolRepository(components=[tool]),
            timestamp=datetime.fromtimestamp(made, UTC),
        ),
    )
    document.register_dependency(root, document.components)
    return make_outputter(document, OutputFormat.JSON, SchemaVersion.V1_6).output_as_string(indent=2) + "\n"


def _component(package: Package, ref: str) -> Component:
    from cyclonedx.contrib.license.factories import LicenseFactory
    from cyclonedx.model.component import Component, ComponentType
    from packageurl import PackageURL

    try:
        purl = PackageURL.from_string(package.purl) if package.purl else None
    except ValueError:
        purl = None  # from an image's own list, which may say anything
    return Component(
        type=ComponentType.LIBRARY,
        bom_ref=ref,
        name=package.name,
        version=package.version,
        purl=purl,
        licenses=[LicenseFactory().make_from_string(package.licence)] if package.licence else [],
    )
