"""The disease catalogues as people read them: versions, rules, conditions in words, evidence."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, render

from lianxin.access.web import page
from lianxin.clinical.referral import rules
from lianxin.clinical.referral.models import Catalogue, CatalogueRule
from lianxin.network.kinds import TIERS
from lianxin.standards import clock, codes
from lianxin.standards.text import T, Text

KINDS = {
    "first_visit": T("基层首诊病种", "First visit at the grassroots"),
    "two_level": T("县乡两级病种", "What county and township treat"),
    "keep_in": T("不轻易外转病种", "Not lightly sent out of the county"),
}
OPERATOR_WORDS = {">=": "≥", "<=": "≤", "==": "=", "!=": "≠"}


def in_words(expression: dict[str, Any]) -> Text:
    """A condition in words: 收缩压 ≥ 180 且 (剧烈头痛 或 呕吐)."""
    for word, zh, en in (("all", " 且 ", " and "), ("any", " 或 ", " or ")):
        if word in expression:
            parts = [in_words(part) for part in expression[word]]
            return Text("(" + zh.join(p.zh for p in parts) + ")", "(" + en.join(p.en for p in parts) + ")")
    if "not" in expression:
        inner = in_words(expression["not"])
        return Text(f"非 {inner.zh}", f"not {inner.en}")
    fact = rules.FACTS[expression["fact"]]
    if "op" not in expression:
        return fact.label
    tail = f" {OPERATOR_WORDS.get(expression['op'], expression['op'])} {expression['value']} {fact.unit}"
    return Text(fact.label.zh + tail, fact.label.en + tail)


def _rule(rule: CatalogueRule) -> dict[str, Any]:
    def conditions(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [
            {
                "words": Text(c["zh"], c["en"]),
                "when": in_words(c["when"]),
                "emergency": c.get("emergency", False),
                "source": c.get("source", ""),
            }
            for c in rows
        ]

    return {
        "code": rule.code,
        "name": Text(rule.name, rule.name_en or rule.name),
        "range": rule.icd_from if rule.icd_from == rule.icd_to else f"{rule.icd_from} – {rule.icd_to}",
        "tiers": [(t, TIERS[t]) for t in rule.tiers_allowed],
        "must": conditions(rule.must_refer_when),
        "may_down": conditions(rule.may_down_when),
        "evidence": rule.evidence,
        "specialty": codes.label(codes.SPECIALTY, rule.specialty) if rule.specialty else "",
        "pack": [rules.PARTS[p].label for p in rules.PACKS.get(rule.pack, ())],
    }


@page()
def listing(request: HttpRequest) -> HttpResponse:
    """All catalogues with their versions; the ones in force first."""
    today = clock.today()
    books = list(Catalogue.objects.select_related("consortium").order_by("kind", "-effective_from"))
    for book in books:
        book.in_force = book.effective_from <= today and (  # type: ignore[attr-defined]
            book.effective_to is None or book.effective_to > today
        )
        book.kind_label = KINDS.get(book.kind, book.kind)  # type: ignore[attr-defined]
        book.name = book.title  # type: ignore[attr-defined]
        book.name_en = book.title_en  # type: ignore[attr-defined]
        book.count = book.rules.count()  # type: ignore[attr-defined]
    return render(request, "referral/catalogues.html", {"books": books})


@page()
def show(request: HttpRequest, pk: int) -> HttpResponse:
    """One catalogue's rules; ``?q=`` by name or ICD-10 code."""
    book = get_object_or_404(Catalogue.objects.select_related("consortium"), pk=pk)
    q = request.GET.get("q", "").strip()
    found = [
        _rule(rule)
        for rule in book.rules.order_by("icd_from")
        if not q
        or q in rule.name
        or q.lower() in rule.name_en.lower()
        or rules.icd_in(q, rule.icd_from, rule.icd_to)
    ]
    context = {"book": book, "title": Text(book.title, book.title_en or book.title), "rules": found, "q": q,
               "kind_label": KINDS.get(book.kind, book.kind)}  # fmt: skip
    return render(request, "referral/catalogue.html", context)
