from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.frames import Frame, Opcode

from studiolo.edge.frames import FrameReader

UPKEEP = bytes([9]) + bytes(12)
ACKNOWLEDGEMENT = bytes([3, 0, 0, 0, 0, 0, 0, 1, 7, 0, 0, 0, 0])
PAYLOADS = [
    b"",
    b"x",
    b'["stdin","a"]',
    UPKEEP,
    b"\x89" * 125,
    b"\x89" * 126,
    b"\x89" * 127,
    b"\x89" * 65535,
    b"\x89" * 65536,
]
frames = st.lists(
    st.tuples(
        st.sampled_from([Opcode.TEXT, Opcode.BINARY, Opcode.CONT, Opcode.PING, Opcode.PONG, Opcode.CLOSE]),
        st.sampled_from(PAYLOADS),
    ),
    max_size=8,
)


@given(frames, st.lists(st.integers(1, 70000), max_size=30))
def test_input_is_told_from_upkeep_however_the_bytes_are_cut(
    parts: list[tuple[Opcode, bytes]], cuts: list[int]
) -> None:
    stream, expected = b"", []
    for opcode, payload in parts:
        control = opcode in (Opcode.PING, Opcode.PONG, Opcode.CLOSE)
        if not control and payload != UPKEEP:
            expected.append(len(stream))
        stream += Frame(opcode, payload[:125] if control else payload).serialize(mask=True)
    reader, position, found = FrameReader(), 0, []
    for cut in [*cuts, len(stream)]:
        found.append((position, position + cut, reader.feed(memoryview(stream[position : position + cut]))))
        position += cut

    assert any(hit for *_, hit in found) == bool(expected)
    # Seen in the piece in which the head, or a small payload, is complete.
    for begin, end, hit in found:
        if hit:
            assert any(begin - 14 - 4096 < start < end for start in expected)


def message(kind: int, content: bytes = b"") -> bytes:
    return bytes([kind]) + bytes(8) + len(content).to_bytes(4) + content


@pytest.mark.parametrize(
    ("payload", "counts"),
    [
        (UPKEEP, False),
        (ACKNOWLEDGEMENT + UPKEEP, False),
        (message(1, b"\x04\x04\x06d\x06\xb0\x08\x01\x10remoteFilesystem\x01\x04stat"), False),
        (UPKEEP + message(1, b"\x01\x00\x00\x01}f\x0c$onFileEvent\x00"), False),
        (UPKEEP + message(1, b"\x01\x00\x00\x01}f\x0c$acceptModelChanged\x00"), True),
        (message(1, b"\x04\x04\x06d\x06\xa4\x07\x01\x0eremoteterminal\x01\x06$input\x04\x02\x06\x01\x01\x01l"), True),
        (UPKEEP[:-1] + b"\x01", True),  # announces more than there is
        (UPKEEP + b"x", True),
        (UPKEEP[:-1], True),
        (message(1, b"x" * 5000), True),  # too long to be looked into
        (b'["stdin","a"]', True),
        (b'{"header":{"msg_type":"execute_request"}}', True),
        (b"", True),
    ],
)
def test_what_an_open_editor_sends_by_itself_is_no_input(payload: bytes, counts: bool) -> None:
    assert FrameReader().feed(memoryview(Frame(Opcode.BINARY, payload).serialize(mask=True))) is counts
