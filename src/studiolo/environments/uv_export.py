"""A lock written for other tools: pylock.toml, hashed requirements, a Dockerfile, a Nix flake."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import tomli_w
from packaging.pylock import Pylock, PylockValidationError

from studiolo.environments import uv_document
from studiolo.environments.interpreter import Interpreter
from studiolo.environments.kind import ExportFormat, Index, Lock
from studiolo.environments.pins import Pin, parse
from studiolo.environments.uv_failure import explain
from studiolo.environments.uv_program import Uv
from studiolo.environments.uv_settings import Origin
from studiolo.problem import Problem, StudioloError
from studiolo.process import ProgramFailed

_TIMEOUT = 300.0

_DOCKERFILE = """\
# The packages of this environment and no others, each checked against its hash.
FROM python:{python}-slim
WORKDIR /work
COPY requirements.txt /tmp/requirements.txt
RUN pip install --no-cache-dir --no-deps --require-hashes --requirement /tmp/requirements.txt
"""

_FLAKE = """\
{{
  description = "Python {python} with the packages of requirements.txt, each checked against its hash";

  inputs.nixpkgs.url = "github:NixOS/nixpkgs/nixos-unstable";

  outputs = {{ self, nixpkgs }}:
    let
      systems = [ "x86_64-linux" "aarch64-linux" ];
      each = make: nixpkgs.lib.genAttrs systems (system: make nixpkgs.legacyPackages.${{system}});
    in {{
      devShells = each (pkgs: {{
        default = pkgs.mkShell {{
          packages = [ pkgs.python{short} pkgs.uv ];
          UV_PYTHON_DOWNLOADS = "never";
          # ready-made wheels are linked against these
          LD_LIBRARY_PATH = pkgs.lib.makeLibraryPath [ pkgs.stdenv.cc.cc.lib pkgs.zlib ];
          shellHook = ''
            uv venv --quiet --allow-existing --python ${{pkgs.python{short}}}/bin/python .venv
            uv pip sync --quiet --require-hashes --python .venv/bin/python ${{./requirements.txt}}
            source .venv/bin/activate
          '';
        }};
      }});
    }};
}}
"""


def requirements(lock: Lock, indexes: Sequence[Index]) -> Mapping[str, str]:
    """requirements.txt for pip and uv, with the indexes it needs beside the reader's own."""
    options = [f"{'--index-url' if index.default else '--extra-index-url'} {index.url}\n" for index in indexes]
    return {"requirements.txt": f"# Python {lock.interpreter}, {lock.platform}\n" + "".join(options) + lock.text}


def dockerfile(lock: Lock, indexes: Sequence[Index]) -> Mapping[str, str]:
    return {"Dockerfile": _DOCKERFILE.format(python=_minor(lock)), **requirements(lock, indexes)}


def flake(lock: Lock, indexes: Sequence[Index]) -> Mapping[str, str]:
    minor = _minor(lock)
    text = _FLAKE.format(python=minor, short=minor.replace(".", ""))
    return {"flake.nix": text, **requirements(lock, indexes)}


PLAIN: Mapping[ExportFormat, Callable[[Lock, Sequence[Index]], Mapping[str, str]]] = {
    "requirements": requirements,
    "dockerfile": dockerfile,
    "flake": flake,
}
"""What is written without asking an index."""


async def pylock(
    uv: Uv, lock: Lock, interpreter: Interpreter, indexes: Sequence[Index], origins: Sequence[Origin]
) -> Mapping[str, str]:
    """pylock.toml (PEP 751). Its files are found by asking the index, and only those are listed whose hash is locked.

    Raises `StudioloError` where the index cannot be asked, or has a package's files no more.
    """
    pins = parse(lock.text)
    with uv.scratch() as scratch:
        work = scratch / "wanted"
        work.mkdir()
        document = uv_document.write(work, [pin.head for pin in pins], indexes, origins)
        output = scratch / "pylock.toml"
        try:
            await uv.run(
                [
                    *("pip", "compile", "--format", "pylock.toml", "--no-deps", "--no-header", "--quiet"),
                    *("--no-python-downloads", "--python", interpreter.path, "--output-file", output, document),
                ],
                cwd=work,
                timeout=_TIMEOUT,
                indexes=indexes,
            )
        except ProgramFailed as error:
            raise explain(error, {}) from error
        exported = tomllib.loads(output.read_text(encoding="utf-8"))
    known = {pin.name: pin for pin in pins}
    for package in exported["packages"]:
        _keep_locked(package, known[package["name"]])
    exported["created-by"] = "studiolo"
    try:
        Pylock.from_dict(exported).validate()
    except PylockValidationError as error:
        raise StudioloError(Problem("export-failed", f"what uv made is no pylock.toml: {error}")) from error
    return {"pylock.toml": tomli_w.dumps(exported)}


def _keep_locked(package: dict[str, Any], pin: Pin) -> None:
    def is_locked(file: Mapping[str, Any]) -> bool:
        return any(f"{name}:{value}" in pin.hashes for name, value in file.get("hashes", {}).items())

    if "wheels" in package:
        package["wheels"] = [each for each in package["wheels"] if is_locked(each)]
    for name in ("wheels", "sdist", "archive"):
        if name in package and (not package[name] or (name != "wheels" and not is_locked(package[name]))):
            del package[name]
    if not {"wheels", "sdist", "archive"} & package.keys():
        raise StudioloError(
            Problem(
                "hash-mismatch",
                f"the files of {pin.name} in the package index are not those that were locked",
                "export as requirements, which names no addresses",
            )
        )


def _minor(lock: Lock) -> str:
    return ".".join(lock.interpreter.split(".")[:2])
