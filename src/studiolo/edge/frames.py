"""WebSocket frames (RFC 6455, 5.2), read just far enough to tell input from upkeep."""

from __future__ import annotations

_CONTROL = 0x8  # opcodes from here on are close, ping and pong


class FrameReader:
    """Follows one direction of a connection frame by frame, whatever the pieces it arrives in.

    Payloads are skipped, not kept: the cost is per frame, not per byte.
    """

    def __init__(self) -> None:
        self._header = bytearray()
        self._skip = 0

    def feed(self, data: memoryview) -> bool:
        """Whether a data frame (text, binary, continuation) began in these bytes. Pings, pongs and closes do not
        count: browsers answer a server's pings while nobody is there."""
        header = self._header
        position, size, found = 0, len(data), False
        while position < size:
            if self._skip:
                step = min(self._skip, size - position)
                self._skip -= step
                position += step
                continue
            missing = _header_size(header) - len(header)
            header += data[position : position + missing]
            position += missing
            if len(header) < _header_size(header):
                continue
            found = found or header[0] & 0xF < _CONTROL
            self._skip = _payload_size(header)
            header.clear()
        return found


def _header_size(header: bytearray) -> int:
    """How long this header is, as far as its first bytes tell."""
    if len(header) < 2:
        return 2
    length = header[1] & 0x7F
    return 2 + (4 if header[1] & 0x80 else 0) + (2 if length == 126 else 8 if length == 127 else 0)


def _payload_size(header: bytearray) -> int:
    length = header[1] & 0x7F
    if length < 126:
        return length
    return int.from_bytes(header[2 : 4 if length == 126 else 10])
