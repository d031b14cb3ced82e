"""As much of RFC 6455 as a client needs.

Owns: one connection: the handshake, frames and fragments, pongs, the close, and the silence after which a line is dead.
Refuses to know: what the messages say.
"""
from __future__ import annotations

import base64
import hashlib
import os
import socket
import ssl
import struct
import time
from typing import Optional
from urllib.parse import urlsplit

SILENCE_SECONDS = 75.0


class ProtocolError(Exception):
    """The server said something that its protocol does not allow."""


class Closed(Exception):
    """The connection has ended; 1006 stands for an end without a close frame."""

    def __init__(self, code: int = 1006, reason: str = ""):
        super().__init__(f"{code} {reason}".strip())
        self.code = code


class WebSocket:
    """A connection; pings are answered while somebody receives."""

    def __init__(self, address: str, protocol: str, timeout: float = 10.0):
        url = urlsplit(address)
        self.timeout, self.buffer, self.fragments, self.text_under_way = timeout, bytearray(), bytearray(), False
        secure = url.scheme == "https"
        self.socket = socket.create_connection((url.hostname, url.port or (443 if secure else 80)), timeout)
        try:
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if secure:
                self.socket = ssl.create_default_context().wrap_socket(self.socket, server_hostname=url.hostname)
            self._shake_hands(url.netloc, url.path, protocol)
        except BaseException:
            self.socket.close()
            raise
        self.heard = time.monotonic()

    def _shake_hands(self, host: str, path: str, protocol: str) -> None:
        key = base64.b64encode(os.urandom(16)).decode()
        self.socket.sendall(f"GET {path} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
                            f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Protocol: {protocol}\r\n\r\n".encode())
        deadline = time.monotonic() + self.timeout
        while (end := self.buffer.find(b"\r\n\r\n")) < 0:
            self._fill(deadline)
        status, *lines = self.buffer[:end].decode("latin-1").split("\r\n")
        del self.buffer[:end + 4]
        headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        if status.split(" ")[1:2] != ["101"]:
            raise Closed(reason=f"the handshake was answered with {status}")
        accept = base64.b64encode(hashlib.sha1((key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11").encode()).digest()).decode()
        if (headers.get("sec-websocket-accept") != accept or headers.get("sec-websocket-protocol") != protocol
                or headers.get("upgrade", "").lower() != "websocket" or "sec-websocket-extensions" in headers):
            raise ProtocolError("the handshake's answer is wrong")

    def _fill(self, deadline: float) -> None:
        """Read some more bytes before the deadline."""
        self.socket.settimeout(max(deadline - time.monotonic(), 0.001))
        try:
            data = self.socket.recv(65536)
        except TimeoutError:
            raise
        except OSError as problem:
            self.socket.close()
            raise Closed(reason=str(problem)) from problem
        if not data:
            self.socket.close()
            raise Closed(reason="the connection just ended")
        self.heard = time.monotonic()
        self.buffer += data

    def _take_frame(self) -> Optional[tuple[bool, int, bytes]]:
        """Take one whole frame (final, opcode, payload) from the buffer, if it is there."""
        data = self.buffer
        if len(data) < 2:
            return None
        if data[0] & 0x70 or data[1] & 0x80:
            raise ProtocolError("a frame has reserved bits or a mask")
        start, size = 2, data[1] & 0x7F
        if size >= 126:
            start = 4 if size == 126 else 10
            if len(data) < start:
                return None
            size = int.from_bytes(data[2:start], "big")
        if len(data) < start + size:
            return None
        frame = bool(data[0] & 0x80), data[0] & 0x0F, bytes(data[start:start + size])
        del data[:start + size]
        return frame

    def send(self, payload: bytes, opcode: int = 1, final: bool = True) -> None:
        """Send one frame: masked, as a client must."""
        size, mask = len(payload), os.urandom(4)
        length = bytes([0x80 | size]) if size < 126 else struct.pack("!BH", 0xFE, size) if size < 65536 else struct.pack("!BQ", 0xFF, size)
        masked = (int.from_bytes(payload, "big") ^ int.from_bytes((mask * (size // 4 + 1))[:size], "big")).to_bytes(size, "big")
        try:
            self.socket.settimeout(self.timeout)
            self.socket.sendall(bytes([opcode | (0x80 if final else 0)]) + length + mask + masked)
        except OSError as problem:  # a time-out too: half a frame may be out, nothing can follow it
            raise Closed(reason=str(problem)) from problem

    def receive(self, timeout: float) -> str:
        """Wait for the next text message."""
        deadline = time.monotonic() + timeout
        while True:
            while (frame := self._take_frame()) is None:
                try:
                    self._fill(deadline)
                except TimeoutError:
                    if time.monotonic() - self.heard > SILENCE_SECONDS:
                        raise Closed(reason="the line is silent") from None
                    raise
            final, opcode, payload = frame
            if opcode == 9:
                self.send(payload, 10)
            elif opcode == 8:
                code = int.from_bytes(payload[:2], "big") if len(payload) >= 2 else 1005
                self.close(payload[:2])
                raise Closed(code, payload[2:].decode("utf-8", "replace"))
            elif opcode in (0, 1):
                if (opcode == 0) is not self.text_under_way:
                    raise ProtocolError("a fragment is out of place")
                self.fragments += payload
                self.text_under_way = not final
                if final:
                    text, self.fragments = self.fragments, bytearray()
                    return text.decode()
            elif opcode != 10:
                raise ProtocolError(f"a frame has the opcode {opcode}")

    def close(self, payload: bytes = struct.pack("!H", 1000)) -> None:
        try:
            self.send(payload, 8)
        except Closed:
            pass  # it has ended already
        self.socket.close()

    def cut(self) -> None:
        """End the TCP connection with a reset and without a close frame, as a lost network would."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()
