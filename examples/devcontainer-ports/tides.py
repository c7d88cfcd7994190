"""Prints the water level of two days, hour by hour: the sum of two waves, as the moon and the sun make them."""

import math

# Height in metres and period in hours. The sizes are near those of a North Sea harbour; the phases are made up.
MOON = (1.75, 12.42)
SUN = (0.48, 12.0)


def level(hour: float) -> float:
    return sum(height * math.cos(2 * math.pi * hour / period) for height, period in (MOON, SUN))


if __name__ == "__main__":
    print("hour,metres")
    for hour in range(49):
        print(f"{hour},{level(hour):.2f}")
