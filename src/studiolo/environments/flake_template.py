"""A small flake for a repository that has none, as everyday repositories have it. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

TemplateKind = Literal["python", "cpp"]

_ENVRC = "use flake\n"

_FLAKE = """{{
  description = "{description}";

  # flake.lock says which state of nixpkgs this is; `nix flake update` takes a newer one.
  inputs.nixpkgs.url = "github:NixOS/nixpkgs/nixos-unstable";

  outputs = {{ self, nixpkgs }}:
    let
      systems = [ "x86_64-linux" "aarch64-linux" ];
      each = make: nixpkgs.lib.genAttrs systems (system: make nixpkgs.legacyPackages.${{system}});
    in {{
      devShells = each (pkgs: {{
        default = pkgs.mkShell {{
          packages = {packages};
        }};
      }});
    }};
}}
"""

# What there is: https://search.nixos.org/packages
_PACKAGES: Mapping[TemplateKind, str] = {
    "python": """[
            (pkgs.python3.withPackages (python: with python; [
              ipykernel # notebooks run on it
              numpy
              pandas
              matplotlib
            ]))
          ]""",
    "cpp": """with pkgs; [
            cmake
            ninja
            gcc
            gdb
          ]""",
}

_WORDS: Mapping[TemplateKind, str] = {"python": "Python for data", "cpp": "C++"}


def template(kind: TemplateKind, name: str) -> Mapping[str, str]:
    """The files by name: flake.nix, and an .envrc with which direnv enters it. `name` is shown to people."""
    description = f"{_text(name)}: {_WORDS[kind]}"
    return {
        "flake.nix": _FLAKE.format(description=description, packages=_PACKAGES[kind]),
        ".envrc": _ENVRC,
    }


def _text(words: str) -> str:
    """Inside a string of Nix's language."""
    line = " ".join(words.split())
    return line.replace("\\", "\\\\").replace('"', '\\"').replace("${", "\\${")
