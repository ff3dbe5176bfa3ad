"""Acknowledgements: MSA with AA, AE or AR, and ERR in the form of the sender's version (before 2.5: ERR-1; since: ERR-2 to ERR-8).

A sender that fills MSH-15 or MSH-16 speaks the enhanced mode (HL7 2.5, 2.9.3): it is told first that its message is safely kept
(CA, CE or CR), then what became of it, each only when it wants to hear it (AL always, NE never, ER errors, SU success).  Both answers
are one text with the end and the beginning of a frame between them.
"""

from __future__ import annotations

import itertools
import os
import re
import time
from collections.abc import Sequence

from lianxin.exchange.v2 import charset, errors
from lianxin.exchange.v2.errors import FAILED, REJECTED, Refused
from lianxin.exchange.v2.framing import END, START
from lianxin.exchange.v2.message import USUAL, Message, Separators
from lianxin.exchange.v2.writing import escape, instant, message, segment
from lianxin.standards import clock

APPLICATION, FACILITY = "LIANXIN", "LX"
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
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
    if asked is not None and not (refused or extra or kind or asked_id) and asked.separators == USUAL:
        return _plain(asked, code)
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
        *(err(one, version, marks, "W" if code in ("AA", "CA") else "E", codec) for one in refused),
        *extra,
    ]
    return message(lines, codec)


def _plain(asked: Message, code: str) -> bytes:
    """The usual answer, which has nothing to say but its code: the sender's own words go back as they were sent."""
    back = asked.header.raw
    version, codec, named = asked.version or "2.5", asked.codec, _first(back(18))
    event = escape(asked.kind[1])
    kind = f"ACK^{event}" if event else "ACK"
    if event and (version == "2.4" or not old(version)):
        kind += "^ACK"
    name = named if named and charset.codec_of(asked.header.text(18)) == codec else charset.name_of(codec)
    own = (
        f"MSH|^~\\&|{_first(back(5)) or APPLICATION}|{_first(back(6)) or FACILITY}|{_first(back(3))}|{_first(back(4))}|"
        f"{instant(clock.now())}||{kind}|{control_id()}|{_first(back(11)) or 'P'}|{escape(version)}||||||{name}\r"
        f"MSA|{code}|{escape(asked.control_id)}\r"
    )
    return own.encode(codec, "replace")


def _first(raw: str) -> str:
    """The first repetition of a field, as it was sent; control characters have no business in an answer."""
    return _CONTROL.sub("", raw.split("~", 1)[0]) if raw != '""' else ""


CONDITIONS = frozenset({"AL", "NE", "ER", "SU"})
"""HL7 table 0155."""
BETWEEN = END + b"\r" + START
_COMMIT = {"AA": "CA", "AE": "CA", "AR": "CR"}
"""What is said of the keeping: a message whose content cannot be taken is safely kept all the same."""


def answer(
    asked: Message,
    code: str,
    told: Sequence[Refused] = (),
    *,
    extra: Sequence[str] = (),
    kind: tuple[str, ...] = (),
) -> bytes:
    """The answer, or the answers, in the mode that the sender speaks; empty when it wants none."""
    accept, application = _condition(asked, 15), _condition(asked, 16)
    if not accept and not application:
        return acknowledge(asked, code, told, extra=extra, kind=kind)
    commit = _COMMIT.get(code, "CA")
    said = [one for one in told if code == REJECTED or (code == "AA" and not application)]
    parts = []
    if _wanted(accept, commit == "CA"):
        parts.append(acknowledge(asked, commit, said))
    if _wanted(application, code == "AA") and (commit == "CA" or not parts):
        parts.append(acknowledge(asked, code, told, extra=extra, kind=kind))
    return BETWEEN.join(parts)


def refuse(asked: Message | None, refused: Refused) -> bytes:
    """The answer to a message that is not taken."""
    if asked is None:
        return acknowledge(None, refused.answer, [refused])
    return answer(asked, refused.answer, [refused])


def unkept(asked: Message | None, refused: Refused) -> bytes:
    """The answer to a message that could not even be kept and is to be sent again: CE in the enhanced mode, else AE."""
    if asked is not None and _condition(asked, 15):
        return acknowledge(asked, "CE", [refused]) if _wanted(_condition(asked, 15), False) else b""
    return acknowledge(asked, FAILED, [refused])


def _condition(asked: Message, field: int) -> str:
    """MSH-15 or MSH-16; "" when it says nothing that is known: then everything is answered."""
    said = asked.header.text(field).strip().upper()
    return said if said in CONDITIONS else ""


def _wanted(condition: str, well: bool) -> bool:
    """Whether an answer is wanted in this case."""
    return condition == "AL" or (condition == "SU" and well) or (condition == "ER" and not well)
