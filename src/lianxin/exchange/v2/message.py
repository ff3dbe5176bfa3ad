"""Reading HL7 v2 messages: fast, by the delimiters the message itself names, never trusting it.

:func:`parse` decodes and splits into segments and fields; repetitions, components and sub-components are split when asked for.
Whatever is asked of a message that was read has an answer: "" where there is nothing.  Only :func:`parse` raises, and only
:class:`~lianxin.exchange.v2.errors.Malformed`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from lianxin.exchange.v2 import charset, errors
from lianxin.exchange.v2.errors import Malformed, Place
from lianxin.standards.text import T

MOST_BYTES = 64 * 1024 * 1024
MOST_SEGMENTS = 100_000
_NAME = re.compile(r"[A-Z][A-Z0-9]{2}")
_HEX = re.compile(r"[0-9A-Fa-f]+")
_BLANK = b"\r\n\t \x0b\x0c\x1c\x00"
_BOM = b"\xef\xbb\xbf"


class Separators(NamedTuple):
    """The characters a message is put together with; "" for one it does without."""

    field: str = "|"
    component: str = "^"
    repetition: str = "~"
    escape: str = "\\"
    sub: str = "&"

    @property
    def encoding(self) -> str:
        """MSH-2."""
        return f"{self.component}{self.repetition}{self.escape}{self.sub}"


USUAL = Separators()


class Segment:
    """One segment: ``fields[n]`` is field n as it was sent (``fields[0]`` its name); split when first asked for."""

    __slots__ = ("fields", "line", "message", "name")
    fields: list[str]

    def __init__(self, line: str, message: Message) -> None:
        self.line, self.message, self.name = line, message, line[:3]

    def __getattr__(self, name: str) -> list[str]:
        if name != "fields":
            raise AttributeError(name)
        self.fields = made = self.line.split(self.message.separators.field)
        return made

    def raw(self, field: int) -> str:
        """A field as it was sent, "" when there is none; what is explicitly deleted (``""``) stays as two quotes."""
        return self.fields[field] if 0 <= field < len(self.fields) else ""

    def repetitions(self, field: int) -> list[list[str]]:
        """The repetitions of a field, each as its components (unescaped; sub-components: the first); [] when it is empty."""
        raw = self.raw(field)
        marks = self.message.separators
        if not raw or raw == '""':
            return []
        if self.name == "MSH" and field <= 2:
            return [[raw]]
        whole = raw.split(marks.repetition) if marks.repetition else [raw]
        return [[self._plain(c) for c in one.split(marks.component)] for one in whole]

    def _plain(self, component: str) -> str:
        marks = self.message.separators
        if marks.sub and marks.sub in component:
            component = component.split(marks.sub, 1)[0]
        return "" if component == '""' else self.message.unescape(component)

    def text(self, field: int, component: int = 1, sub: int = 1, repetition: int = 1) -> str:
        """One value, unescaped; "" when it is not there (or explicitly deleted)."""
        raw = self.raw(field)
        if not raw:
            return ""
        marks = self.message.separators
        if self.name == "MSH" and field <= 2:
            return raw
        if marks.repetition and marks.repetition in raw:
            raw = _nth(raw, marks.repetition, repetition)
        elif repetition != 1:
            return ""
        raw = _nth(raw, marks.component, component)
        raw = _nth(raw, marks.sub, sub) if marks.sub else raw if sub == 1 else ""
        return "" if raw == '""' else self.message.unescape(raw)

    def subs(self, field: int, component: int, repetition: int = 1) -> list[str]:
        """The sub-components of a component, unescaped."""
        marks = self.message.separators
        raw = self.raw(field)
        raw = _nth(raw, marks.repetition, repetition) if marks.repetition else raw
        raw = _nth(raw, marks.component, component)
        return [self.message.unescape(s) for s in (raw.split(marks.sub) if marks.sub else [raw])]

    def deleted(self, field: int) -> bool:
        """Whether the sender says that what it sent before is to be deleted (``""``)."""
        return self.raw(field) == '""'


def _nth(text: str, mark: str, n: int) -> str:
    if n == 1:
        return text.split(mark, 1)[0] if mark else text
    parts = text.split(mark, n) if mark else [text]
    return parts[n - 1] if 0 < n <= len(parts) else ""


class Message:
    """A message that was read: its segments in order, and what its header says."""

    __slots__ = ("codec", "segments", "separators")

    def __init__(self, separators: Separators, codec: str) -> None:
        self.separators, self.codec = separators, codec
        self.segments: list[Segment] = []

    def first(self, name: str) -> Segment | None:
        """The first segment of a name."""
        return next((s for s in self.segments if s.name == name), None)

    def every(self, name: str) -> Iterator[Segment]:
        """Every segment of a name, in order."""
        return (s for s in self.segments if s.name == name)

    def text(self, name: str, field: int, component: int = 1, sub: int = 1, repetition: int = 1) -> str:
        """A value of the first segment of a name; "" when there is none."""
        found = self.first(name)
        return found.text(field, component, sub, repetition) if found else ""

    @property
    def header(self) -> Segment:
        """MSH."""
        return self.segments[0]

    @property
    def kind(self) -> tuple[str, str]:
        """Message code and trigger event (MSH-9), such as ("ADT", "A01"); a missing event is taken from EVN-1."""
        code, event = self.header.text(9), self.header.text(9, 2)
        return code, event or self.text("EVN", 1)

    @property
    def control_id(self) -> str:
        """MSH-10."""
        return self.header.text(10).strip()

    @property
    def version(self) -> str:
        """MSH-12.1, such as "2.3"."""
        return self.header.text(12)

    def unescape(self, text: str) -> str:
        """Escape sequences resolved; those that nobody knows stay as they are."""
        mark = self.separators.escape
        if not mark or mark not in text:
            return text
        parts = text.split(mark)
        out, i = [parts[0]], 1
        while i < len(parts):
            known = self._escaped(parts[i]) if i + 1 < len(parts) else None
            if known is None:
                out.append(mark + parts[i])
                i += 1
            else:
                out += [known, parts[i + 1]]
                i += 2
        return "".join(out)

    def _escaped(self, code: str) -> str | None:
        """What stands for one sequence, None when it is none."""
        marks = self.separators
        known = {
            "F": marks.field,
            "S": marks.component,
            "T": marks.sub,
            "R": marks.repetition,
            "E": marks.escape,
            "P": "#",
        }
        if code in known:
            return known[code]
        if code in ("H", "N"):  # highlighting begins and ends
            return ""
        if (
            code.startswith(".") and len(code) <= 8
        ):  # formatting: a new line is all of it that a plain text can keep
            return (
                "\n"
                if code[1:3] in ("br", "sp", "ce")
                else " "
                if code[1:3] in ("sk", "ti", "in", "fi", "nf")
                else None
            )
        if code[:1] == "X" and len(code) % 2 and _HEX.fullmatch(code, 1):
            return bytes.fromhex(code[1:]).decode(self.codec, "replace").replace("\x00", "")
        return None


def parse(data: bytes, usual: str = "") -> Message:
    """Read one message (without the frame of MLLP). ``usual``: the codec this sender uses when MSH-18 does not say.

    Segments end with CR; LF and CR LF are taken too.  Lines that are no segments go with the segment before them, as text
    that was broken by its sender.  Raises :class:`Malformed`: no MSH, unusable delimiters, a character set that does not fit.
    """
    if len(data) > MOST_BYTES:
        raise Malformed(
            errors.INTERNAL,
            T("消息超过 {n} MB，请分开发送。", "The message is larger than {n} MB; send it in parts.").format(
                n=MOST_BYTES >> 20
            ),
        )
    data = data.removeprefix(_BOM).strip(_BLANK).removeprefix(_BOM)
    if not data.startswith(b"MSH"):
        raise Malformed(
            errors.SEQUENCE,
            T("消息应以 MSH 段开头。", "A message begins with the segment MSH."),
            Place("MSH"),
        )
    head = _head(data)
    separators = _separators(head)
    named = head.split(separators.field)
    first = (
        named[17].split(separators.repetition)[0]
        if separators.repetition and len(named) > 17
        else "".join(named[17:18])
    )
    text, codec = charset.decode(data, first, usual)
    if "\x00" in text:  # no database keeps it, and it says nothing
        text = text.replace("\x00", "")
    found = Message(separators, codec)
    _split(text, found)
    return found


def _head(data: bytes) -> str:
    """The first line as text, good enough to find MSH-18 in it."""
    line = data[:8192].replace(b"\n", b"\r").split(b"\r", 1)[0]
    if line.isascii():
        return line.decode("ascii")
    try:
        return line.decode("utf-8")
    except UnicodeDecodeError:
        return line.decode("gb18030", "replace")


def _separators(head: str) -> Separators:
    mark = head[3:4]
    given = head[4:].split(mark, 1)[0] if mark else ""
    every = mark + given[:4]
    if not mark or mark.isalnum() or mark.isspace() or not given or len(set(every)) != len(every) or any(
        c.isalnum() or c.isspace() or not c.isprintable() for c in every
    ):  # fmt: skip
        raise Malformed(
            errors.DATA_TYPE,
            T(
                "MSH-1/MSH-2 的分隔符无效：应为互不相同的标点，通常是 |^~\\&。",
                "The delimiters of MSH-1 and MSH-2 are not usable: they must be punctuation, each another, usually |^~\\&.",
            ),
            Place("MSH", 1, 2),
        )
    padded = [*given[:4], "", "", ""]
    return Separators(mark, padded[0], padded[1], padded[2], padded[3])


def _split(text: str, into: Message) -> None:
    if "\n" in text:
        text = text.replace("\r\n", "\r").replace("\n", "\r")
    mark = into.separators.field
    segments = into.segments
    for line in text.split("\r"):
        if not line:
            continue
        if line[3:4] == mark or (len(line) == 3 and _NAME.fullmatch(line)):
            segments.append(Segment(line, into))
        elif segments:
            segments[-1].line += f"\n{line}"
    if len(segments) > MOST_SEGMENTS:
        raise Malformed(
            errors.SEQUENCE,
            T("消息的段过多（超过 {n}）。", "The message has more than {n} segments.").format(
                n=MOST_SEGMENTS
            ),
        )
    segments[0].fields.insert(1, mark)  # so that MSH-n is at n
