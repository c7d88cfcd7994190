# /// script
# requires-python = ">=3.11"
# dependencies = ["rich>=14"]
# ///
"""How the gaps between prime numbers are spread, as a table: `python primes.py`."""

from collections import Counter
from itertools import pairwise

from rich.console import Console
from rich.table import Table

LIMIT = 100_000


def primes(limit: int) -> list[int]:
    """All primes below `limit`, by the sieve of Eratosthenes."""
    candidate = bytearray([1]) * limit
    candidate[:2] = b"\0\0"
    for number in range(2, int(limit**0.5) + 1):
        if candidate[number]:
            candidate[number * number :: number] = bytes(len(range(number * number, limit, number)))
    return [number for number in range(limit) if candidate[number]]


def main() -> None:
    found = primes(LIMIT)
    gaps = Counter(after - before for before, after in pairwise(found))
    table = Table(title=f"Gaps between the {len(found):,} primes below {LIMIT:,}")
    table.add_column("gap", justify="right")
    table.add_column("how often", justify="right")
    for gap, count in gaps.most_common(8):
        table.add_row(str(gap), f"{count:,}")
    Console().print(table)


if __name__ == "__main__":
    main()
