"""Calls on the environments of workspaces. A `ref` is a workspace's id or name, a `number` that of a generation;
without one the current generation is meant."""

from __future__ import annotations

import json
from typing import Any

from studiolo.client.call import Call, Stream, endpoint, stream
from studiolo.client.paths import word, workspace_path
from studiolo.resources import (
    Adopted,
    Collected,
    Difference,
    Exported,
    Generation,
    GenerationDetail,
    Verification,
    Workspace,
)


class EnvironmentCalls:
    @endpoint
    def generations(self, ref: str) -> Call[list[Generation]]:
        """The environments a workspace has had, from the first to the latest."""
        return Call("GET", workspace_path(ref, "generations"), list[Generation])

    @endpoint
    def template_generations(self, name: str) -> Call[list[Generation]]:
        """What workspaces that were made from the stored environment `name` have had."""
        return Call("GET", f"/templates/{word(name, 'environment')}/generations", list[Generation])

    @endpoint
    def generation(self, ref: str, number: int | None = None) -> Call[GenerationDetail]:
        """One environment with all its packages. Raises `NotFound`."""
        return Call("GET", workspace_path(ref, "generation"), GenerationDetail, query={"number": number})

    @endpoint
    def difference(self, ref: str, before: int | None = None, after: int | None = None) -> Call[Difference]:
        """From one environment to another; without `after`, to the current one and what was installed by hand."""
        return Call("GET", workspace_path(ref, "difference"), Difference, query={"before": before, "after": after})

    @endpoint
    def export(self, ref: str, form: str, number: int | None = None) -> Call[Exported]:
        """The lock as files for other tools: pylock, requirements, dockerfile or flake. Raises `WrongInput`."""
        return Call("GET", workspace_path(ref, "export"), Exported, query={"form": form, "number": number})

    @endpoint
    def sbom(self, ref: str, number: int | None = None) -> Call[dict[str, Any]]:
        """The bill of materials, a CycloneDX document."""
        return Call("GET", workspace_path(ref, "sbom"), dict[str, Any], query={"number": number})

    @endpoint
    def update(self, ref: str, *packages: str) -> Call[Workspace]:
        """Lock again with the newest versions of these packages, or of all. Returns before it is built."""
        return Call("POST", workspace_path(ref, "update"), Workspace, body={"packages": packages})

    @endpoint
    def rollback(self, ref: str, number: int | None = None) -> Call[Workspace]:
        """Go to an earlier environment (default: the good one before). Raises `Conflict` for a bad one."""
        return Call("POST", workspace_path(ref, "rollback"), Workspace, body={"number": number})

    @endpoint
    def pin(self, ref: str, number: int | None) -> Call[Workspace]:
        """Stay on an environment, whatever the repository says; None: no longer."""
        return Call("POST", workspace_path(ref, "pin"), Workspace, body={"number": number})

    @endpoint
    def cancel_build(self, ref: str) -> Call[Workspace]:
        """Give up the build under way. What is in use stays in use."""
        return Call("POST", workspace_path(ref, "cancel-build"), Workspace)

    @endpoint
    def adopt(self, ref: str, *packages: str) -> Call[Adopted]:
        """Take what was installed by hand into the declaration. Returns before it is built."""
        return Call("POST", workspace_path(ref, "adopt"), Adopted, body={"packages": packages})

    @endpoint
    def collect(self, *, keep: int | None = None, dry_run: bool = False, downloads: bool = False) -> Call[Collected]:
        """Remove environments that nobody needs; `dry_run` says only what would go."""
        asked: dict[str, Any] = {"dry_run": dry_run, "downloads": downloads}
        if keep is not None:
            asked["keep"] = keep
        return Call("POST", "/generations/collect", Collected, body=asked)

    @stream
    def build_log(self, ref: str, number: int | None = None, *, follow: bool = False) -> Stream[str]:
        """What a build printed; with `follow`, on until the build under way ends."""
        return Stream(workspace_path(ref, "build-log"), _line, query={"number": number, "follow": follow})

    @stream
    def verify(self, ref: str, number: int | None = None) -> Stream[Verification]:
        """Build it again and compare: progress, and last the result. Hanging up gives it up."""
        return Stream(workspace_path(ref, "verification"), _verification, query={"number": number})


def _line(line: str) -> str | None:
    return str(json.loads(line)) if line.strip() else None


def _verification(line: str) -> Verification | None:
    return Verification.model_validate_json(line) if line.strip() else None
