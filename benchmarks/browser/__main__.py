"""`python -m benchmarks.browser [--runs 10]`: a link opened until JupyterLab can be used, in Chromium.

Of a stopped workspace, then of the same one running, in turn. Each time it is a browser that knows nothing but who is
signed in: no page, script or socket of before. Usable is: the launcher's buttons for notebooks can be seen, which takes
the server's list of kernels, and nothing lies over them. The first turn is not counted.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import time

from playwright.async_api import Browser, StorageState, async_playwright

from benchmarks import installation
from benchmarks.figures import Row, summary, write

TARGET = 0.5
_ARGUMENTS = ["--no-sandbox", "--disable-background-networking", "--disable-component-update", "--disable-sync"]
_SETTLED = 2.0  # seconds: what a page and its server do once it can be used is not the next one's


async def measure(runs: int) -> None:
    stopped: list[float] = []
    running: list[float] = []
    async with installation.running() as studiolo, async_playwright() as playwright:
        await studiolo.create("bench")
        url = f"http://{(await studiolo.door('bench')).address}/"
        browser = await playwright.chromium.launch(executable_path="/usr/bin/chromium", args=_ARGUMENTS)
        signed_in = await sign_in(browser, studiolo, url)
        for turn in range(runs + 1):
            await studiolo.stop("bench")
            await asyncio.sleep(_SETTLED)
            woken = await usable(browser, signed_in, url)
            await asyncio.sleep(_SETTLED)
            opened = await usable(browser, signed_in, url)
            counted = "warm-up" if turn == 0 else f"{turn:2} of {runs}"
            print(f"{counted}: stopped {woken:.2f} s, running {opened:.2f} s", flush=True)
            if turn > 0:
                stopped.append(woken)
                running.append(opened)
        await browser.close()
    more = statistics.median(stopped) - statistics.median(running)
    row = Row(
        figure=f"link of a stopped workspace opened to JupyterLab usable in Chromium, {runs} runs",
        ours=summary(stopped),
        against=f"the same page of a running one: {summary(running)}",
        ratio=f"{more:.2f} s more",
        target=f"at most {TARGET} s more",
        met=more <= TARGET,
    )
    write("browser", [row], {"stopped": stopped, "running": running})


async def sign_in(browser: Browser, studiolo: installation.Installation, url: str) -> StorageState:
    """The cookies of a person who is signed in and has been at this page before."""
    link = (await studiolo.api.post("/links", json={})).raise_for_status().json()
    context = await browser.new_context()
    page = await context.new_page()
    await page.goto(link["url"])
    await page.goto(url)
    state = await context.storage_state()
    await context.close()
    return state


async def usable(browser: Browser, signed_in: StorageState, url: str) -> float:
    """Seconds from opening the link to the launcher."""
    context = await browser.new_context(storage_state=signed_in, viewport={"width": 1280, "height": 860})
    page = await context.new_page()
    page.set_default_timeout(120_000)
    began = time.perf_counter()
    await page.goto(url, wait_until="commit")
    await page.locator('.jp-LauncherCard[data-category="Notebook"]').first.wait_for(state="visible")
    await page.locator("#jupyterlab-splash").wait_for(state="hidden")
    seconds = time.perf_counter() - began
    await context.close()
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=10)
    asyncio.run(measure(parser.parse_args().runs))


if __name__ == "__main__":
    main()
