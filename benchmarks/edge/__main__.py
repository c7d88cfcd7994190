"""`python -m benchmarks.edge [--seconds 4] [--rounds 2]`: requests per second and p99 through the edge with its grant
check, beside three proxies without any check; then what the relay costs WebSockets.

Needs `wrk`. All proxies stand before the same backend and take turns within one run, so that ratios mean something.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.edge import peers, sockets
from benchmarks.figures import Row, write

CACHE = Path(".benchmarks/edge").absolute()
OURS, BASE = "studiolo edge", "configurable-http-proxy"
PROXIES: dict[str, Callable[[peers.Tools, int, Path], AbstractContextManager[None]]] = {
    OURS: peers.studiolo,
    BASE: peers.configurable_http_proxy,
    "traefik": peers.traefik,
    "caddy": peers.caddy,
    "backend alone": peers.nothing,
}
_TURNS = 10
# Routes and connections at the same time.
CASES = ((1, 1), (1, 32), (100, 32), (10_000, 32))


@dataclass(frozen=True)
class Measure:
    proxy: str
    routes: int
    connections: int
    per_second: float
    p50_ms: float
    p99_ms: float
    failed: int


Results = dict[tuple[str, int, int], Measure]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=4, help="per measurement")
    parser.add_argument("--rounds", type=int, default=2, help="the median of so many is shown")
    given = parser.parse_args()
    if shutil.which("wrk") is None:
        sys.exit("wrk is missing; on Debian: apt install wrk")
    tools = peers.Tools(CACHE)
    tools.install()
    found: list[Measure] = []
    with peers.backend() as socket:
        for _ in range(given.rounds):
            for routes in sorted({routes for routes, _ in CASES}):
                for name, proxy in PROXIES.items():
                    if name == "backend alone" and routes > 1:
                        continue
                    with proxy(tools, routes, socket):
                        connections = [c for r, c in CASES if r == routes]
                        found += [measure(name, routes, at_once, given.seconds) for at_once in connections]
        few, many = scaling(tools, socket)
    keys = dict.fromkeys((m.proxy, m.routes, m.connections) for m in found)
    results = {key: median([m for m in found if (m.proxy, m.routes, m.connections) == key]) for key in keys}
    relay = sockets.figures(given.seconds / 2)
    print(table(results), "", relay_table(relay), "", sep="\n")
    print(", ".join(f"{name} {version}" for name, version in tools.versions().items()), "\n")
    samples: dict[str, Sequence[float]] = {"scaling, 1 route": few, "scaling, 10,000 routes": many}
    for key in results:
        case = "{}, {} routes, {} connections, requests/s".format(*key)
        samples[case] = [m.per_second for m in found if _key(m) == key]
    write("edge", [*rows(results), scaling_row(few, many), *relay_rows(relay)], samples)


def scaling(tools: peers.Tools, socket: Path) -> tuple[list[float], list[float]]:
    """Requests/s with 1 and with 10,000 routes. Both edges run at the same time and are asked in turn, a second each:
    what else the machine does then weighs on both alike, which it does not on runs that are minutes apart."""
    few: list[float] = []
    many: list[float] = []
    with peers.studiolo(tools, 1, socket, peers.PORT), peers.studiolo(tools, 10_000, socket, peers.SECOND):
        for _ in range(_TURNS):
            few.append(measure(OURS, 1, 32, 1, peers.PORT).per_second)
            many.append(measure(OURS, 10_000, 32, 1, peers.SECOND).per_second)
    return few, many


def measure(name: str, routes: int, connections: int, seconds: int, port: int = peers.PORT) -> Measure:
    if name == "backend alone":
        port = peers.BACKEND
    words = [
        "wrk",
        "-t1",
        f"-c{connections}",
        f"-d{seconds}s",
        "--latency",
        "-s",
        Path(__file__).with_name("requests.lua"),
    ]
    words += [f"http://127.0.0.1:{port}/", "--", routes, peers.GRANT_COOKIE]
    done = subprocess.run(
        [str(word) for word in words], capture_output=True, text=True, check=True, timeout=seconds + 30
    )
    line = next(line for line in done.stdout.splitlines() if line.startswith("RESULT "))
    requests, microseconds, p50, p99, failed = (float(word) for word in line.split()[1:])
    return Measure(name, routes, connections, requests / microseconds * 1e6, p50 / 1e3, p99 / 1e3, int(failed))


def median(measures: list[Measure]) -> Measure:
    first = measures[0]
    return Measure(
        first.proxy,
        first.routes,
        first.connections,
        statistics.median(m.per_second for m in measures),
        statistics.median(m.p50_ms for m in measures),
        statistics.median(m.p99_ms for m in measures),
        sum(m.failed for m in measures),
    )


def table(results: Results) -> str:
    """Each figure beside how many times that of configurable-http-proxy it is, in the same case of the same run."""
    lines = ["| routes | connections | proxy | requests/s | ratio | p50 ms | p99 ms | failed |"]
    lines.append("|---:|---:|---|---:|---:|---:|---:|---:|")
    for m in sorted(results.values(), key=lambda m: (m.routes, m.connections)):
        ratio = m.per_second / results[BASE, m.routes, m.connections].per_second
        figures = f"{m.per_second:,.0f} | {ratio:.2f} | {m.p50_ms:.2f} | {m.p99_ms:.2f} | {m.failed}"
        lines.append(f"| {m.routes:,} | {m.connections} | {m.proxy} | {figures} |")
    return "\n".join(lines)


def rows(results: Results) -> list[Row]:
    """The headlines: against configurable-http-proxy with their targets, against the others without."""
    found = []
    for routes, connections in CASES:
        ours = results[OURS, routes, connections]
        case = f"{routes:,} route{'s' * (routes > 1)}, {connections} connection{'s' * (connections > 1)}"
        for name in (BASE, "traefik", "caddy"):
            peer = results[name, routes, connections]
            ratio = ours.per_second / peer.per_second
            wanted = name == BASE and connections == 32
            found.append(
                Row(
                    figure=f"requests/s through the edge, {case}",
                    ours=f"{ours.per_second:,.0f}",
                    against=f"{name}: {peer.per_second:,.0f}",
                    ratio=f"{ratio:.2f}",
                    target="at least 3" if wanted else "",
                    met=ratio >= 3 or not wanted,
                )
            )
        base = results[BASE, routes, connections]
        found.append(
            Row(
                figure=f"p99 through the edge, {case}",
                ours=f"{ours.p99_ms:.2f} ms",
                against=f"{BASE}: {base.p99_ms:.2f} ms",
                ratio=f"{ours.p99_ms / base.p99_ms:.2f}",
                target="below 1",
                met=ours.p99_ms < base.p99_ms,
            )
        )
    return found


def scaling_row(few: list[float], many: list[float]) -> Row:
    one, thousands = statistics.median(few), statistics.median(many)
    return Row(
        figure=f"requests/s at 10,000 routes against 1, 32 connections, {len(few)} turns",
        ours=f"{thousands:,.0f}",
        against=f"{one:,.0f}",
        ratio=f"{thousands / one:.2f}",
        target="at least 0.90",
        met=thousands / one >= 0.9,
    )


def relay_table(relay: dict[str, dict[str, float]]) -> str:
    names = list(next(iter(relay.values())))
    lines = [f"| WebSocket by way of | {' | '.join(names)} |", f"|---|{'---:|' * len(names)}"]
    lines += [f"| {way} | {' | '.join(f'{value:,.0f}' for value in of.values())} |" for way, of in relay.items()]
    return "\n".join(lines)


def relay_rows(relay: dict[str, dict[str, float]]) -> list[Row]:
    through, without = relay["nginx and relay"], relay["nginx"]
    return [
        Row(
            figure=f"WebSocket {name}, one connection, through the relay",
            ours=f"{through[name]:,.0f}",
            against=f"nginx alone: {without[name]:,.0f}",
            ratio=f"{through[name] / without[name]:.2f}",
            target="",
            met=True,
        )
        for name in through
    ]


def _key(measure: Measure) -> tuple[str, int, int]:
    return measure.proxy, measure.routes, measure.connections


if __name__ == "__main__":
    main()
