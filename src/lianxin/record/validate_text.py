"""Primitive values: whether a JSON value is a value of an R4 primitive type, and which XHTML a narrative may hold.

The XHTML rules are those of txt-1 and txt-2 (R4 narrative, "Narrative Content"): formatting elements of HTML 4.0 chapters
7 to 11 and 15, anchors, images and style; nothing that runs, loads a style sheet or leads to a script.
"""

import binascii
import re
from collections.abc import Callable
from datetime import date
from html.entities import name2codepoint
from typing import Any
from xml.parsers import expat

from lianxin.record import definitions

TEXTUAL = frozenset({"string", "markdown"})
NUMERIC = frozenset({"integer", "positiveInt", "unsignedInt"})
MAX_STRING = 1_048_576
BLANK = re.compile(r"\s+")

XHTML = "http://www.w3.org/1999/xhtml"
_ELEMENTS = (
    "a abbr acronym address area b bdo big blockquote br caption cite code col colgroup dd del dfn div dl dt em h1 h2 h3 "
    "h4 h5 h6 hr i img ins kbd li map ol p pre q s samp small span strike strong sub sup table tbody td tfoot th thead tr "
    "tt u ul var"
)
ELEMENTS = frozenset(_ELEMENTS.split())
_ATTRIBUTES = (
    "abbr accesskey align alt axis bgcolor border cellpadding cellspacing char charoff charset cite class clear color "
    "colspan compact coords datetime dir face frame headers height href hreflang hspace id ismap lang longdesc name nohref "
    "noshade nowrap rel rev rowspan rules scope shape size span src start style summary tabindex title type usemap valign "
    "value vspace width xml:lang xmlns xml:space"
)
ATTRIBUTES = frozenset(_ATTRIBUTES.split())
LINKS = frozenset({"href", "src", "cite", "longdesc", "usemap"})
SAFE_LINK = re.compile(
    r"(?:https?|ftp|mailto|tel|urn|cid):|#|[^:]*(?:[/?#]|$)|data:image/(?:png|jpe?g|gif|webp|bmp);", re.I
)
UNSAFE_STYLE = re.compile(r"expression|url\s*\(|@import|javascript:|behaviou?r|-moz-binding|\\", re.I)
PLAIN = re.compile(r'<div(?: xmlns="http://www\.w3\.org/1999/xhtml")?>\s*+[^<&\s][^<&]*+</div>')
MAX_TAGS = 100_000
MAX_NESTED = 200


class _Refused(Exception):
    """The narrative holds something it must not."""


def safe_xhtml(text: str) -> bool:
    """Whether a narrative is one well-formed ``div`` of allowed elements and attributes that says something."""
    if PLAIN.fullmatch(text):
        return True
    if not text.lstrip().startswith("<div"):
        return False
    said = depth = tags = 0

    def start(name: str, attributes: dict[str, str]) -> None:
        nonlocal said, depth, tags
        tags += 1
        depth += 1
        if name not in ELEMENTS or depth > MAX_NESTED or tags > MAX_TAGS:
            raise _Refused(name)
        said |= name == "img"
        for key, value in attributes.items():
            if (
                key not in ATTRIBUTES
                or (key in LINKS and not SAFE_LINK.match(value.strip()))
                or (key == "style" and UNSAFE_STYLE.search(value))
                or (key == "xmlns" and value != XHTML)
            ):
                raise _Refused(key)

    def end(name: str) -> None:
        nonlocal depth
        depth -= 1

    def words(data: str) -> None:
        nonlocal said
        said |= not data.isspace()

    def refuse(*_: Any) -> None:
        raise _Refused("document type or processing instruction")

    def entity(name: str, is_parameter: bool) -> None:
        nonlocal said
        if is_parameter or name not in name2codepoint:
            raise _Refused(name)
        said |= name != "nbsp"

    parser = expat.ParserCreate()
    parser.UseForeignDTD(True)  # so that HTML's own entities reach the handler instead of being errors
    parser.StartElementHandler = start
    parser.EndElementHandler = end
    parser.CharacterDataHandler = words
    parser.StartDoctypeDeclHandler = refuse
    parser.ProcessingInstructionHandler = refuse
    parser.SkippedEntityHandler = entity
    try:
        parser.Parse(text.encode(), True)
    except (_Refused, expat.ExpatError, UnicodeError):
        return False
    return bool(said)


def real_day(text: str) -> bool:
    """Whether the date part (if there is a whole one) is a day of the calendar."""
    if text[8:10] <= "28":
        return True
    try:
        date.fromisoformat(text[:10])
    except ValueError:
        return False
    return True


def _base64(value: Any) -> bool:
    if type(value) is not str or value == "" or not value.isascii():
        return False
    if not value.isalnum():
        value = BLANK.sub("", value)
    try:
        binascii.a2b_base64(value, strict_mode=True)
    except binascii.Error:
        return False
    return value != ""


def checker(kind: str, codes: frozenset[str] | None = None) -> Callable[[Any], bool]:
    """Whether a JSON value is a value of a primitive type (and one of ``codes``, when given)."""
    match = re.compile(definitions.primitives()[kind].pattern, re.ASCII).fullmatch
    if kind == "boolean":
        return lambda v: v is True or v is False
    if kind in NUMERIC:
        least = {"integer": -2147483648, "unsignedInt": 0, "positiveInt": 1}[kind]
        return lambda v: type(v) is int and least <= v < 2147483648
    if kind == "decimal":
        return lambda v: type(v) is float or type(v) is int
    if kind == "xhtml":
        return lambda v: type(v) is str and safe_xhtml(v)
    if kind in TEXTUAL:
        return lambda v: type(v) is str and v != "" and not v.isspace() and len(v) <= MAX_STRING
    if codes is not None:
        return lambda v: type(v) is str and v in codes
    if kind == "base64Binary":
        return _base64
    if kind in ("date", "dateTime", "instant"):
        return lambda v: type(v) is str and match(v) is not None and v != "" and real_day(v)
    if kind in ("uri", "url", "canonical", "code"):
        # Splitting at blanks is the quick proof that there are none.  What has some is left to the pattern, where blanks
        # are those of XML Schema: an official code ends with a no-break space.
        return lambda v: (
            type(v) is str
            and len(v) <= MAX_STRING
            and ((len(v.split(None, 1)) == 1 and v == v.strip()) or (match(v) is not None and v != ""))
        )
    return lambda v: type(v) is str and v != "" and len(v) <= MAX_STRING and match(v) is not None


def reference_problem(text: str, targets: frozenset[str] | None) -> str:
    """ "" when a reference may stand where only ``targets`` may be referred to (None: anything), otherwise what is wrong.

    ``"type"``: it leads to another type; ``"form"``: it looks relative but is no ``Type/id``.  Logical, ``urn:``, fragment
    and conditional references pass; so do absolute ones of addresses that are no FHIR resource's.
    """
    head, slash, rest = text.partition("/")
    if slash and targets is not None and head in targets and ID_END.fullmatch(rest):
        return ""
    if text[:1].isupper():
        match = RELATIVE.fullmatch(text)
        if match is None or match[1] not in definitions.types():
            return "form"
        rtype = match[1]
    elif text.startswith(("http://", "https://")):
        found = ABSOLUTE.search(text)
        if found is None or found[1] not in definitions.types():
            return ""
        rtype = found[1]
    else:
        return ""
    return "type" if targets is not None and rtype not in targets else ""


ID_END = re.compile(r"[A-Za-z0-9\-.]{1,64}")
RELATIVE = re.compile(
    r"([A-Z][A-Za-z]*)(?:/[A-Za-z0-9\-.]{1,64}(?:/_history/[A-Za-z0-9\-.]{1,64})?(?:#.*)?|\?.*)", re.S
)
ABSOLUTE = re.compile(r"/([A-Z][A-Za-z]+)/[A-Za-z0-9\-.]{1,64}(?:/_history/[A-Za-z0-9\-.]{1,64})?(?:#.*)?$")
