"""Report templates: the shipped ones, a centre's and a reader's own, and which of them fit a study."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from django.db.models import Q

from lianxin.duty.errors import Refused
from lianxin.regional.reading.models import Reader, Reading, Template
from lianxin.standards.text import T

_FILE = Path(__file__).parent / "data" / "templates.yaml"
KINDS = ("number", "choice", "text", "bool")
MOST_PHRASES = 60
_TEXTS = ("centre", "modality", "body_part", "name", "name_en", "findings", "conclusion")


@functools.cache
def shipped() -> list[dict[str, Any]]:
    """The templates of the file."""
    return list(yaml.load(_FILE.read_text("utf-8"), Loader=yaml.CSafeLoader)["templates"])


def load_shipped(**_: Any) -> None:
    """Insert or refresh the shipped templates; loading again changes only what the file changed."""
    Template.objects.bulk_create(
        [Template(**row) for row in shipped()],
        update_conflicts=True,
        unique_fields=["code", "institution", "account"],
        update_fields=[*_TEXTS, "fields", "phrases", "positive"],
    )


def of_reader(reader: Reader) -> Any:
    """Every template a reader may use: the shipped ones, their centre's, their own."""
    mine = Q(account_id=reader.account_id)
    house = Q(account=None) & (Q(institution=None) | Q(institution_id=reader.institution_id))
    return Template.objects.filter(mine | house, centre=reader.centre, active=True)


def fitting(reader: Reader, reading: Reading) -> list[Template]:
    """Templates for one study: of its modality (or any), those of the body part first, one's own before the centre's."""
    part = next(
        (o.item.body_part for o in reading.ordered.select_related("item").filter(active=True).order_by("pk")),
        "",
    )
    rows = of_reader(reader).filter(Q(modality=reading.modality) | Q(modality=""))
    rank = {True: 0, False: 1}
    return sorted(
        rows,
        key=lambda t: (
            rank[t.body_part == part],
            rank[not t.body_part],
            rank[t.account_id is not None],
            rank[t.institution_id is not None],
            t.pk,
        ),
    )


def keep(
    reader: Reader, data: Mapping[str, Any], template_id: int | None = None, *, for_centre: bool = False
) -> Template:
    """Write a template of one's own, or of the centre (approvers only). Refused for one that is neither."""
    if for_centre and not reader.approves:
        raise Refused(
            {"for_centre": T("中心模板由审核医师维护。", "A centre's templates are kept by its approvers.")}
        )
    if template_id is None:
        row = Template(
            centre=reader.centre,
            institution_id=reader.institution_id if for_centre else None,
            account_id=None if for_centre else reader.account_id,
            code=_free_code(reader),
        )
    else:
        found = editable(reader).filter(pk=template_id).first()
        if found is None:
            raise Refused({"__all__": T("不能修改该模板。", "This template is not yours to change.")})
        row = found
    for name in ("name", "name_en", "modality", "body_part", "findings", "conclusion", "positive", "active"):
        if name in data:
            setattr(row, name, data[name])
    if "phrases" in data:
        row.phrases = [line.strip()[:200] for line in data["phrases"].splitlines() if line.strip()][
            :MOST_PHRASES
        ]
    row.save()
    return row


def editable(reader: Reader) -> Any:
    """Templates that a reader may change: their own, and an approver the centre's too. The shipped ones stay."""
    mine = Q(account_id=reader.account_id)
    if reader.approves:
        mine |= Q(account=None, institution_id=reader.institution_id)
    return Template.objects.filter(mine, centre=reader.centre)


def _free_code(reader: Reader) -> str:
    last = Template.objects.order_by("-pk").values_list("pk", flat=True).first() or 0
    return f"{reader.centre[:4].upper()}-{reader.account_id}-{last + 1}"


def structured(template: Template, values: Mapping[str, Any]) -> dict[str, Any]:
    """What was filled into a template's fields, cleaned: unknown names are left out, a number outside its limits is refused."""
    out: dict[str, Any] = {}
    errors = {}
    for field in template.fields:
        name, kind = field["name"], field["kind"]
        raw = str(values.get(name, "")).strip()
        if not raw:
            continue
        if kind == "number":
            number = _number(raw)
            low, high = field.get("min"), field.get("max")
            if number is None or (low is not None and number < low) or (high is not None and number > high):
                errors[f"field_{name}"] = T(
                    "「{label}」应为 {low}–{high} 的数字。", "“{label}” is a number from {low} to {high}."
                ).format(label=T(field["label"], field.get("label_en") or field["label"]), low=str(low), high=str(high))  # fmt: skip
                continue
            out[name] = number
        elif kind == "choice":
            if raw in field["options"]:
                out[name] = raw
        elif kind == "bool":
            out[name] = raw in ("1", "on", "true", "yes")
        else:
            out[name] = raw[:200]
    if errors:
        raise Refused(errors)
    return out


def _number(text: str) -> float | int | None:
    if len(text) > 12:
        return None
    try:
        value = float(text)
    except ValueError:
        return None
    if value != value or value in (float("inf"), float("-inf")):
        return None
    return int(value) if value.is_integer() and "." not in text else value
