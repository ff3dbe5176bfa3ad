"""Find what to order: by name, pinyin, initials or code; what one orders most stands first."""

from __future__ import annotations

import datetime as dt
from collections import Counter

from lianxin.access.scope import Scope
from lianxin.regional.ordering.models import Requisition
from lianxin.regional.reading.models import Item
from lianxin.standards import clock, pinyin

MOST = 30
FAVOURITES = 8
LOOK_BACK = dt.timedelta(days=90)


def find(text: str) -> list[Item]:
    """Items that a few letters mean, the best match first; everything when nothing was typed."""
    rows = list(Item.objects.filter(active=True).order_by("centre", "modality", "code"))
    wanted = "".join(text.lower().split())[:40]
    if not wanted:
        return rows
    ranked = [(rank, n, item) for n, item in enumerate(rows) if (rank := _rank(item, wanted)) is not None]
    return [item for _, _, item in sorted(ranked, key=lambda r: r[:2])][:MOST]


def _rank(item: Item, wanted: str) -> int | None:
    full, initials = pinyin.term_keys(item.name)
    names = (
        item.code.lower(),
        "".join(item.name.lower().split()),
        "".join(item.name_en.lower().split()),
        full,
        initials,
        item.loinc,
    )
    if wanted in (item.code.lower(), initials, item.loinc):
        return 0
    if any(name.startswith(wanted) for name in names if name):
        return 1
    return 2 if any(wanted in name for name in names if name) else None


def favourites(scope: Scope) -> list[Item]:
    """What this account (else its institution) ordered most in ninety days."""
    since = clock.now() - LOOK_BACK
    rows = Requisition.objects.unscoped("counts of one's own requests").filter(
        institution_id__in=scope.institution_ids, at__gte=since
    )
    for narrowed in (rows.filter(account_id=scope.account_id), rows):
        counted: Counter[str] = Counter()
        for items in narrowed.order_by("-pk").values_list("items", flat=True)[:500]:
            counted.update(items)
        if counted:
            codes = [code for code, _ in counted.most_common(FAVOURITES)]
            found = {i.code: i for i in Item.objects.filter(code__in=codes, active=True)}
            return [found[code] for code in codes if code in found]
    return list(Item.objects.filter(active=True, code__in=("ECG-12", "LAB-CBC", "LAB-GLU", "XR-CHEST", "CT-CHEST")).order_by("code"))  # fmt: skip
