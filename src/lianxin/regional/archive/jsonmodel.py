"""A data set in the DICOM JSON model (PS3.18 annex F), from a walk over its bytes: large values are links, nothing is loaded for them."""

from __future__ import annotations

import base64
import contextlib
import struct
from typing import Any

from pydicom._dicom_dict import DicomDictionary
from pydicom.datadict import dictionary_VR

from lianxin.regional.archive import header, query, store, walk
from lianxin.regional.archive.deliver import Corrections, corrections
from lianxin.regional.archive.models import Instance
from lianxin.regional.archive.walk import Damaged, Element, Syntax, Walk

INLINE = 1024
"""Binary values up to this many bytes stand in the answer, longer ones are links."""
_BINARY = frozenset(["OB", "OD", "OF", "OL", "OV", "OW", "UN"])
_ONE = frozenset(["LT", "ST", "UT", "UR"])
_NUMBER = {"FL": ("f", 4), "FD": ("d", 8), "SL": ("l", 4), "SS": ("h", 2), "UL": ("L", 4), "US": ("H", 2), "SV": ("q", 8), "UV": ("Q", 8)}  # fmt: skip
_TEXT = frozenset(["AE", "AS", "CS", "DA", "DS", "DT", "IS", "LO", "LT", "PN", "SH", "ST", "TM", "UC", "UI", "UR", "UT"])  # fmt: skip
_EITHER = {"US or SS": "US", "OB or OW": "OW", "US or OW": "OW", "US or SS or OW": "OW"}


class _Reader:
    """Turns elements into JSON. ``link``: the beginning of addresses of large values."""

    def __init__(self, data: Any, kind: Syntax, link: str) -> None:
        self.data, self.kind, self.link = data, kind, link
        self.order = "<" if kind.little else ">"
        self.names = ["iso8859"]
        self.signed = False
        self.walker = Walk(data, kind)

    def dataset(self, at: int, until: int | None, depth: int, path: str) -> dict[str, Any]:
        made: dict[str, Any] = {}
        for element in self.walker.elements(at, until, depth):
            tag = element.tag
            if tag & 0xFFFF == 0 or tag == 0xFFFCFFFC:
                continue
            name = f"{tag:08X}"
            made[name] = self.value(element, name, depth, path)
        return made

    def vr(self, element: Element) -> str:
        if element.vr and element.vr != b"UN":
            return element.vr.decode()
        found = _vr_of(element.tag)
        if not element.vr or element.undefined:
            if found == "US" and self.signed and _either(element.tag):
                return "SS"
            return "SQ" if element.undefined and element.tag != walk.PIXELS else found
        return "UN"

    def value(self, element: Element, name: str, depth: int, path: str) -> dict[str, Any]:
        vr = self.vr(element)
        size = element.stop - element.value
        if element.tag == 0x00080005:
            self.names = header.encodings(self._raw(element).decode("ascii", "replace").strip("\0 "))
            return {"vr": "CS", "Value": ["ISO_IR 192"]}
        if vr == "SQ":
            return self._sequence(element, name, depth, path)
        if size == 0:
            return {"vr": vr}
        if vr in _BINARY or (vr not in _TEXT and vr not in _NUMBER and vr != "AT"):
            if element.undefined or size > INLINE or element.tag == walk.PIXELS:
                return {"vr": vr, "BulkDataURI": f"{self.link}{path}{name}"}
            return {"vr": vr, "InlineBinary": base64.b64encode(self._raw(element)).decode()}
        if vr in _TEXT:
            return {"vr": vr, "Value": self._texts(vr, self._raw(element))}
        if vr == "AT":
            found = struct.unpack(f"{self.order}{size // 4 * 2}H", self._raw(element)[: size // 4 * 4])
            return {
                "vr": vr,
                "Value": [f"{found[n]:04X}{found[n + 1]:04X}" for n in range(0, len(found), 2)],
            }
        code, width = _NUMBER[vr]
        if size > INLINE * 16:
            return {"vr": vr, "BulkDataURI": f"{self.link}{path}{name}"}
        raw = self._raw(element)[: size // width * width]
        values = list(struct.unpack(f"{self.order}{len(raw) // width}{code}", raw))
        if element.tag == 0x00280103 and values:
            self.signed = values[0] == 1
        return {"vr": vr, "Value": values} if values else {"vr": vr}

    def _raw(self, element: Element) -> bytes:
        return bytes(self.data[element.value : element.stop])

    def _sequence(self, element: Element, name: str, depth: int, path: str) -> dict[str, Any]:
        inner = self
        if element.vr == b"UN":  # PS3.5 6.2.2: inside it is implicit, little endian
            inner = _Reader(self.data, Syntax(False, True), self.link)
            inner.names, inner.signed = self.names, self.signed
        kept = inner.names
        items = []
        for n, (value, stop, _) in enumerate(
            inner.walker.items(element.value, element.stop, depth + 1, False), 1
        ):
            items.append(inner.dataset(value, stop, depth + 1, f"{path}{name}/{n}/"))
            inner.names = kept
        return {"vr": "SQ", "Value": items} if items else {"vr": "SQ"}

    def _texts(self, vr: str, raw: bytes) -> list[Any]:
        if vr == "PN":
            return [
                query.person_name(one) or None
                for one in header.decode(raw, self.names, person=True).split("\\")
            ]
        whole = header.decode(raw, self.names) if vr not in ("UI", "DA", "TM", "CS", "IS", "DS") else raw.decode("ascii", "replace")  # fmt: skip
        if vr in _ONE:
            return [whole.rstrip("\0 ")]
        parts = [part.strip("\0 ") for part in whole.split("\\")]
        if vr in ("IS", "DS"):
            return [_numeric(vr, part) for part in parts]
        return [part or None for part in parts]


def _numeric(vr: str, part: str) -> Any:
    if not part:
        return None
    with contextlib.suppress(ValueError):
        number = int(part) if vr == "IS" else float(part)
        if number == number and abs(number) < 2**53:
            return int(number) if vr == "DS" and "." not in part and "e" not in part.lower() else number
    return part


def _either(tag: int) -> bool:
    return DicomDictionary.get(tag, ("",))[0] == "US or SS"


def _vr_of(tag: int) -> str:
    found = DicomDictionary.get(tag)
    if found is not None:
        return _EITHER.get(found[0], found[0])
    if tag >> 16 & 1:
        return "LO" if 0x10 <= tag & 0xFFFF <= 0xFF else "UN"
    try:
        vr = dictionary_VR(tag)
    except KeyError:
        return "UN"
    return _EITHER.get(vr, vr)


def metadata(instance: Instance, base: str) -> dict[str, Any]:
    """The header of an instance as it is delivered; ``base``: the address of the instance. Raises Damaged, Full."""
    with store.opened(instance.path) as data, memoryview(data) as view, view[instance.offset :] as part:
        found = dataset(part, instance.transfer_syntax, f"{base}/bulkdata/")
    _correct(found, corrections(instance))
    found["00083002"] = {"vr": "UI", "Value": [instance.transfer_syntax]}
    return found


def dataset(data: Any, transfer_syntax: str, link: str) -> dict[str, Any]:
    """A data set (any buffer) in the JSON model. Raises Damaged."""
    inner: Any = walk.inflated(data) if transfer_syntax == walk.DEFLATED else data
    reader = _Reader(inner, walk.syntax_of(transfer_syntax, inner), link)
    return reader.dataset(0, None, 0, "")


def _correct(found: dict[str, Any], wanted: Corrections) -> None:
    for tag, (vr, value) in wanted.items():
        name = f"{tag:08X}"
        if value is None:
            found.pop(name, None)
        elif vr == b"PN":
            found[name] = {"vr": "PN", "Value": [query.person_name(value)]}
        else:
            found[name] = {"vr": vr.decode(), "Value": [value]} if value else {"vr": vr.decode()}


def bulk(instance: Instance, path: list[str]) -> tuple[int, int] | bytes:
    """Where a large value is in an instance's file (begin, end), or the value itself when the file is deflated.

    ``path``: as in the links of :func:`metadata` ("00720050", "1", "00720026"). Raises KeyError, Damaged, Full.
    """
    if len(path) % 2 == 0 or len(path) > 2 * walk.DEEPEST:
        raise KeyError("/".join(path))
    with store.opened(instance.path) as data, memoryview(data) as view, view[instance.offset :] as part:
        deflated = instance.transfer_syntax == walk.DEFLATED
        inner: Any = walk.inflated(part) if deflated else part
        reader = _Reader(inner, walk.syntax_of(instance.transfer_syntax, inner), "")
        begin, end = _located(reader, path)
        return inner[begin:end] if deflated else (instance.offset + begin, instance.offset + end)


def _located(reader: _Reader, path: list[str]) -> tuple[int, int]:
    at, until = 0, None
    walker = reader.walker
    for depth, n in enumerate(range(0, len(path), 2)):
        element = next(
            (e for e in walker.elements(at, until, depth) if f"{e.tag:08X}" == path[n].upper()), None
        )
        if element is None:
            raise KeyError("/".join(path))
        if n + 1 == len(path):
            return element.value, element.stop
        if not path[n + 1].isdigit():
            raise KeyError("/".join(path))
        if element.vr == b"UN":
            walker = Walk(reader.data, Syntax(False, True))
        for number, (value, stop, _) in enumerate(walker.items(element.value, element.stop, depth + 1), 1):
            if number == int(path[n + 1]):
                at, until = value, stop
                break
        else:
            raise KeyError("/".join(path))
    raise Damaged("no such value")
