"""multipart/related on both sides, streamed (RFC 2387, PS3.18 8.6.1)."""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Iterator
from typing import Any

CHUNK = 256 * 1024
MOST_HEAD = 16 * 1024
_BOUNDARY = re.compile(r"[0-9A-Za-z'()+_,\-./:=? ]{1,200}")


class Malformed(ValueError):
    """The body is no multipart body, or was cut off."""


def parameters(header: str) -> tuple[str, dict[str, str]]:
    """A media type and its parameters (names in lower case)."""
    kind, *rest = re.split(r";(?=(?:[^\"]*\"[^\"]*\")*[^\"]*$)", header)
    found = {}
    for part in rest:
        name, _, value = part.partition("=")
        found[name.strip().lower()] = value.strip().strip('"')
    return kind.strip().lower(), found


def parts(
    read: Callable[[int], bytes], boundary: str
) -> Iterator[tuple[dict[str, str], Callable[[], Iterator[bytes]]]]:
    """Each part as (headers, its body in pieces); a body must be read before the next part is asked for. Raises Malformed."""
    if not _BOUNDARY.fullmatch(boundary):
        raise Malformed("no boundary")
    stream = _Stream(read, b"\r\n--" + boundary.encode())
    stream.begin(b"--" + boundary.encode())
    while not stream.last():
        headers = stream.head()
        yield headers, stream.body
        stream.rest()


class _Stream:
    def __init__(self, read: Callable[[int], bytes], mark: bytes) -> None:
        self.read, self.mark = read, mark
        self.data = bytearray()
        self.open = False

    def _more(self) -> None:
        got = self.read(CHUNK)
        if not got:
            raise Malformed("the body ends in the middle")
        self.data += got

    def begin(self, mark: bytes) -> None:
        """Skip what stands before the first part."""
        while (at := self.data.find(mark)) < 0:
            if len(self.data) > MOST_HEAD:
                raise Malformed("no first part")
            self._more()
        del self.data[: at + len(mark)]

    def last(self) -> bool:
        """Whether the boundary that was just passed is the last."""
        while len(self.data) < 2:
            self._more()
        return self.data[:2] == b"--"

    def head(self) -> dict[str, str]:
        """Headers of a part."""
        while (end := self.data.find(b"\r\n\r\n")) < 0:
            if len(self.data) > MOST_HEAD:
                raise Malformed("the headers of a part do not end")
            self._more()
        text = bytes(self.data[:end]).decode("latin-1")
        del self.data[: end + 4]
        self.open = True
        lines = (line.partition(":") for line in text.split("\r\n") if ":" in line)
        return {name.strip().lower(): value.strip() for name, _, value in lines}

    def body(self) -> Iterator[bytes]:
        """The body of the part, in pieces."""
        keep = len(self.mark) - 1
        while self.open:
            at = self.data.find(self.mark)
            if at >= 0:
                piece = bytes(self.data[:at])
                del self.data[: at + len(self.mark)]
                self.open = False
                if piece:
                    yield piece
                return
            if len(self.data) > keep:
                piece = bytes(self.data[: len(self.data) - keep])
                del self.data[: len(self.data) - keep]
                yield piece
            self._more()

    def rest(self) -> None:
        """Throw away what was not read of the part."""
        for _ in self.body():
            pass


class Writer:
    """Parts of an answer, put together. ``kind``: the media type of the parts."""

    def __init__(self, kind: str) -> None:
        self.boundary = secrets.token_hex(16)
        self.content_type = f'multipart/related; type="{kind}"; boundary={self.boundary}'
        self.end = f"\r\n--{self.boundary}--\r\n".encode()

    def head(self, kind: str, location: str = "", first: bool = False) -> bytes:
        """What stands before the body of a part."""
        lines = [f"{'' if first else chr(13) + chr(10)}--{self.boundary}", f"Content-Type: {kind}"]
        if location:
            lines.append(f"Content-Location: {location}")
        return ("\r\n".join(lines) + "\r\n\r\n").encode()


def joined(pieces: Iterator[Any], at_least: int = CHUNK) -> Iterator[bytes]:
    """The same bytes in larger pieces."""
    held: list[bytes] = []
    size = 0
    for piece in pieces:
        if not held and len(piece) >= at_least:
            yield piece
            continue
        held.append(piece)
        size += len(piece)
        if size >= at_least:
            yield b"".join(held)
            held, size = [], 0
    if held:
        yield b"".join(held)
