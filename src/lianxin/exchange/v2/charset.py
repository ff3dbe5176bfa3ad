"""Character sets of HL7 v2: what MSH-18 calls them, and reading bytes whose sender says one thing and sends another.

GBK and GB18030 use ``|``, ``^``, ``~`` and ``\\`` as second bytes of characters, so a message is decoded before it is split.
"""

from __future__ import annotations

from lianxin.exchange.v2 import errors
from lianxin.exchange.v2.errors import Malformed, Place
from lianxin.standards.text import T

CODECS: dict[str, str] = {
    "ASCII": "ascii", "US-ASCII": "ascii", "ISO IR6": "ascii", "ISO IR 6": "ascii",
    "UNICODE UTF-8": "utf-8", "UNICODE": "utf-8", "UTF-8": "utf-8", "UTF8": "utf-8", "ISO IR192": "utf-8",
    "GB 18030-2000": "gb18030", "GB18030": "gb18030", "GB 18030": "gb18030", "GB18030-2000": "gb18030",
    "GB18030-2005": "gb18030", "GB18030-2022": "gb18030",
    # GBK and GB 2312 are parts of GB 18030, and senders who name them send more.
    "GBK": "gb18030", "CP936": "gb18030", "GB2312": "gb18030", "GB 2312": "gb18030", "GB 2312-80": "gb18030", "ISO IR58": "gb18030",
    "BIG-5": "big5hkscs", "BIG5": "big5hkscs", "CNS 11643-1992": "big5hkscs",
    **{f"8859/{n}": f"iso8859-{n}" for n in (1, 2, 3, 4, 5, 6, 7, 8, 9, 15)},
}  # fmt: skip
"""HL7 table 0211 (and how vendors really write it) to Python codecs."""

NAMES = {"ascii": "ASCII", "utf-8": "UNICODE UTF-8", "gb18030": "GB 18030-2000", "big5hkscs": "BIG-5"}
"""How we name a codec in MSH-18."""


def codec_of(name: str) -> str | None:
    """The codec that MSH-18 names; "" for none named, None for one we do not know."""
    plain = " ".join(name.upper().replace("_", "-").split())
    return CODECS.get(plain) if plain else ""


def name_of(codec: str) -> str:
    """What to write into MSH-18 for a codec."""
    return NAMES.get(codec) or f"8859/{codec.rpartition('-')[2]}"


def decode(data: bytes, named: str, usual: str = "") -> tuple[str, str]:
    """The text and the codec it was read with.

    What MSH-18 names comes first, then what this sender ``usual``-ly sends, then UTF-8 and GB 18030: senders leave "ASCII" in
    their header and send Chinese.  Raises :class:`Malformed` when the name is unknown or no codec fits.
    """
    codec = codec_of(named)
    if codec is None:
        raise Malformed(
            errors.TABLE_VALUE,
            T(
                "不认识 MSH-18 的字符集“{name}”，请用 UNICODE UTF-8、GB 18030-2000 或 ASCII。",
                "The character set {name} of MSH-18 is not known; use UNICODE UTF-8, GB 18030-2000 or ASCII.",
            ).format(name=named[:40]),
            Place("MSH", 1, 18),
        )
    if data.isascii():
        return data.decode("ascii"), codec or usual or "utf-8"
    for one in dict.fromkeys(c for c in (codec, usual, "utf-8", "gb18030") if c):
        try:
            return data.decode(one), one
        except UnicodeDecodeError:
            continue
    raise Malformed(
        errors.DATA_TYPE,
        T(
            "消息的字节既不是所声明的字符集，也不是 UTF-8 或 GB 18030，请检查编码（可能混用）。",
            "The bytes are neither in the character set that is named nor in UTF-8 or GB 18030; check the encoding (it may be mixed).",
        ),
        Place("MSH", 1, 18),
    )
