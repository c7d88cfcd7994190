from __future__ import annotations

import re
from typing import Any

import pytest

from studiolo.edge import nginx


def test_the_same_wish_gives_the_same_text_and_another_another_digest() -> None:
    config = nginx.render(port=8800)
    assert nginx.render(port=8800) == config
    others = [
        nginx.render(port=8801),
        nginx.render(port=8800, instance="/elsewhere"),
        nginx.render(port=8800, domain="studio.example.org"),
        nginx.render(port=8800, workers="auto"),
    ]
    digests = [nginx.digest(text) for text in (config, *others)]
    assert len(set(digests)) == len(digests)


def test_nothing_listens_beyond_this_machine_unless_told() -> None:
    assert set(re.findall(r"listen (\S+?);", nginx.render(port=8800))) == {"127.0.0.1:8800", "[::1]:8800"}
    told = nginx.render(port=80, listen=("0.0.0.0",))
    assert set(re.findall(r"listen (\S+?)(?: default_server)?;", told)) == {"0.0.0.0:80"}


def test_every_place_says_all_that_clients_might_forge() -> None:
    """A place with headers of its own inherits none, so each must set them all."""
    config = nginx.render(port=8800)
    blocks = [block for block in re.split(r"\n\s*(?:location|server)\b", config) if "proxy_set_header" in block]
    wanted = {
        *("Host", "Upgrade", "Connection", "Proxy", "Forwarded", "X-Real-IP"),
        *("X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto"),
        *("X-Studiolo-Label", "X-Studiolo-Missed", "X-Studiolo-Grant", "X-Studiolo-Origin-Ok"),
    }
    assert len(blocks) == 5
    for block in blocks:
        assert wanted <= set(re.findall(r"proxy_set_header (\S+)", block))


@pytest.mark.parametrize(
    "wish",
    [
        {"port": 0},
        {"port": 65536},
        {"domain": "a;b"},
        {"domain": ""},
        {"domain": "UPPER"},
        {"listen": ()},
        {"listen": ("localhost",)},
        {"listen": ("127.0.0.1; include /etc/passwd",)},
        {"workers": 0},
        {"workers": "many"},
        {"user": "root;"},
    ],
)
def test_what_could_not_stand_in_a_configuration_is_refused(wish: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"is not|are not"):
        nginx.render(**{"port": 8800, **wish})


def test_strings_are_short_enough_for_nginx() -> None:
    """nginx reads no parameter longer than 4 KiB."""
    assert all(len(text) < 4000 for text in re.findall(r"'((?:[^'\\]|\\.)*)'", nginx.render(port=8800)))
