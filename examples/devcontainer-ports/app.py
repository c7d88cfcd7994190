"""Serves the curve of tides.csv as a page on port 5000."""

import csv
import os
from pathlib import Path

from flask import Flask

PAGE = """<!doctype html>
<title>{place}</title>
<h1>Tides at {place}</h1>
<svg viewBox="0 -2.5 48 5" width="800" stroke="teal" stroke-width="0.1" fill="none"><polyline points="{points}"/></svg>
"""

app = Flask(__name__)


@app.get("/")
def tides() -> str:
    with Path(__file__).with_name("tides.csv").open() as file:
        points = " ".join(f"{row['hour']},{-float(row['metres'])}" for row in csv.DictReader(file))
    return PAGE.format(place=os.environ.get("PLACE", "sea"), points=points)


if __name__ == "__main__":
    app.run("127.0.0.1", 5000)
