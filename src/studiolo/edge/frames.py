"""WebSocket frames (RFC 6455, 5.2) from browsers, read just far enough to tell a person's input from upkeep."""

from __future__ import annotations

import re

_CONTROL = 0x8  # opcodes from here on are close, ping and pong
_LOOKED_INTO = 4096

# An open VS Code page talks without pause: keep-alives, file events, pings, its own state every five seconds. Its
# messages have a head of 13 bytes: type, id, acknowledged id, length (vscode, src/vs/base/parts/ipc/common/ipc.net.ts).
# Of these, only what follows from keys and mouse counts: calls to its extension host (src/vs/workbench/api/common/
# extHost.protocol.ts) and what is typed into a terminal.
_VSCODE_HEAD = 13
_VSCODE_TYPES = range(1, 10)
_VSCODE_INPUT = re.compile(
    rb"\$accept(?:ModelChanged|EditorPropertiesChanged|TerminalInteraction|TabOperation)|\$onDidChangeWindow"
    rb"|\$executeContributedCommand|\$provide(?:Hover|CompletionItems)|\x0eremoteterminal\x01\x06\$input"
)


class FrameReader:
    """Follows one direction of a connection frame by frame, whatever the pieces it arrives in.

    Only payloads of up to 4 KiB are looked into, once they are complete.
    """

    def __init__(self) -> None:
        self._header = bytearray()
        self._skip = 0
        self._payload = bytearray()
        self._mask: bytes | None = None

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
                if self._mask is not None:
                    self._payload += data[position : position + step]
                self._skip -= step
                position += step
                if self._mask is not None and not self._skip:
                    found = found or not _is_upkeep(_unmasked(self._payload, self._mask))
                    self._payload.clear()
                    self._mask = None
                continue
            missing = _header_size(header) - len(header)
            header += data[position : position + missing]
            position += missing
            if len(header) < _header_size(header):
                continue
            self._skip = _payload_size(header)
            if header[0] & 0xF < _CONTROL:
                if _VSCODE_HEAD <= self._skip <= _LOOKED_INTO and not found and header[1] & 0x80:
                    self._mask = bytes(header[-4:])
                else:
                    found = True
            header.clear()
        return found


def _unmasked(payload: bytearray, mask: bytes) -> bytes:
    size = len(payload)
    key = int.from_bytes((mask * (size // 4 + 1))[:size])
    return (int.from_bytes(payload) ^ key).to_bytes(size)


def _is_upkeep(payload: bytes) -> bool:
    """Whether it is whole messages of VS Code, none of which a person caused."""
    position, size = 0, len(payload)
    while position < size:
        if size - position < _VSCODE_HEAD or payload[position] not in _VSCODE_TYPES:
            return False
        position += _VSCODE_HEAD + int.from_bytes(payload[position + 9 : position + _VSCODE_HEAD])
    return position == size and _VSCODE_INPUT.search(payload) is None


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
