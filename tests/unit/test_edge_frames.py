from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from websockets.frames import Frame, Opcode

from studiolo.edge.frames import FrameReader

frames = st.lists(
    st.tuples(
        st.sampled_from([Opcode.TEXT, Opcode.BINARY, Opcode.CONT, Opcode.PING, Opcode.PONG, Opcode.CLOSE]),
        st.sampled_from([0, 1, 125, 126, 127, 65535, 65536]),
        st.booleans(),
    ),
    max_size=8,
)


@given(frames, st.lists(st.integers(1, 70000), max_size=30))
def test_data_frames_are_told_from_upkeep_however_the_bytes_are_cut(
    parts: list[tuple[Opcode, int, bool]], cuts: list[int]
) -> None:
    stream, expected = b"", []
    for opcode, size, mask in parts:
        control = opcode in (Opcode.PING, Opcode.PONG, Opcode.CLOSE)
        payload = b"\x89" * (min(size, 100) if control else size)  # bytes that look like a ping's head
        if not control:
            expected.append(len(stream))
        stream += Frame(opcode, payload).serialize(mask=mask)
    reader, position, found = FrameReader(), 0, []
    for cut in [*cuts, len(stream)]:
        found.append((position, position + cut, reader.feed(memoryview(stream[position : position + cut]))))
        position += cut

    assert any(hit for *_, hit in found) == bool(expected)
    # Input is seen in the piece in which its head is complete: at most 14 bytes after its first.
    for begin, end, hit in found:
        if hit:
            assert any(begin - 14 < start < end for start in expected)
