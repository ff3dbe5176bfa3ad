"""Functions of a mapping for a report or document as a whole: its status, its conclusion, its texts and attachments."""

from __future__ import annotations

import base64
import binascii
from typing import Any

from lianxin.exchange.v2.mapping.compiler import Compiler, Get, function
from lianxin.exchange.v2.mapping.functions import line, plain, repetitions, warn
from lianxin.exchange.v2.mapping.functions_values import lines_of, text_of
from lianxin.exchange.v2.mapping.groups import Env, Run
from lianxin.exchange.v2.mapping.tables import Table, folded
from lianxin.exchange.v2.message import Segment
from lianxin.standards.text import T


@function("told")
def _told(c: Compiler, args: tuple[Any, ...]) -> Get:
    """``told(group, words)``: the texts of a group's observations; ``words``: only those whose code or name is in that setting."""
    names = c.constants(args)
    c.inside()
    wanted = frozenset(folded(w) for w in c.settings.get(names[1], "").split()) if len(names) > 1 else None
    c.reads("OBX", 3)
    c.reads("OBX", 5)

    def get(env: Env) -> str:
        out = []
        for kid in env.kids.get(names[0], ()):
            segment = kid.one["OBX"]
            if segment.raw(2).upper() not in ("TX", "FT", "ST", "") or len(segment.fields) < 6:
                continue
            if wanted is not None and not _named(env.run, segment.fields[3], wanted):
                continue
            text = text_of(kid, "OBX", 5)
            if text:
                out.append(text)
        return "\n".join(out)

    return get


def _named(run: Run, raw: str, wanted: frozenset[str]) -> bool:
    """Whether a code (its identifier, its suffix, or its name) is one of those asked for."""
    marks = run.message.separators
    parts = [p for c in raw.split(marks.component)[:5] for p in (c.split(marks.sub) if marks.sub else [c])]
    return any(folded(p) in wanted for p in parts if p)


@function("together")
def _together(c: Compiler, args: tuple[Any, ...]) -> Get:
    """``together(group)``: the status of a report from those of its results, when it says none itself."""
    (name,) = c.constants(args)
    c.inside()
    table = c.tables.get("observation-status")
    assert table is not None
    c.reads("OBX", 11)

    def get(env: Env) -> str:
        given = {
            table.code(said) for kid in env.kids.get(name, ()) if (said := kid.one["OBX"].text(11).strip())
        }
        for one in ("cancelled", "entered-in-error"):
            if given == {one}:
                return one
        given -= {"cancelled", "entered-in-error", None}
        if given & {"preliminary", "registered"}:
            return "partial" if given & {"final", "corrected", "amended"} else "preliminary"
        return (
            "corrected"
            if "corrected" in given
            else "amended"
            if "amended" in given
            else "final"
            if "final" in given
            else ""
        )

    return get


@function("observed")
def _observed(c: Compiler, args: tuple[Any, ...]) -> Get:
    """``observed(group)``: a group's observations as lines of text, for resources that have no place for them."""
    (name,) = c.constants(args)
    c.inside()
    c.reads("OBX", 3)
    c.reads("OBX", 5)
    c.reads("OBX", 6)

    def get(env: Env) -> Any:
        out = []
        for kid in env.kids.get(name, ()):
            segment, run = kid.one["OBX"], env.run
            parts = (repetitions(run, segment.raw(3)) or [[""]])[0]
            label = line(plain(run, parts, 2) or plain(run, parts, 1))
            told = (repetitions(run, segment.raw(5)) or [[""]])[0]
            coded = segment.raw(2).upper() in ("CE", "CWE", "CNE")
            shown = (plain(run, told, 2) if coded else "") or text_of(kid, "OBX", 5)
            unit = plain(run, (repetitions(run, segment.raw(6)) or [[""]])[0], 1)
            if segment.raw(2).upper() not in ("ED", "RP") and shown:
                out.append(f"{label}: {shown} {unit}".strip())
        return [{"text": "\n".join(out)}] if out else None

    return get


@function("contents")
def _contents(c: Compiler, args: tuple[Any, ...]) -> Get:
    """``contents(group)``: the contents of a document (or of this OBX): its attachments, and all its text as one text/plain."""
    names = c.constants(args)
    c.inside()
    media = c.tables.get("media")
    assert media is not None
    c.reads("OBX", 2)
    c.reads("OBX", 3)
    c.reads("OBX", 4)
    c.reads("OBX", 5)

    def get(env: Env) -> Any:
        texts: list[str] = []
        out: list[dict[str, Any]] = []
        for kid in env.kids.get(names[0], ()) if names else (env,):
            for segment in kid.every.get("OBX", ()):
                if segment.raw(2).upper() in ("ED", "RP"):
                    made = _attachment(env.run, segment, media)
                    if made:
                        out.append({"attachment": made})
                else:
                    texts += lines_of(env.run, segment, 5)
        text = "\n".join(texts).strip()
        if text:
            data = text.encode()
            shown = {
                "contentType": "text/plain; charset=utf-8",
                "data": base64.b64encode(data).decode("ascii"),
                "size": len(data),
            }
            out.insert(0, {"attachment": shown})
        return out or [{"attachment": {"title": env.run.message.control_id[:100] or "-"}}]

    return get


@function("attachments")
def _attachments(c: Compiler, args: tuple[Any, ...]) -> Get:
    """``attachments(group)``: what came as ED or RP in a group's observations (or in this OBX), as Attachments."""
    names = c.constants(args)
    c.inside()
    media = c.tables.get("media")
    assert media is not None
    c.reads("OBX", 2)
    c.reads("OBX", 3)
    c.reads("OBX", 5)

    def get(env: Env) -> Any:
        kids = env.kids.get(names[0], ()) if names else (env,)
        return [
            made
            for kid in kids
            for segment in kid.every.get("OBX", ())
            if segment.raw(2).upper() in ("ED", "RP") and (made := _attachment(env.run, segment, media))
        ]

    return get


def _attachment(run: Run, segment: Segment, media: Table) -> dict[str, Any] | None:
    parts = (repetitions(run, segment.raw(5)) or [[""]])[0]
    title = line(plain(run, segment.raw(3).split(run.message.separators.component), 2)) or line(
        segment.text(3)
    )
    named = [plain(run, parts, n) for n in (3, 2, 4)]
    kind = next(
        (found for n in named if n and (found := media.code(n) or media.code(n.rsplit("/", 1)[-1]))), ""
    )
    made: dict[str, Any] = {}
    if segment.raw(2).upper() == "RP":
        pointer = plain(run, parts, 1)
        if not pointer:
            return None
        made["url"] = (
            pointer.replace(" ", "%20")
            if "://" in pointer or pointer.startswith("urn:")
            else f"urn:lianxin:v2:file:{pointer.replace(' ', '%20')}"
        )
    else:
        data = _data(run, parts)
        if data is None:
            said = T(
                "OBX 的附件（ED）不能解码，未采用。",
                "The attachment (ED) of an OBX cannot be decoded; it was left out.",
            )
            warn(run, said)
            return None
        kind = _format(data) or kind
        made["data"] = base64.b64encode(data).decode("ascii")
        made["size"] = len(data)
    if kind or "data" in made:
        made["contentType"] = kind or "application/octet-stream"
    if title:
        made["title"] = title
    return made


def _data(run: Run, parts: list[str]) -> bytes | None:
    """The bytes of an ED: Base64, hexadecimal, or text as it stands (A).

    The data follow the encoding (HL7 table 0299), wherever a sender that writes type and subtype as one puts it.
    """
    at = next((n for n in range(len(parts) - 1) if parts[n].strip().upper() in ("BASE64", "HEX")), 3)
    encoding = plain(run, parts, at + 1).upper()
    text = run.message.unescape(parts[at + 1]) if len(parts) > at + 1 else ""
    if not text and len(parts) == 1:
        text, encoding = run.message.unescape(parts[0]), "BASE64"
    if not text.strip():
        return None
    try:
        if encoding == "HEX":
            return bytes.fromhex("".join(text.split()))
        if encoding == "A":
            return text.encode()
        return base64.b64decode("".join(text.split()), validate=True)
    except (ValueError, binascii.Error):
        return None


def _format(data: bytes) -> str:
    """The format that the first bytes prove."""
    for start, kind in (
        (b"%PDF-", "application/pdf"),
        (b"\xff\xd8\xff", "image/jpeg"),
        (b"\x89PNG", "image/png"),
        (b"GIF8", "image/gif"),
    ):
        if data.startswith(start):
            return kind
    return "application/dicom" if data[128:132] == b"DICM" else ""
