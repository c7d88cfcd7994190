"""WebSocket frames (RFC 6455, 5.2) from browsers, read just far enough to tell input from upkeep."""

from __future__ import annotations

_CONTROL = 0x8  # opcodes from here on are close, ping and pong

# VS Code's client sends messages of its own to keep a connection, for as long as the page is open: 13 bytes of type,
# id, acknowledged id and length (vscode, src/vs/base/parts/ipc/common/ipc.net.ts, ProtocolMessageType).
_VSCODE_HEADER = 13
_VSCODE_UPKEEP = (3, 9)  # acknowledgement, keep-alive
_LOOKED_INTO = 8 * _VSCODE_HEADER


class FrameReader:
    """Follows one direction of a connection frame by frame, whatever the pieces it arrives in.

    Only payloads of up to 104 bytes are kept, until they are complete: the cost is per frame, not per byte.
    """

    def __init__(self) -> None:
        self._header = bytearray()
        self._skip = 0
        self._payload = bytearray()
        self._mask = b""

    def feed(self, data: memoryview) -> bool:
        """Whether a person's input is in these bytes: a data frame (text, binary, continuation) that is not upkeep.

        Pings, pongs and closes do not count, as browsers answer a server's pings while nobody is there; nor does what
        VS Code's page sends by itself. What is not known to be upkeep is input.
        """
        header = self._header
        position, size, found = 0, len(data), False
        while position < size:
            if self._skip:
                step = min(self._skip, size - position)
                if self._mask:
                    self._payload += data[position : position + step]
                self._skip -= step
                position += step
                if self._mask and not self._skip:
                    found = found or not _is_upkeep(self._payload, self._mask)
                    self._payload.clear()
                    self._mask = b""
                continue
            missing = _header_size(header) - len(header)
            header += data[position : position + missing]
            position += missing
            if len(header) < _header_size(header):
                continue
            self._skip = _payload_size(header)
            if header[0] & 0xF < _CONTROL:
                if 0 < self._skip <= _LOOKED_INTO and self._skip % _VSCODE_HEADER == 0 and header[1] & 0x80:
                    self._mask = bytes(header[-4:])
                else:
                    found = True
            header.clear()
        return found


def _is_upkeep(payload: bytearray, mask: bytes) -> bool:
    """Whether it is nothing but VS Code's messages without content."""
    plain = bytes(byte ^ mask[at & 3] for at, byte in enumerate(payload))
    messages = [plain[at : at + _VSCODE_HEADER] for at in range(0, len(plain), _VSCODE_HEADER)]
    return all(message[0] in _VSCODE_UPKEEP and message[9:] == bytes(4) for message in messages)


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
