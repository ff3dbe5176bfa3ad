"""Search against a slow evaluator that is right by inspection: generated resources, generated queries, no difference."""

import itertools
import json
import random
from datetime import datetime
from decimal import Decimal

import pytest
from django.db import connection

from lianxin.access.scope import Scope
from lianxin.network.models import Institution
from lianxin.record import rows, search, store
from lianxin.record.values import date_range

pytestmark = pytest.mark.django_db
CODES = ["a", "b", "c"]
SYSTEMS = ["urn:s1", "urn:s2", None]
DATES = [
    "2024",
    "2024-05",
    "2024-05-01",
    "2024-05-01T08:00:00+08:00",
    "2025-01-01T00:00:00Z",
    "2023-12-31T23:59:59.5+08:00",
]
NUMBERS = ["5", "5.4", "5.40", "100", "-3", "0.001"]
FAMILIES = ["Müller", "muller", "Mull", "单雄信", "仇英", "O'Neil"]


@pytest.fixture
def world():
    institution = Institution.objects.create(code="D1", name="丁医院", kind="hospital", tier="county")
    dice = random.Random(7)
    scope = Scope.system("test")
    made: list[dict] = []
    with connection.cursor() as own:
        cur = rows.server_cursor(own)
        for i in range(12):
            family = FAMILIES[i % len(FAMILIES)]
            made.append({"resourceType": "Patient", "id": f"p{i}", "name": [{"text": f"{family}{i}", "family": family}], "gender": dice.choice(["male", "female"]),
                         "birthDate": f"19{40 + i}-01-0{1 + i % 9}", "active": bool(i % 2)})  # fmt: skip
        for i in range(120):
            system = dice.choice(SYSTEMS)
            coding = {"code": dice.choice(CODES), **({"system": system} if system else {})}
            one = {"resourceType": "Observation", "id": f"o{i}", "status": dice.choice(["final", "amended"]), "code": {"coding": [coding]},
                   "subject": {"reference": f"Patient/p{dice.randrange(12)}"}}  # fmt: skip
            if dice.random() < 0.8:
                one["effectiveDateTime"] = dice.choice(DATES)
            elif dice.random() < 0.7:
                one["effectivePeriod"] = {
                    "start": "2024-04-01",
                    **({"end": "2024-06"} if dice.random() < 0.5 else {}),
                }
            if dice.random() < 0.8:
                one["valueQuantity"] = {
                    "value": float(dice.choice(NUMBERS)),
                    "system": "urn:u",
                    "code": dice.choice(["mg", "g"]),
                }
            if i and dice.random() < 0.3:
                one["hasMember"] = [{"reference": f"Observation/o{dice.randrange(i)}"}]
            made.append(one)
        store.apply(
            cur,
            scope,
            [store.Write("update", r["resourceType"], r["id"], json.loads(json.dumps(r))) for r in made],
            source_institution_id=institution.pk,
        )
        yield cur, scope, made


def _ids(world, rtype, pairs):
    cur, scope, _ = world
    found, cursor = [], None
    for _ in range(100):
        given = [*pairs, ("_count", "17"), *([("_cursor", cursor)] if cursor else [])]
        page = search.search(cur, scope, rtype, given, strict=True)
        found += [e.id for e in page.entries]
        cursor = page.next
        if not cursor:
            break
    assert len(found) == len(set(found))
    return set(found)


def _range(one) -> tuple[datetime, datetime] | None:
    if "effectiveDateTime" in one:
        return date_range(one["effectiveDateTime"])
    if "effectivePeriod" in one:
        period = one["effectivePeriod"]
        high = (
            date_range(period["end"])[1]
            if "end" in period
            else datetime.max.replace(tzinfo=date_range("2024")[0].tzinfo)
        )
        return date_range(period["start"])[0], high
    return None


def _token(one, value):
    coding = one["code"]["coding"][0]
    if "|" not in value:
        return coding["code"] == value
    system, code = value.split("|")
    return coding.get("system", "") == system and (not code or coding["code"] == code)


def _date(one, prefix, text):
    found = _range(one)
    if found is None:
        return False
    (low, high), (start, end) = found, date_range(text)
    inside = start <= low and high <= end
    return {"eq": inside, "ne": not inside, "gt": high > end, "ge": high > end or inside, "lt": low < start, "le": low < start or inside,
            "sa": low >= end, "eb": high <= start}[prefix]  # fmt: skip


def _number(one, prefix, text, code=None):
    quantity = one.get("valueQuantity")
    if quantity is None or (code and quantity["code"] != code):
        return False
    value, exact = Decimal(repr(quantity["value"])), Decimal(text)
    half = Decimal(5).scaleb(exact.as_tuple().exponent - 1)
    inside = exact - half <= value < exact + half
    return {"eq": inside, "ne": not inside, "gt": value > exact, "ge": value >= exact, "lt": value < exact, "le": value <= exact,
            "sa": value > exact, "eb": value < exact}[prefix]  # fmt: skip


def test_search_agrees_with_the_naive_evaluator(world):
    _, _, made = world
    observations = [r for r in made if r["resourceType"] == "Observation"]
    patients = {r["id"]: r for r in made if r["resourceType"] == "Patient"}
    tests = []
    for system, code in itertools.product(["urn:s1", "urn:s2", ""], CODES):
        value = f"{system}|{code}"
        tests.append((("code", value), lambda o, v=value: _token(o, v)))
        tests.append((("code:not", value), lambda o, v=value: not _token(o, v)))
    tests += [(("code", c), lambda o, c=c: _token(o, c)) for c in CODES]
    tests += [
        (("code", "urn:s1|"), lambda o: _token(o, "urn:s1|")),
        (("code", "a,b"), lambda o: _token(o, "a") or _token(o, "b")),
    ]
    for prefix, text in itertools.product(["eq", "ne", "gt", "ge", "lt", "le", "sa", "eb"], DATES):
        tests.append((("date", prefix + text), lambda o, p=prefix, t=text: _date(o, p, t)))
    for prefix, text in itertools.product(["eq", "ne", "gt", "ge", "lt", "le", "sa", "eb"], NUMBERS):
        tests.append((("value-quantity", prefix + text), lambda o, p=prefix, t=text: _number(o, p, t)))
        tests.append(
            (
                ("value-quantity", f"{prefix}{text}|urn:u|mg"),
                lambda o, p=prefix, t=text: _number(o, p, t, "mg"),
            )
        )
    tests += [(("status", s), lambda o, s=s: o["status"] == s) for s in ("final", "amended", "cancelled")]
    tests += [
        (("patient", f"p{i}"), lambda o, i=i: o["subject"]["reference"] == f"Patient/p{i}") for i in range(13)
    ]
    tests += [
        (("subject:Patient.gender", g), lambda o, g=g: patients[o["subject"]["reference"][8:]]["gender"] == g)
        for g in ("male", "female")
    ]
    tests += [
        (("value-quantity:missing", "true"), lambda o: "valueQuantity" not in o),
        (("date:missing", "false"), lambda o: _range(o) is not None),
    ]
    members = {m["reference"][12:]: o for o in observations for m in o.get("hasMember", ())}
    tests += [(("_has:Observation:has-member:code", c), lambda o, c=c: any(m["reference"] == f"Observation/{o['id']}" and _token(x, c) for x in observations for m in x.get("hasMember", ()))) for c in CODES]  # fmt: skip
    assert members
    for pair, fits in tests:
        assert _ids(world, "Observation", [pair]) == {o["id"] for o in observations if fits(o)}, pair
    dice = random.Random(3)
    for _ in range(120):
        chosen = dice.sample(tests, dice.choice([2, 3]))
        wanted = {o["id"] for o in observations if all(fits(o) for _, fits in chosen)}
        sort = dice.choice(["_lastUpdated", "-date", "date", "-value-quantity,_id", "_id"])
        assert _ids(world, "Observation", [*(pair for pair, _ in chosen), ("_sort", sort)]) == wanted, [
            p for p, _ in chosen
        ]


def test_names_by_characters_pinyin_initials_and_without_accents(world):
    def named(text, modifier=""):
        return len(_ids(world, "Patient", [(f"name{modifier}", text)]))

    assert named("单雄") == named("shanxiongxin") == named("sxx") == 2
    assert named("仇") == named("qiuying") == 2
    assert named("muller") == 4
    assert named("MULL") == 6
    assert named("Müller", ":exact") == 2
    assert named("雄信", ":contains") == 2
    assert named("o'neil") == 2
    assert named("%") == named("_") == 0


def test_sorted_by_date_with_missing_last(world):
    cur, scope, _made = world
    page = search.search(cur, scope, "Observation", [("_sort", "-date"), ("_count", "200")])
    dated = [_range(json.loads(e.body)) for e in page.entries]
    starts = [d[0] for d in dated if d]
    assert starts == sorted(starts, reverse=True)
    assert all(d is None for d in dated[len(starts) :])
    assert page.total == 120
