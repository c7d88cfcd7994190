"""`/api/v1`: environments of workspaces, numbered; what can be seen of them and done with them."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Annotated

from fastapi import APIRouter, Body, Query, Request
from fastapi.responses import Response, StreamingResponse

from studiolo.control.collect import KEEP
from studiolo.control.environments import as_export_format
from studiolo.resources import (
    Adopted,
    Collected,
    Difference,
    Exported,
    Generation,
    GenerationDetail,
    Workspace,
)
from studiolo.server.api import house_of
from studiolo.server.auth import SignedIn

router = APIRouter(prefix="/api/v1")
Number = Annotated[int | None, Query(ge=1)]


@router.get("/workspaces/{ref}/generations")
async def list_generations(request: Request, account: SignedIn, ref: str) -> list[Generation]:
    return await house_of(request).studio.environments.of_workspace(account, ref)


@router.get("/templates/{name}/generations")
async def list_template_generations(request: Request, account: SignedIn, name: str) -> list[Generation]:
    """What workspaces that were made from this stored environment have had."""
    return await house_of(request).studio.environments.of_template(account, name)


@router.get("/workspaces/{ref}/generation")
async def show_generation(request: Request, account: SignedIn, ref: str, number: Number = None) -> GenerationDetail:
    """One generation, the current one by default, with all that is in it."""
    return await house_of(request).studio.environments.show(account, ref, number)


@router.get("/workspaces/{ref}/difference")
async def difference(
    request: Request, account: SignedIn, ref: str, before: Number = None, after: Number = None
) -> Difference:
    """Between two generations; without `after`, what was installed by hand."""
    return await house_of(request).studio.environments.compare(account, ref, before, after)


@router.get("/workspaces/{ref}/build-log", response_class=StreamingResponse)
async def build_log(
    request: Request, account: SignedIn, ref: str, number: Number = None, follow: bool = False
) -> StreamingResponse:
    """Lines as newline-delimited JSON strings."""
    lines = house_of(request).studio.environments.log(account, ref, number, follow)
    first = await anext(lines, None)  # so that an unknown name is a 404, not a broken stream

    async def encoded() -> AsyncIterator[str]:
        async with aclosing(lines):  # type: ignore[type-var]
            if first is not None:
                yield json.dumps(first) + "\n"
                async for line in lines:
                    yield json.dumps(line) + "\n"

    return StreamingResponse(encoded(), media_type="application/x-ndjson")


@router.get("/workspaces/{ref}/export")
async def export(request: Request, account: SignedIn, ref: str, form: str, number: Number = None) -> Exported:
    """The lock as files for other tools: pylock, requirements, dockerfile or flake."""
    return await house_of(request).studio.environments.export(account, ref, as_export_format(form), number)


@router.get("/workspaces/{ref}/sbom")
async def sbom(request: Request, account: SignedIn, ref: str, number: Number = None) -> Response:
    """The bill of materials, CycloneDX as JSON."""
    text = await house_of(request).studio.environments.bom(account, ref, number)
    return Response(text, media_type="application/vnd.cyclonedx+json")


@router.get("/workspaces/{ref}/verification", response_class=StreamingResponse)
async def verify(request: Request, account: SignedIn, ref: str, number: Number = None) -> StreamingResponse:
    """Build it again and compare: newline-delimited JSON, progress first and the result last."""
    lines = house_of(request).studio.environments.verify(account, ref, number)
    first = await anext(lines)

    async def encoded() -> AsyncIterator[str]:
        async with aclosing(lines):  # type: ignore[type-var]
            yield first.model_dump_json() + "\n"
            async for line in lines:
                yield line.model_dump_json() + "\n"

    return StreamingResponse(encoded(), media_type="application/x-ndjson")


@router.post("/workspaces/{ref}/update", status_code=202)
async def update(
    request: Request, account: SignedIn, ref: str, packages: Annotated[tuple[str, ...], Body(embed=True)] = ()
) -> Workspace:
    """Lock again with the newest versions of these packages, of all where none is named."""
    studio = house_of(request).studio
    await studio.environments.update(account, ref, packages)
    return await studio.workspace(account, ref)


@router.post("/workspaces/{ref}/rollback", status_code=202)
async def rollback(
    request: Request, account: SignedIn, ref: str, number: Annotated[int | None, Body(embed=True)] = None
) -> Workspace:
    studio = house_of(request).studio
    await studio.environments.rollback(account, ref, number)
    return await studio.workspace(account, ref)


@router.post("/workspaces/{ref}/pin", status_code=202)
async def pin(
    request: Request, account: SignedIn, ref: str, number: Annotated[int | None, Body(embed=True)] = None
) -> Workspace:
    """Stay on this generation; null: no longer."""
    studio = house_of(request).studio
    await studio.environments.pin(account, ref, number)
    return await studio.workspace(account, ref)


@router.post("/workspaces/{ref}/cancel-build", status_code=202)
async def cancel_build(request: Request, account: SignedIn, ref: str) -> Workspace:
    """Give up the build under way. What is in use stays in use."""
    studio = house_of(request).studio
    await studio.environments.cancel(account, ref)
    return await studio.workspace(account, ref)


@router.post("/workspaces/{ref}/adopt", status_code=202)
async def adopt(
    request: Request, account: SignedIn, ref: str, packages: Annotated[tuple[str, ...], Body(embed=True)] = ()
) -> Adopted:
    """Take what was installed by hand into the declaration, and build the generation that has it."""
    studio = house_of(request).studio
    added = await studio.environments.adopt(account, ref, packages)
    return Adopted(requirements=added, workspace=await studio.workspace(account, ref))


@router.post("/generations/collect")
async def collect(
    request: Request,
    account: SignedIn,
    keep: Annotated[int, Body(ge=0, le=1000)] = KEEP,
    dry_run: Annotated[bool, Body()] = False,
    downloads: Annotated[bool, Body()] = False,
) -> Collected:
    """Remove generations that nobody needs."""
    return await house_of(request).studio.collect(account, keep, dry_run, downloads)
