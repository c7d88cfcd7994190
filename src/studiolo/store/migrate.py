"""`python -m studiolo.store.migrate URL`: bring a store to the newest migration."""

from __future__ import annotations

import sys
from pathlib import Path

from alembic import command
from alembic.config import Config

FOLDER = Path(__file__).parent / "migrations"


def configuration(url: str) -> Config:
    config = Config()
    config.set_main_option("script_location", str(FOLDER))
    config.attributes["url"] = url
    return config


if __name__ == "__main__":
    command.upgrade(configuration(sys.argv[1]), "head")
