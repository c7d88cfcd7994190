"""A workspace's environment: its generations, what changed between them, what is in one, and how one was built.

What is immutable (the contents of a generation, the way from one to another) is chosen by the address and stands still;
what changes by itself (which one is in use, what is being built) is a live piece.
"""

from __future__ import annotations

import io
import zipfile
from collections import deque
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar
from urllib.parse import quote

from fastapi import APIRouter, Depends, Form, Query, Request
from fastapi.responses import RedirectResponse, Response

from studiolo.control.access import Account
from studiolo.problem import NotFound, Problem, StudioloError, WrongInput
from studiolo.resources import Generation, Workspace
from studiolo.server.pages import words
from studiolo.server.pages.facade import Studio
from studiolo.server.pages.render import render, wants_fragment
from studiolo.server.pages.workspaces import LOG_LINES

IN_USE = "now"
"""Compared with: what is in use now, with what was installed by hand on top."""
EXPORTS = {
    "pylock": "pylock.toml",
    "requirements": "requirements.txt",
    "dockerfile": "Dockerfile",
    "flake": "Nix flake",
}
# So many of the latest are shown unasked, beside those that are in use or pinned.
_LATEST = 8

Number = Annotated[int | None, Query(ge=1)]
_T = TypeVar("_T")


@dataclass(frozen=True)
class Choice:
    """What the address asks to see: the contents of `generation`, and the way from `before` to `after` (None: to what
    is in use). Chosen where the address does not say."""

    generation: int
    before: int
    after: int | None


def choose(found: Sequence[Generation], generation: int | None, before: int | None, after: str) -> Choice:
    """By default the current generation (else the latest), and how the one before it became it. `found` holds one at
    least, from the first to the latest. Raises `WrongInput` for an `after` that is no number."""
    current = next((each.number for each in found if each.current), found[-1].number)
    shown = generation if generation is not None else current
    earlier = [each.number for each in found if each.number < shown and each.state != "bad"]
    before = before if before is not None else earlier[-1] if earlier else shown
    if not after:
        return Choice(shown, before, shown)
    if after == IN_USE:
        return Choice(shown, before, None)
    if not after.isdecimal() or len(after) > 9:
        raise WrongInput(Problem("number-invalid", f"`{after[:40]}` is no generation", "choose one of the list"))
    return Choice(shown, before, int(after))


def router(studio: Studio, signed_in: Callable[..., Any]) -> APIRouter:
    pages = APIRouter()
    environments = studio.environments

    @pages.get("/workspaces/{name}/environment")
    async def page(
        request: Request,
        name: str,
        generation: Number = None,
        before: Number = None,
        after: str = "",
        q: str = "",
        earlier: bool = False,
        account: Account = Depends(signed_in),
    ) -> Response:
        workspace = await studio.workspace(account, name)
        found = await environments.of_workspace(account, workspace.id)
        context: dict[str, Any] = {"choice": None, "contents": None, "difference": None, "by_hand": (), "problems": ()}
        if found:
            context.update(await _chosen(account, workspace, found, choose(found, generation, before, after)))
        return render(
            "workspace/environment.html",
            request,
            account=account,
            workspace=workspace,
            tab="environment",
            generations=list(reversed(found)),
            q=q.strip()[:100],
            exports=EXPORTS,
            **_shown(found, earlier),
            **context,
        )

    async def _chosen(
        account: Account, workspace: Workspace, found: Sequence[Generation], choice: Choice
    ) -> dict[str, Any]:
        problems: list[Problem] = []

        async def readable(call: Coroutine[Any, Any, _T]) -> _T | None:
            """None for what cannot be read any more, which is told and keeps nobody from the rest."""
            try:
                return await call
            except NotFound:
                raise
            except StudioloError as error:
                problems.extend(problem for problem in error.problems if problem not in problems)
                return None

        same = choice.before == choice.after
        in_use = any(each.current for each in found)
        by_hand = await readable(environments.compare(account, workspace.id)) if in_use else None
        return {
            "choice": choice,
            "contents": await readable(environments.show(account, workspace.id, choice.generation)),
            "difference": None
            if same
            else await readable(environments.compare(account, workspace.id, choice.before, choice.after)),
            "by_hand": by_hand.overlay if by_hand else (),
            "problems": problems,
        }

    @pages.get("/fragments/generations/{name}")
    async def generations(
        request: Request, name: str, earlier: bool = False, account: Account = Depends(signed_in)
    ) -> Response:
        try:
            workspace = await studio.workspace(account, name)
        except NotFound:
            return render("fragments/gone.html", request)
        return await _generations(request, account, workspace, earlier)

    async def _generations(request: Request, account: Account, workspace: Workspace, earlier: bool) -> Response:
        found = await environments.of_workspace(account, workspace.id)
        return render(
            "fragments/generations.html", request, account=account, workspace=workspace, **_shown(found, earlier)
        )

    @pages.get("/workspaces/{name}/environment/log")
    async def log(
        request: Request, name: str, generation: Number = None, account: Account = Depends(signed_in)
    ) -> Response:
        workspace = await studio.workspace(account, name)
        lines: deque[str] = deque(maxlen=LOG_LINES)
        try:
            async with aclosing(environments.log(account, workspace.id, generation)) as found:  # type: ignore[type-var]
                async for line in found:
                    lines.append(words.plain(line))
        except NotFound:
            if generation is not None:
                raise
        return render(
            "workspace/build_log.html",
            request,
            account=account,
            workspace=workspace,
            tab="environment",
            generation=generation,
            lines=lines,
            ended=bool(lines) and not (workspace.renewing or workspace.phase == "building"),
        )

    @pages.get("/workspaces/{name}/environment/sbom")
    async def sbom(name: str, generation: Number = None, account: Account = Depends(signed_in)) -> Response:
        workspace = await studio.workspace(account, name)
        text = await environments.bom(account, workspace.id, generation)
        return _download(f"{workspace.name}.cdx.json", text.encode(), "application/vnd.cyclonedx+json")

    @pages.get("/workspaces/{name}/environment/export/{form}")
    async def export(
        name: str, form: str, generation: Number = None, account: Account = Depends(signed_in)
    ) -> Response:
        """The file, or where there are several, an archive of them."""
        workspace = await studio.workspace(account, name)
        files = (await environments.export(account, workspace.id, form, generation)).files
        if len(files) == 1:
            [(file, text)] = files.items()
            return _download(file, text.encode(), "text/plain; charset=utf-8")
        return _download(f"{workspace.name}-{form}.zip", _archive(files), "application/zip")

    @pages.post("/workspaces/{name}/update")
    async def update(request: Request, name: str, account: Account = Depends(signed_in)) -> Response:
        await environments.update(account, name)
        return await _renewal(request, account, name)

    @pages.post("/workspaces/{name}/cancel-build")
    async def cancel(request: Request, name: str, account: Account = Depends(signed_in)) -> Response:
        await environments.cancel(account, name)
        return await _renewal(request, account, name)

    @pages.post("/workspaces/{name}/rollback")
    async def rollback(
        request: Request, name: str, number: Annotated[int, Form(ge=1)], account: Account = Depends(signed_in)
    ) -> Response:
        await environments.rollback(account, name, number)
        return await _moved(request, account, name)

    @pages.post("/workspaces/{name}/pin")
    async def pin(
        request: Request, name: str, number: Annotated[int, Form(ge=1)], account: Account = Depends(signed_in)
    ) -> Response:
        await environments.pin(account, name, number)
        return await _moved(request, account, name)

    @pages.post("/workspaces/{name}/unpin")
    async def unpin(request: Request, name: str, account: Account = Depends(signed_in)) -> Response:
        await environments.pin(account, name, None)
        return await _moved(request, account, name)

    @pages.post("/workspaces/{name}/adopt")
    async def adopt(
        name: str, packages: Annotated[tuple[str, ...], Form()] = (), account: Account = Depends(signed_in)
    ) -> Response:
        if not packages:  # to the control plane, none are all
            raise WrongInput(Problem("adopt-nothing", "no package was chosen", "tick those to adopt"))
        await environments.adopt(account, name, packages)
        return RedirectResponse(f"/workspaces/{name}/environment", 303)

    async def _renewal(request: Request, account: Account, name: str) -> Response:
        if not wants_fragment(request):
            return RedirectResponse(f"/workspaces/{name}/environment", 303)
        workspace = await studio.workspace(account, name)
        return render("fragments/renewal.html", request, account=account, workspace=workspace)

    async def _moved(request: Request, account: Account, name: str) -> Response:
        if not wants_fragment(request):
            return RedirectResponse(f"/workspaces/{name}/environment", 303)
        return await _generations(request, account, await studio.workspace(account, name), False)

    return pages


def _shown(found: Sequence[Generation], earlier: bool) -> dict[str, Any]:
    """The latest first, without most of the `earlier` ones unless they are asked for."""
    latest = list(reversed(found))
    shown = [each for at, each in enumerate(latest) if earlier or at < _LATEST or each.current or each.pinned]
    current = next((each.number for each in found if each.current), None)
    return {"timeline": shown, "hidden": len(latest) - len(shown), "earlier": earlier, "current": current}


def _archive(files: Mapping[str, str]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for file, text in files.items():
            archive.writestr(file, text)
    return buffer.getvalue()


def _download(file: str, content: bytes, media_type: str) -> Response:
    headers = {"Content-Disposition": f"attachment; filename*=UTF-8''{quote(file)}", "Cache-Control": "no-store"}
    return Response(content, media_type=media_type, headers=headers)
