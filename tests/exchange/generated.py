"""FHIR resources of every type made from the element tables, and what strangers make of them.

``resource`` gives a sound-looking resource (cardinalities, choices, codes, formats, reference targets; invariants are not
looked after); ``dump`` writes it with digits, blanks and escapes of its own; ``spoil`` and ``garble`` break it.
Everything comes from the ``random.Random`` given, so that hypothesis or a seed decides.
"""

from __future__ import annotations

import copy
import json
from random import Random
from typing import Any

from lianxin.record import definitions

DEEPEST = 4


class Exact(str):
    """A number that is to be written with exactly these digits."""


TEXTS = (
    "血压 120/80",
    "é\u0301",
    "line\nfeed\ttab",
    'quote " and \\ back',
    "👩‍⚕️🏥",
    "\u202eright to left",
    "</script>",
    "a'b;--",
    "𠮷田",
    "ß",
    "x" * 300,
    "/",
    "{}",
    "null",
)
NUMBERS = (
    "0",
    "1.10",
    "-0.0",
    "0.000",
    "120",
    "1e3",
    "1.50E-7",
    "98.600000000000000001",
    "-7.25",
    "123456789012345678.5",
    "1e-400"[:4],
)
DAYS = ("1970", "2026-02", "2024-02-29", "1899-12-31", "2026-03-01")
TIMES = (
    "2026-03-01T08:00:00Z",
    "2026-03-01T08:00:00.123456+08:00",
    "2015-02-07T13:28:17.239+02:00",
    "1969-12-31T23:59:59-05:00",
)
SHOTS = {
    "boolean": (True, False), "integer": (0, -1, 2147483647), "positiveInt": (1, 7), "unsignedInt": (0, 7), "date": DAYS, "dateTime": DAYS + TIMES,
    "instant": TIMES, "time": ("00:00:00", "23:59:59.5"), "uri": ("urn:oid:1.2.3", "http://example.org/x?y=z#w", "urn:uuid:c757873d-ec9a-4326-a141-556f43239520"),
    "url": ("http://example.org/a",), "canonical": ("http://example.org/q|1.0",), "oid": ("urn:oid:1.2.840.113883",), "uuid": ("urn:uuid:c757873d-ec9a-4326-a141-556f43239520",),
    "id": ("a", "A-1.b"), "code": ("x", "a b"), "base64Binary": ("QUJD", "QUI="), "markdown": TEXTS, "string": TEXTS,
    "xhtml": ('<div xmlns="http://www.w3.org/1999/xhtml"><p>&#20013; &lt;x</p></div>',),
}  # fmt: skip


def resource(rtype: str, rnd: Random, patient: str, fullness: float = 0.25) -> dict[str, Any]:
    """A resource of a type; every reference to a Patient is to ``patient`` (an id)."""
    made = {"resourceType": rtype, **_object(rtype, rnd, patient, fullness, 0)}
    for name in ("contained", "implicitRules", "language", "id"):
        made.pop(name, None)
    return made


def _object(name: str, rnd: Random, patient: str, fullness: float, depth: int) -> dict[str, Any]:
    made: dict[str, Any] = {}
    rows = definitions.elements(name)
    for element, row in rows.items():
        if element == "contained" or (
            element in ("extension", "modifierExtension") and name != "Extension" and rnd.random() > 0.03
        ):
            continue
        if not row[0] and (depth >= DEEPEST or rnd.random() > fullness / (depth + 1)):
            continue
        option = rnd.choice([part for part in row[2].split("|") if part])
        base, _, rest = option.partition("(")
        key = element.removesuffix("[x]") + base[0].upper() + base[1:] if element.endswith("[x]") else element
        if base.lstrip("@") in ("Resource",):
            continue
        codes = row[3] if len(row) > 3 else ""
        targets = rest.rstrip(")").split(",") if rest else []
        values = [
            _value(base.lstrip("@"), codes, targets, rnd, patient, fullness, depth)
            for _ in range(1 if row[1] == 1 else rnd.choice((1, 1, 2)))
        ]
        made[key] = values[0] if row[1] == 1 else values
    if name == "Extension":
        made = {"url": "http://example.org/ext", "valueString": rnd.choice(TEXTS)}
    if not made and rows:
        made = {"extension": [{"url": "http://example.org/ext", "valueBoolean": True}]}
    return made


def _value(
    kind: str, codes: str, targets: list[str], rnd: Random, patient: str, fullness: float, depth: int
) -> Any:
    if codes:
        return rnd.choice(sorted(definitions.codes(codes)))
    if kind == "decimal":
        return Exact(rnd.choice(NUMBERS))
    if kind in SHOTS:
        return rnd.choice(SHOTS[kind])
    if kind == "Reference":
        target = rnd.choice(targets or ["Organization"])
        if "Patient" in targets or target in ("Patient", "Resource"):
            return {"reference": f"Patient/{patient}"}
        return {"reference": f"{target}/{rnd.choice(('a', 'b-2'))}", "display": rnd.choice(TEXTS)}
    if kind in definitions.primitives():
        return "x"
    return _object(kind, rnd, patient, fullness, depth + 1)


def dump(value: Any, rnd: Random) -> str:
    """JSON text: blanks and escapes as it pleases, exact digits."""
    blank = rnd.choice(("", "", " ", "\n  "))
    if isinstance(value, Exact):
        return str(value)
    if isinstance(value, dict):
        return "{" + ",".join(f"{blank}{json.dumps(k)}:{blank}{dump(v, rnd)}" for k, v in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ",".join(blank + dump(v, rnd) for v in value) + "]"
    return json.dumps(value, ensure_ascii=rnd.random() < 0.3)


# --------------------------------------------------------------------------------------------------------------- broken


NASTY: tuple[Any, ...] = (
    None, True, 0, -1, 10**40, Exact("1e999999"), Exact("-" + "9" * 400), 1.5, "", " ", "\u0001", "\ud800", "a" * 70_000, [], {}, [[]], [None], {"": ""}, {"a": {"b": {}}},
    "'; DROP TABLE record_resource; --", "%s%n{0}", "9999-99-99", "0000-01-01T99:99:99Z", "2026-03-01T08:00:00+99:00", "Patient/../../etc", "Patient/" + "x" * 300, "#", "#none",
    "urn:uuid:", "http://[::1", "javascript:alert(1)", "https://example.org/" + "a/" * 2000, "(a+)+" * 50, "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa!", "=" * 30_000, "\u202e",
    "Patient?name=x", {"reference": "Patient/"}, {"reference": 7}, {"reference": "Patient?name=%00"}, {"resourceType": "Patient"}, ["x"] * 3000, {"extension": [{"extension": [{}]}]},
)  # fmt: skip


def nasty(rnd: Random) -> Any:
    """One of the nasty values, its own copy."""
    return copy.deepcopy(rnd.choice(NASTY))


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Paths of everything below a value."""
    found = []
    for key, item in (
        value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    ):
        found += [(*path, key), *places(item, (*path, key))]
    return found


def spoil(value: dict[str, Any], rnd: Random) -> dict[str, Any]:
    """The resource with one to three members replaced, removed, doubled, renamed or added."""
    value = json.loads(json.dumps(value))
    for _ in range(rnd.choice((1, 1, 2, 3))):
        known = places(value)
        if not known:
            return value
        *way, last = rnd.choice(known)
        holder: Any = value
        for step in way:
            holder = holder[step]
        match rnd.randrange(6):
            case 0 if isinstance(holder, dict):
                del holder[last]
            case 1 if isinstance(holder, dict):
                holder[f"_{last}"] = nasty(rnd)
            case 2 if isinstance(holder, dict):
                holder[
                    rnd.choice(
                        (
                            "shoe",
                            "",
                            "valueX",
                            "__proto__",
                            "resourceType",
                            "id",
                            "contained",
                            "extension",
                            "meta",
                        )
                    )
                ] = nasty(rnd)
            case 3:
                holder[last] = [holder[last]]
            case 4:
                holder[last] = {"value": holder[last]}
            case _:
                holder[last] = nasty(rnd)
    return value


def garble(raw: bytes, rnd: Random) -> bytes:
    """The text cut, doubled, or with a few bytes of something else."""
    at = rnd.randrange(len(raw) + 1)
    match rnd.randrange(6):
        case 0:
            return raw[:at]
        case 1:
            return (
                raw[:at]
                + rnd.choice(
                    (
                        b"\x00",
                        b"\xff\xfe",
                        b"\xed\xa0\x80",
                        b"\\u0000",
                        b"\\ud83d",
                        b"NaN",
                        b"//c\n",
                        b"'",
                        b"}",
                        b"]",
                        b'"',
                        b",",
                        b"\xef\xbb\xbf",
                    )
                )
                + raw[at:]
            )
        case 2:
            return raw + raw
        case 3:
            return raw[:1] + raw[1:].replace(b"{", b"[", 1)
        case 4:
            return b"\xef\xbb\xbf" + raw
        case _:
            return raw.replace(b":", b"=", 1)
