"""`python -m benchmarks [name...]` (`make bench`): run each script, then write the table in `benchmarks/README.md`."""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from benchmarks.figures import RESULTS, Row

SCRIPTS = ("start", "kernel", "browser", "cold", "crowd", "vscode", "memory", "environments", "edge", "cli")
PAGE = Path(__file__).with_name("README.md")
BEGIN, END = "<!-- table: begin -->\n", "<!-- table: end -->\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help=", ".join(SCRIPTS))
    failed = [name for name in parser.parse_args().names or SCRIPTS if not measured(name)]
    PAGE.write_text(with_table(PAGE.read_text(), table()))
    if failed:
        print(f"did not end well: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


def measured(name: str) -> bool:
    print(f"== {name}", flush=True)
    return subprocess.run([sys.executable, "-m", f"benchmarks.{name}"], check=False).returncode == 0


def table() -> str:
    """The rows of all results that are kept, and on what they were measured."""
    lines = ["| figure | Studiolo | against | ratio | target | |", "|---|---|---|---|---|---|"]
    for name in SCRIPTS:
        path = RESULTS / f"{name}.json"
        if path.exists():
            lines += [Row(**row).markdown() for row in json.loads(path.read_text())["rows"]]
    day = datetime.now(UTC).date().isoformat()
    machine = f"{os.cpu_count()} cores, Linux {platform.release()}, Python {platform.python_version()}"
    return "\n".join([*lines, "", f"Measured on {day} with Studiolo {version('studiolo')}: {machine}.", ""])


def with_table(page: str, written: str) -> str:
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}{written}{END}{after}"


if __name__ == "__main__":
    sys.exit(main())
