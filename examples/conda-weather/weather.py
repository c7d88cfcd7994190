"""How warm each month was, and how that compares with the year. Run it in a terminal: `python weather.py`."""

from __future__ import annotations

import os
from pathlib import Path

import humanize
import matplotlib as mpl
import pandas as pd

mpl.use("agg")

here = Path(__file__).parent
days = pd.read_csv(here / "weather.csv", parse_dates=["day"], index_col="day")
months = days["mean"].resample("MS").mean()
warmest = months.idxmax()

station = os.environ.get("WEATHER_STATION", "the station")
print(f"{humanize.intcomma(len(days))} days at {station}, {days['mean'].mean():.1f} °C on average")
print(f"The warmest month was {warmest:%B}, at {months.max():.1f} °C")

figure = months.plot.bar(ylabel="°C", title=station).figure
figure.savefig(here / "weather.png")
