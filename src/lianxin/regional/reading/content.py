"""What a reader typed, from a page's form or a vendor's call, as the content of a report: limits, measurements, key images."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from lianxin.duty.errors import Refused
from lianxin.regional.reading import templates
from lianxin.regional.reading.models import Reader
from lianxin.standards.text import T

LIMITS = {"findings": 20_000, "conclusion": 5_000}
MOST_LINES = 100
_MEASURED = re.compile(
    r"^(?P<label>.+?)[\s:：]+(?P<value>-?\d{1,9}(?:\.\d{1,6})?)\s*(?P<unit>[^\s\d]{0,16})$"
)
_KEY_IMAGE = re.compile(r"^(?P<sop>[0-9.]{1,64})(?:[#/](?P<frame>\d{1,5}))?(?:\s+(?P<note>.{0,200}))?$")
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
_POSITIVE = {"yes": True, "true": True, "no": False, "false": False, "": None}


def typed(post: Mapping[str, Any], reader: Reader) -> dict[str, Any]:
    """The content that a form sent; only what was sent is in it. Refused (422) for text too long, a field outside its limits."""
    content: dict[str, Any] = {}
    errors = {}
    for name, longest in LIMITS.items():
        if name not in post:
            continue
        text = _CONTROL.sub("", str(post[name])).replace("\r\n", "\n").rstrip()
        if len(text) > longest:
            errors[name] = T("不能超过 {n} 字。", "At most {n} characters.").format(n=str(longest))
        content[name] = text
    if "measurements" in post:
        content["measurements"] = measurements(str(post["measurements"]))
    if "key_images" in post:
        content["key_images"] = key_images(str(post["key_images"]))
    if "positive" in post:
        content["positive"] = _POSITIVE.get(str(post["positive"]))
    if errors:
        raise Refused(errors)
    if "template" in post:
        code = str(post["template"])[:40]
        chosen = templates.of_reader(reader).filter(code=code).first() if code else None
        content["template"] = chosen.code if chosen else ""
        content["structured"] = (
            templates.structured(chosen, {k[6:]: v for k, v in post.items() if k.startswith("field_")}) if chosen else {}
        )  # fmt: skip
    return content


def _lines(text: str) -> list[str]:
    return [line.strip()[:280] for line in _CONTROL.sub("", text).splitlines() if line.strip()][:MOST_LINES]


def measurements(text: str) -> list[dict[str, Any]]:
    """Lines ``name value unit`` as rows; a line without a number is kept as words."""
    rows: list[dict[str, Any]] = []
    for line in _lines(text):
        found = _MEASURED.match(line)
        rows.append(
            {"label": found["label"], "value": found["value"], "unit": found["unit"]} if found else {"label": line}
        )  # fmt: skip
    return rows


def key_images(text: str) -> list[dict[str, Any]]:
    """Lines ``SOP-instance-UID#frame note`` as rows; anything else is kept as words (an image number on paper film)."""
    rows: list[dict[str, Any]] = []
    for line in _lines(text):
        found = _KEY_IMAGE.match(line)
        if found and "." in found["sop"]:
            row = {"sop_uid": found["sop"], "frame": int(found["frame"]) if found["frame"] else None, "note": found["note"] or ""}  # fmt: skip
            rows.append({k: v for k, v in row.items() if v not in (None, "")})
        else:
            rows.append({"note": line})
    return rows


def measured_text(rows: list[dict[str, Any]]) -> str:
    """Measurements as the lines they are typed in."""
    return "\n".join(" ".join(str(row[k]) for k in ("label", "value", "unit") if row.get(k)) for row in rows)


def images_text(rows: list[dict[str, Any]]) -> str:
    """Key images as the lines they are typed in."""
    out = []
    for row in rows:
        at = row.get("sop_uid", "") + (f"#{row['frame']}" if row.get("frame") is not None else "")
        out.append(" ".join(filter(None, (at, row.get("note", "")))))
    return "\n".join(out)
