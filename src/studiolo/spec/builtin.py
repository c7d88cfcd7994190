"""The building blocks that are there from the start."""

from __future__ import annotations

from studiolo.spec.document import Blocks, Compute, DataSource, Environment

_GIB = 2**30


def builtin_blocks() -> Blocks:
    """Named blocks every installation has."""
    return Blocks(
        environment={"data-science": Environment(packages=("pandas", "scikit-learn", "matplotlib"))},
        data={"datasets": DataSource(name="datasets", path="datasets")},
        compute={
            "cpu-small": Compute(cpu=1.0, memory=2 * _GIB),
            "cpu-mid": Compute(cpu=2.0, memory=8 * _GIB),
            "cpu-large": Compute(cpu=4.0, memory=16 * _GIB),
        },
    )
