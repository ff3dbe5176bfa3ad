"""Names and words written for devices: in the character set they speak, in pinyin for those that speak none of ours."""

from __future__ import annotations

from pydicom import charset as charsets

SPECIFIC = {"ISO 2022 IR 58": ["", "ISO 2022 IR 58"]}


def spoken(asked: str, default: str) -> str:
    """The character set to answer in: what was asked for when it is one of ours, else the device's own."""
    asked = asked.split("\\")[-1].strip()
    if asked == "GBK":
        return "GB18030"
    return asked if asked in ("GB18030", "ISO_IR 192", "ISO 2022 IR 58") else default


def value_of(charset: str) -> list[str]:
    """Specific Character Set's values of a character set."""
    return SPECIFIC.get(charset, [charset])


def encodable(text: str, charset: str) -> bool:
    """Whether a text can be written in a character set."""
    if text.isascii():
        return True
    name = {"GB18030": "gb18030", "GBK": "gbk", "ISO_IR 192": "utf-8", "ISO 2022 IR 58": "gb2312", "ISO_IR 100": "latin-1"}.get(charset)  # fmt: skip
    if name is None:
        return False
    try:
        text.encode(name)
    except UnicodeEncodeError:
        return False
    return True


def encoded(text: str, declared: str) -> bytes | None:
    """A text in the declared Specific Character Set of a data set ("GB18030", r"\\ISO 2022 IR 58"); None when it cannot be written in it."""
    if text.isascii():
        return text.encode()
    charset = declared.split("\\")[-1].strip()
    if not encodable(text, charset):
        return None
    if charset == "ISO 2022 IR 58":
        return b"\x1b$)A" + text.encode("gb2312")
    return text.encode({"GB18030": "gb18030", "GBK": "gbk", "ISO_IR 192": "utf-8"}.get(charset, "latin-1"))


def person_name(pinyin: str, name: str, charset: str) -> str:
    """A PN value: pinyin, and the characters when the character set has them."""
    latin = pinyin or ("" if not name.isascii() else name)
    if name.isascii() or not encodable(name, charset):
        return latin or "?"
    return f"{latin}={name}" if latin else f"={name}"


def known(declared: str) -> bool:
    """Whether a declared character set is one that can be decoded."""
    try:
        charsets.convert_encodings(declared.split("\\"))
    except (LookupError, ValueError):
        return False
    return True
