"""Waits until JupyterLab of the first workspace answers through the edge, with a token as `studiolo token` gives it."""

# ruff: noqa: T201, S  (a check that reports; it asks this machine alone)

from __future__ import annotations

import json
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from urllib.parse import urlsplit

NAME = "penguins"
STUDIOLO = Path(sys.executable).with_name("studiolo")


def main() -> int:
    answer = subprocess.run([STUDIOLO, "token", NAME, "jupyterlab", "--json"], check=True, stdout=subprocess.PIPE)
    token = json.loads(answer.stdout)
    address = urlsplit(token["url"])
    # The name goes into a header: not every system resolves *.localhost.
    url = f"http://127.0.0.1:{address.port}/api/status"
    headers = {"Host": address.netloc, "Authorization": f"token {token['token']}"}
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    said = "nothing"
    until = time.monotonic() + 90
    while time.monotonic() < until:
        try:
            with opener.open(urllib.request.Request(url, headers=headers), timeout=10) as response:
                body = response.read().decode()
                if response.status == 200 and "kernels" in body:
                    print(f"JupyterLab of {NAME} answers through the edge: {body}")
                    return 0
                said = f"{response.status}: {body[:200]}"
        except (urllib.error.URLError, OSError) as error:
            said = str(error)
        time.sleep(0.2)
    print(f"JupyterLab of {NAME} does not answer through the edge; last it said {said}")
    return 1


if __name__ == "__main__":
    sys.exit(main())
