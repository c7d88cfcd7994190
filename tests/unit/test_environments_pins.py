"""A lock's text: one form, sorted, the same for the same packages."""

from __future__ import annotations

import pytest

from studiolo.environments.inherited import inherited
from studiolo.environments.pins import Pin, parse, render

A, B = "sha256:" + "a" * 64, "sha256:" + "b" * 64


def test_text_and_pins_are_the_same_thing() -> None:
    pins = (Pin("six", "1.17.0", "", (A, B)), Pin("a-b", "", "https://example.test/a_b-1-py3-none-any.whl", (A,)))
    text = render(pins)
    assert parse(text) == tuple(sorted(pins, key=lambda pin: pin.name))
    assert render(parse(text)) == text


def test_order_and_comments_do_not_matter() -> None:
    one = parse(
        f"# made by a tool at noon\nSix==1 \\\n    --hash={B} \\\n    --hash={A}\n    # via me\ntomli==2 --hash={A}\n"
    )
    two = parse(f"tomli==2 --hash={A}\nsix==1 --hash={A} --hash={B}\n")
    assert render(one) == render(two)


def test_markers_are_judged_for_the_environments_python() -> None:
    text = f"a==1 ; python_full_version < '3.10' --hash={A}\na==2 ; python_full_version >= '3.10' --hash={A}\n"
    text += f"w==1 ; sys_platform == 'win32' --hash={A}\n"
    assert [(pin.name, pin.version) for pin in parse(text, "3.9.18")] == [("a", "1")]
    assert [(pin.name, pin.version) for pin in parse(text, "3.12.1")] == [("a", "2")]


@pytest.mark.parametrize("text", ["six>=1", "six==1.*", "six", "-e .", "!!", "six==1 --hash=md5"])
def test_what_is_not_pinned_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not"):
        parse(text)


def test_programs_get_the_owners_index_and_no_more() -> None:
    own = {
        "PATH": "/bin",
        "UV_INDEX": "https://i.test",
        "UV_INDEX_PRIVATE_PASSWORD": "x",
        "https_proxy": "p",
        "SSL_CERT_FILE": "/c",
        "UV_PROJECT": "/p",
        "UV_CACHE_DIR": "/c",
        "UV_PYTHON": "3.9",
        "VIRTUAL_ENV": "/v",
        "PYTHONPATH": "/evil",
        "PYTHONDONTWRITEBYTECODE": "1",
        "STUDIOLO_SECRET": "s",
        "AWS_SECRET_ACCESS_KEY": "s",
    }
    kept = inherited({"EXTRA": "1", "PATH": "/mine"}, {"UV_INDEX": "https://default.test", "D": "2"}, own)
    assert kept == {
        "PATH": "/mine",
        "EXTRA": "1",
        "D": "2",
        "UV_INDEX": "https://i.test",
        "UV_INDEX_PRIVATE_PASSWORD": "x",
        "https_proxy": "p",
        "SSL_CERT_FILE": "/c",
    }
