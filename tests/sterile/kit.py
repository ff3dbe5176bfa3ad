"""Sterile supply for the tests: a centre with a steriliser, sets, and the way to any state."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from lianxin.access.scope import Scope
from lianxin.network.models import Institution
from lianxin.regional.sterile import loads, requests, scan
from lianxin.regional.sterile.models import Load, Set, SetType, Steriliser
from lianxin.standards import clock
from tests.factories import SmallCounty
from tests.reading import world

_serial = itertools.count(1)
PASS = {"physical": "pass", "chemical": "pass", "temperature": "134", "minutes": "4", "pressure": "206"}
WAY = ("collect", "receive", "wash", "inspect", "pack")


def centre(prefix: str = "XG") -> tuple[SmallCounty, Steriliser]:
    """The small county; its lead hospital has a steriliser that passed today's test."""
    county = world.make_world(prefix)
    for post in county.posts.values():
        world.account_of(post)
    steriliser = Steriliser.objects.create(
        institution=county.lead, code="M1", name="1 号灭菌器", programs=["134-4", "121-20"]
    )
    loads.bowie_dick(scope(county), steriliser, True, "", f"bd{next(_serial)}")
    return county, steriliser


def scope(county: SmallCounty, key: str = "sterile0") -> Scope:
    """Whoever works at the centre (or any other post)."""
    return world.scope_of(county, key)


def make(
    county: SmallCounty, count: int = 1, kind: str = "HC", holder: Institution | None = None, **fields: object
) -> list[Set]:
    """Sets of a kind, used, at the centre unless told."""
    made = []
    for _ in range(count):
        made.append(
            Set.objects.create(
                code=f"{kind}-{next(_serial):05d}", type=SetType.objects.get(code=kind), owner=county.lead, holder=holder or county.lead,
                centre=county.lead, changed_at=clock.now(), **fields,
            )
        )  # fmt: skip
    return made


def codes(sets: Sequence[Set]) -> list[str]:
    """Their codes."""
    return [s.code for s in sets]


def packed(county: SmallCounty, sets: Sequence[Set], material: str = "nonwoven") -> None:
    """Through the centre up to the packing table."""
    for name in WAY[1:]:
        answers = scan.move(scope(county), name, codes(sets), f"k{next(_serial)}", material=material)
        assert all(a.ok for a in answers), [str(a.text) for a in answers]


def loaded(county: SmallCounty, steriliser: Steriliser, sets: Sequence[Set]) -> Load:
    """In a running cycle."""
    packed(county, sets)
    load, answers = loads.start(scope(county), steriliser, "134-4", codes(sets), f"l{next(_serial)}")
    assert all(a.ok for a in answers)
    return load


def released(county: SmallCounty, steriliser: Steriliser, sets: Sequence[Set]) -> Load:
    """Sterilised and let go."""
    load = loaded(county, steriliser, sets)
    return loads.judge(scope(county), load.number, PASS, f"j{next(_serial)}")


def delivered(county: SmallCounty, steriliser: Steriliser, sets: Sequence[Set], key: str = "gp0") -> Load:
    """In the store of a township, asked for and accepted by scan."""
    load = released(county, steriliser, sets)
    asker = scope(county, key)
    wanted: dict[str, int] = {}
    for s in sets:
        wanted[s.type.code] = wanted.get(s.type.code, 0) + 1
    case = requests.ask(asker, wanted, {"needed_on": f"{clock.today()}"}, f"a{next(_serial)}")
    move(county, case.number, "pack", {"codes": "\n".join(codes(sets))})
    move(county, case.number, "send", {"courier": "运送员甲", "box": "3 号箱"})
    move(county, case.number, "receive", {"codes": "\n".join(codes(sets))}, key)
    return load


def move(county: SmallCounty, number: str, name: str, form: dict[str, str], key: str = "sterile0") -> None:
    """A move of a case."""
    from lianxin.duty import kernel

    kernel.execute(name, number, scope(county, key), form, None, f"m{next(_serial)}")


def state(one: Set) -> str:
    """Where it stands."""
    return str(Set.objects.get(pk=one.pk).state)
