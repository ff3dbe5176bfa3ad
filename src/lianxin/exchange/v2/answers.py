"""Acknowledgements: MSA with AA, AE or AR, and ERR in the form of the sender's version (before 2.5: ERR-1; since: ERR-2 to ERR-8)."""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Sequence

from lianxin.exchange.v2 import charset, errors
from lianxin.exchange.v2.errors import Refused
from lianxin.exchange.v2.message import USUAL, Message, Separators
from lianxin.exchange.v2.writing import instant, message, segment
from lianxin.standards import clock

APPLICATION, FACILITY = "LIANXIN", "LX"
_count = itertools.count(1)


def control_id() -> str:
    """A control id of our own that is never used again."""
    return f"LX{time.time_ns() // 1000:x}{os.getpid():x}{next(_count):x}"[-20:].upper()


def old(version: str) -> bool:
    """Whether ERR has the form it had before 2.5."""
    return version[:3] in ("2.1", "2.2", "2.3", "2.4")


def header(asked: Message | None, kind: tuple[str, ...], codec: str, own_id: str = "") -> str:
    """MSH of an answer: back to whom it came from, in its version, processing mode and character set."""
    marks = asked.separators if asked else USUAL
    said = asked.header if asked else None

    def back(field: int) -> tuple[str, ...]:
        return tuple(said.repetitions(field)[0]) if said and said.repetitions(field) else ()

    version = (asked.version if asked else "") or "2.5"
    whole = kind if not old(version) or version == "2.4" else kind[:2]
    named = said.text(18) if said else ""
    name = named if named and charset.codec_of(named) == codec else charset.name_of(codec)
    return segment(
        "MSH", back(5) or APPLICATION, back(6) or FACILITY, back(3), back(4), instant(clock.now()), "", whole, own_id or control_id(),
        back(11) or "P", version, "", "", "", "", "", name,
        marks=marks,
    )  # fmt: skip


def err(refused: Refused, version: str, marks: Separators, severity: str = "E", codec: str = "utf-8") -> str:
    """ERR for one refusal; a sender of ASCII is told in English only."""
    words = refused.text.en if codec == "ascii" else refused.text.zh
    place = refused.place
    code = (refused.code, errors.NAMES.get(refused.code, ""), "HL70357")
    where: tuple[str, ...] = ()
    if place.segment:
        parts = [place.segment, str(place.number)]
        if place.field:
            parts += [str(place.field)]
            parts += [str(place.repetition)]
            parts += [str(place.component)] if place.component else []
        where = tuple(parts)
    if old(version):
        flat = (place.segment, str(place.number) if place.segment else "", str(place.field or ""), code)
        return segment("ERR", flat, marks=marks)
    return segment("ERR", "", where, code, severity, "", "", refused.text.en, words, marks=marks)


def acknowledge(
    asked: Message | None,
    code: str,
    refused: Sequence[Refused] = (),
    *,
    asked_id: str = "",
    extra: Sequence[str] = (),
    kind: tuple[str, ...] = (),
) -> bytes:
    """The answer to a message: ``code`` AA, AE or AR; ``refused`` become ERR (with AA: as warnings); ``extra`` segments follow."""
    marks = asked.separators if asked else USUAL
    codec = asked.codec if asked else "utf-8"
    event = asked.kind[1] if asked else ""
    version = (asked.version if asked else "") or "2.5"
    said = f"{refused[0].text.en} {'' if codec == 'ascii' else refused[0].text.zh}".strip() if refused else ""
    whole = kind or (("ACK", event, "ACK") if event else ("ACK",))
    lines = [
        header(asked, whole, codec),
        segment(
            "MSA",
            code,
            (asked.control_id if asked else "") or asked_id,
            said if old(version) else "",
            marks=marks,
        ),
        *(err(one, version, marks, "E" if code != "AA" else "W", codec) for one in refused),
        *extra,
    ]
    return message(lines, codec)
