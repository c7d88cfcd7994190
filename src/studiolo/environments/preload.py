"""Which modules are worth importing ahead of need, judging by what an environment has in it. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from packaging.utils import canonicalize_name

from studiolo.environments.kind import Package

# By distribution: what most notebooks that use it import first. In the order of importing.
_MODULES: dict[str, tuple[str, ...]] = {
    "numpy": ("numpy", "numpy.random"),
    "pandas": ("pandas",),
    "pyarrow": ("pyarrow",),
    "polars": ("polars",),
    "matplotlib": ("matplotlib.pyplot",),
    "scipy": ("scipy.stats",),
    "scikit-learn": (
        *("sklearn.linear_model", "sklearn.ensemble", "sklearn.model_selection"),
        *("sklearn.preprocessing", "sklearn.pipeline", "sklearn.metrics"),
    ),
    "statsmodels": ("statsmodels.api",),
    "seaborn": ("seaborn",),
    "plotly": ("plotly.express",),
    "altair": ("altair",),
    "bokeh": ("bokeh.plotting",),
    "xarray": ("xarray",),
    "networkx": ("networkx",),
    "sqlalchemy": ("sqlalchemy",),
    "requests": ("requests",),
    "pillow": ("PIL.Image",),
    "ipywidgets": ("ipywidgets",),
}


def proposed(packages: Iterable[Package]) -> tuple[str, ...]:
    """The modules to import ahead where nobody has said which."""
    there = {canonicalize_name(package.name) for package in packages}
    return tuple(module for name, modules in _MODULES.items() if name in there for module in modules)
