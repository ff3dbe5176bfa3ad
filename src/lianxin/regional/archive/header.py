"""What the archive needs to know of an instance, from its header: ids, whose it claims to be, times, sizes.

Text is decoded by the data set's own character set (ISO 2022 with IR 58, GB18030, GBK, UTF-8 …); what cannot be decoded does not stop
an image from being kept.
"""

from __future__ import annotations

import datetime as dt
import mmap
import re
import struct
from dataclasses import dataclass, field
from typing import Any
from zoneinfo import ZoneInfo

from pydicom import charset as charsets

from lianxin.regional.archive import walk
from lianxin.regional.archive.walk import Damaged, Walk

UID = re.compile(r"[0-9]+(\.[0-9]+){0,31}")
_TAGS = {
    0x00080005: "charset", 0x00080016: "sop_class", 0x00080018: "sop_uid", 0x00080020: "study_date", 0x00080021: "series_date",
    0x00080022: "acquisition_date", 0x00080023: "content_date", 0x00080030: "study_time", 0x00080031: "series_time",
    0x00080032: "acquisition_time", 0x00080033: "content_time", 0x00080050: "accession", 0x00080060: "modality",
    0x00080080: "institution", 0x00080090: "referrer", 0x00080201: "zone", 0x00081010: "station", 0x00081030: "description",
    0x0008103E: "series_description", 0x00100010: "name", 0x00100020: "patient_id", 0x00100030: "birth", 0x00100040: "sex",
    0x00180015: "body_part", 0x0020000D: "study_uid", 0x0020000E: "series_uid", 0x00200010: "study_id", 0x00200011: "series_number",
    0x00200013: "number", 0x00280008: "frames",
}  # fmt: skip
_NUMBERS = {0x00280010: "rows", 0x00280011: "columns", 0x00280100: "bits"}
_LONGEST = 1024
_ESCAPE = re.compile(r"\x1b[ -/]+[0-~]")
"""An escape sequence (ISO 2022) that the decoder leaves standing."""
_UPPER = re.compile("[\x80-\xff]{4}")
_PERSON, _TEXT = set(b"^=\\"), set(b"\r\n\t\f\\")
"""After these a text is in its first character set again (PS3.5 6.1.2.5.3)."""
CHINA = ZoneInfo("Asia/Shanghai")


@dataclass
class Facts:
    """The header of one instance; times are aware, texts decoded and stripped."""

    study_uid: str = ""
    series_uid: str = ""
    sop_uid: str = ""
    sop_class: str = ""
    transfer_syntax: str = ""
    accession: str = ""
    patient_id: str = ""
    name: str = ""
    birth: str = ""
    sex: str = ""
    modality: str = ""
    description: str = ""
    series_description: str = ""
    referrer: str = ""
    study_id: str = ""
    station: str = ""
    institution: str = ""
    body_part: str = ""
    charset: str = ""
    study_at: dt.datetime | None = None
    series_at: dt.datetime | None = None
    made_at: dt.datetime | None = None
    series_number: int | None = None
    number: int | None = None
    rows: int | None = None
    columns: int | None = None
    bits: int | None = None
    frames: int = 1
    offset: int = 0
    size: int = 0
    pixels: bool = field(default=False)

    def claim(self) -> tuple[str, ...]:
        """What the header says about whose it is."""
        return (self.accession, self.patient_id, self.name, self.birth, self.sex)


def encodings(value: str) -> list[str]:
    """Python's names for a Specific Character Set; GB18030 for what calls itself GBK, Latin 1 for what nobody knows."""
    parts = [part.strip() for part in value.split("\\")] if value else [""]
    try:
        return [str(e) for e in charsets.convert_encodings(parts)]
    except (LookupError, ValueError):
        return ["iso8859"]


def decode(raw: bytes, names: list[str], person: bool = False) -> str:
    """Text of a value; bytes that are no text of the character set become U+FFFD."""
    if raw.isascii() and b"\x1b" not in raw:
        return raw.decode("ascii").rstrip("\0 ").lstrip(" ")
    if "iso_ir_58" in names and b"\x1b" not in raw:  # declared, and the escapes forgotten
        return (_rescued(raw) or raw.decode("gb18030", "replace")).replace("\0", "").strip(" ")
    try:
        text = charsets.decode_bytes(raw, names, _PERSON if person else _TEXT)
    except (LookupError, ValueError, UnicodeError):
        text = raw.decode("latin-1")
    if "\ufffd" in text or _garbled(text):
        text = _rescued(raw) or text
    return _ESCAPE.sub("", text).replace("\0", "").strip(" ")


def _garbled(text: str) -> bool:
    """Whether text that was read as Latin 1 is mostly its upper half, or has four such letters in a row."""
    if _UPPER.search(text):
        return True
    upper = sum(1 for c in text if "\x80" <= c <= "\xff")
    return upper >= 2 and upper * 2 >= len(text)


def _rescued(raw: bytes) -> str:
    """Chinese devices often write UTF-8 or GBK and declare nothing."""
    if b"\x1b" in raw:
        return ""
    for name in ("utf-8", "gb18030"):
        try:
            text = raw.decode(name)
        except UnicodeDecodeError:
            continue
        if any("\u4e00" <= c <= "\u9fff" for c in text):
            return text
    return ""


def read(data: Any, transfer_syntax: str) -> Facts:
    """The facts of a data set (any buffer), having walked all of it. Raises Damaged."""
    if transfer_syntax == walk.DEFLATED:
        data = inflated = walk.inflated(data)
        size = len(inflated)
    else:
        size = len(data)
    syntax = walk.syntax_of(transfer_syntax, data)
    order = "<" if syntax.little else ">"
    facts = Facts(transfer_syntax=transfer_syntax)
    texts: dict[str, bytes] = {}
    last = -1
    for element in Walk(data, syntax, size).elements():
        tag = element.tag
        if tag < last and tag < 0x00300000:
            raise Damaged(f"element {tag:08X} stands after {last:08X}")
        last = tag
        if tag in _TAGS:
            if element.stop - element.value > _LONGEST:
                raise Damaged(f"element {tag:08X} is too long")
            texts[_TAGS[tag]] = bytes(data[element.value : element.stop])
        elif tag in _NUMBERS and element.stop - element.value >= 2:
            setattr(facts, _NUMBERS[tag], struct.unpack_from(order + "H", data, element.value)[0])
        elif tag == walk.PIXELS:
            facts.pixels = True
    _fill(facts, texts)
    return facts


def _fill(facts: Facts, texts: dict[str, bytes]) -> None:
    facts.charset = texts.pop("charset", b"").decode("ascii", "replace").strip("\0 ")
    names = encodings(facts.charset)
    times: dict[str, str] = {}
    for name, raw in texts.items():
        value = decode(raw, names, person=name in ("name", "referrer"))
        if name.endswith(("_date", "_time")) or name == "zone":
            times[name] = value
        elif name in ("series_number", "number", "frames"):
            setattr(facts, name, _whole(value) if name != "frames" else max(1, _whole(value) or 1))
        else:
            setattr(facts, name, value)
    for name in ("study_uid", "series_uid", "sop_uid", "sop_class"):
        value = getattr(facts, name)
        if len(value) > 64 or not UID.fullmatch(value):
            raise Damaged(f"{name} is no UID")
    facts.accession = facts.accession[:64]
    for when in ("study", "series", "acquisition", "content"):
        at = instant(times.get(f"{when}_date", ""), times.get(f"{when}_time", ""), times.get("zone", ""))
        if when in ("study", "series"):
            setattr(facts, f"{when}_at", at)
        elif at is not None:
            facts.made_at = at
    facts.birth = facts.birth.replace(".", "").replace("-", "")[:8]
    facts.sex = facts.sex[:1].upper()
    for name, most in (("modality", 16), ("body_part", 40), ("description", 120), ("series_description", 120),
                       ("referrer", 80), ("study_id", 16)):  # fmt: skip
        setattr(facts, name, getattr(facts, name)[:most])


def _whole(text: str) -> int | None:
    text = text.split("\\")[0].strip()
    digits = text.lstrip("+-")
    return (
        max(-(2**31), min(2**31 - 1, int(text)))
        if digits.isdigit() and digits.isascii() and len(digits) < 13
        else None
    )


def instant(date: str, time: str, zone: str = "") -> dt.datetime | None:
    """A DA and a TM as an instant (the house's zone unless the header has an offset); None when they are none."""
    date = date.replace(".", "").replace("-", "")[:8]
    digits = re.sub(r"[^0-9]", "", time.split(".")[0])[:6].ljust(6, "0")
    try:
        at = dt.datetime.strptime(date + digits, "%Y%m%d%H%M%S")
    except ValueError:
        try:
            at = dt.datetime.strptime(date, "%Y%m%d")
        except ValueError:
            return None
    tz: dt.tzinfo = CHINA
    if re.fullmatch(r"[+-][0-9]{4}", zone):
        minutes = int(zone[1:3]) * 60 + int(zone[3:5])
        tz = dt.timezone(dt.timedelta(minutes=min(minutes, 14 * 60) * (-1 if zone[0] == "-" else 1)))
    try:
        return at.replace(tzinfo=tz).astimezone(dt.UTC)
    except OverflowError:
        return None


def meta(data: Any, size: int) -> tuple[str, int]:
    """Transfer syntax and where the data set begins of a DICOM file (PS3.10 7.1). Raises Damaged: no such file."""
    if size < 140 or bytes(data[128:132]) != b"DICM":
        raise Damaged("no DICOM file: the prefix is missing")
    walker = Walk(data, walk.Syntax(True, True), size)
    syntax, at = "", 132
    while at + 8 <= size and bytes(data[at : at + 2]) == b"\x02\0":
        element = next(walker.elements(at))
        if element.tag == 0x00020010:
            syntax = bytes(data[element.value : element.stop]).rstrip(b"\0 ").decode("ascii", "replace")
        at = element.end
    if not UID.fullmatch(syntax) or len(syntax) > 64:
        raise Damaged("no transfer syntax in the file's meta information")
    return syntax, at


def read_file(path: str) -> Facts:
    """The facts of a DICOM file on disk. Raises Damaged, OSError."""
    with open(path, "rb") as file:
        try:
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
                size = len(data)
                syntax, at = meta(data, size)
                view = memoryview(data)
                part = view[at:]
                try:
                    facts = read(part, syntax)
                finally:
                    part.release()
                    view.release()
        except ValueError as error:
            if isinstance(error, Damaged):
                raise
            raise Damaged("an empty file") from error
    facts.offset, facts.size = at, size - at
    return facts
