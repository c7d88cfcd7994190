"""A conda lock for other tools: an explicit list of addresses, as conda and micromamba take it, and a Dockerfile."""

from __future__ import annotations

import re
from collections.abc import Mapping

from studiolo.environments.conda_channels import address
from studiolo.environments.conda_lock import CondaLock
from studiolo.environments.pins import render

_IMAGE = "mambaorg/micromamba:2"
_ESCAPED, _ESCAPE = re.compile(r'[\\"$]'), r"\\\g<0>"


def explicit(lock: CondaLock) -> str:
    """The `@EXPLICIT` list: the only form that names addresses."""
    lines = [f"# platform: {lock.platform}", "@EXPLICIT"]
    for package in sorted(lock.packages, key=lambda each: each.name):
        # a bare hash is taken for MD5
        digest = package.hash.removeprefix("md5:")
        lines.append(f"{address(package.channel)}{package.subdir}/{package.file}#{digest}")
    return "".join(f"{line}\n" for line in lines)


def dockerfile(lock: CondaLock) -> Mapping[str, str]:
    """A Dockerfile that makes the same environment with micromamba, and the files that it copies."""
    listed = f"conda-{lock.platform}.lock"
    files = {listed: explicit(lock)}
    lines = [
        f"FROM {_IMAGE}",
        f"COPY --chown=$MAMBA_USER:$MAMBA_USER {listed} /tmp/{listed}",
        f"RUN micromamba install --yes --name base --file /tmp/{listed} && micromamba clean --all --yes",
    ]
    if lock.pip:
        files["requirements.txt"] = render(lock.pip)
        pip = "" if "pip" in {each.name for each in lock.packages} else "python -m ensurepip && "
        lines += [
            "COPY --chown=$MAMBA_USER:$MAMBA_USER requirements.txt /tmp/requirements.txt",
            "ARG MAMBA_DOCKERFILE_ACTIVATE=1",
            f"RUN {pip}python -m pip install --no-cache-dir --no-deps --require-hashes -r /tmp/requirements.txt",
        ]
    lines += [f'ENV {name}="{_ESCAPED.sub(_ESCAPE, value)}"' for name, value in sorted(lock.variables.items())]
    return {"Dockerfile": "".join(f"{line}\n" for line in lines), **files}
