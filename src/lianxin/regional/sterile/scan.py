"""Scans: a set goes from one state to the next by one conditional statement, its event written in the same one.

``MOVES`` is the table. Two people scanning the same set at once: one wins, the other is told where it stands now. A repeated scan of the same
request (``key``) changes nothing. Whoever scans must be where the table says: at the centre, or where the set is.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from django.db import connection, transaction

from lianxin.access import audit
from lianxin.access.scope import Scope
from lianxin.duty.errors import NotAllowed
from lianxin.network import directory
from lianxin.network.models import Institution
from lianxin.regional.sterile import policy
from lianxin.regional.sterile.models import STATES, Event, Set
from lianxin.standards import clock
from lianxin.standards.text import T, Text

MOST = 500
_GS1 = re.compile(r"\(21\)([^()\s]+)|\b01\d{14}21([0-9A-Za-z.\-]+)")


@dataclass(frozen=True)
class Move:
    """One kind of scan. ``at`` "centre": done there; "holder": where the set is; ``sterile``: the package must be in date.

    ``sql`` sets further columns (a programmer's text; values come as parameters).
    """

    name: str
    label: Text
    sources: tuple[str, ...]
    target: str
    at: str = "centre"
    sql: str = ""
    sterile: bool = False
    note: bool = False
    offered: bool = True


_NEW_TURN = "load_id = NULL, material = '', packed_by = '', expires_on = NULL, asked_id = NULL"
MOVES: dict[str, Move] = {
    m.name: m
    for m in (
        Move("collect", T("使用后回收登记", "Collect after use"), ("opened",), "used", "holder"),
        Move("give_back", T("未用退回", "Return unused"), ("stored", "recalled"), "used", "holder"),
        Move("receive", T("回收接收", "Receive"), ("used", "recalled"), "received", "centre", f"turn = turn + 1, holder_id = centre_id, {_NEW_TURN}, incomplete = %(note)s", note=True),
        Move("wash", T("清洗消毒", "Wash"), ("received",), "washed"),
        Move("inspect", T("检查保养", "Inspect"), ("washed",), "inspected"),
        Move("rewash", T("返洗", "Back to washing"), ("washed", "inspected", "packed"), "received", sql=_NEW_TURN, note=True),
        Move("pack", T("包装", "Pack"), ("inspected",), "packed", sql="material = %(material)s, packed_by = %(by)s, incomplete = ''"),
        Move("load", T("装载灭菌", "Load"), ("packed",), "sterilised", sql="load_id = %(load)s", offered=False),
        Move("unload", T("灭菌不合格退回", "Failed load back"), ("sterilised",), "received", sql=_NEW_TURN, offered=False),
        Move("store", T("入库", "Into store"), ("released",), "stored", sterile=True),
        Move("send", T("发出", "Send"), ("released", "stored"), "sent", sql="holder_id = %(to)s, asked_id = %(asked)s", sterile=True, offered=False),
        Move("accept", T("签收入库", "Accept into store"), ("sent",), "stored", "holder"),
        Move("open", T("开包使用", "Open on a patient"), ("stored",), "opened", "holder", sterile=True, offered=False),
        Move("recall", T("召回", "Recall"), ("sterilised", "released", "sent", "stored"), "recalled", "anywhere", offered=False),
        Move("lose", T("登记遗失", "Report lost"), tuple(s for s in STATES if s not in ("lost", "opened")), "lost", "either", note=True),
        Move("find", T("遗失找回", "Found again"), ("lost",), "used", "either"),
    )
}  # fmt: skip


@dataclass(frozen=True)
class Scanned:
    """What came of one scan: moved, or why not. ``set`` is None for a code that is no set's."""

    code: str
    ok: bool
    text: Text
    set: Set | None = None


def codes_of(text: str) -> list[str]:
    """The codes in what a scanner typed: one or many, GS1 element strings reduced to their serial, repeated ones once; at most 500."""
    found: dict[str, None] = {}
    for part in re.split(r"[\s,;，；、]+", unicodedata.normalize("NFKC", text)):
        if not part:
            continue
        gs1 = _GS1.search(part)
        found[((gs1[1] or gs1[2]) if gs1 else part).upper()[:40]] = None
    return list(found)[:MOST]


_CHANGE = """
WITH changed AS (
  UPDATE sterile_set s SET state = %(target)s, changed_at = %(now)s {more}
    FROM (SELECT id, state AS was FROM sterile_set WHERE code = ANY(%(codes)s) ORDER BY id FOR UPDATE) old
   WHERE s.id = old.id AND s.state = ANY(%(sources)s) AND {place} {dated}
     AND NOT EXISTS (SELECT 1 FROM sterile_event e WHERE e.key = %(key)s || ':' || s.code)
  RETURNING s.id, s.turn, s.code, old.was, s.load_id, s.asked_id)
INSERT INTO sterile_event (set_id, turn, move, from_state, to_state, institution_id, load_id, asked_id, note, by, account_id, at, key)
SELECT id, turn, %(move)s, was, %(target)s, %(institution)s, load_id, asked_id, %(note)s, %(by)s, %(account)s, %(now)s, %(key)s || ':' || code
  FROM changed RETURNING set_id"""
_PLACE = {
    "centre": "s.centre_id = ANY(%(mine)s)",
    "holder": "s.holder_id = ANY(%(mine)s)",
    "either": "(s.centre_id = ANY(%(mine)s) OR s.holder_id = ANY(%(mine)s))",
    "anywhere": "TRUE",
}


def change(by: Scope, name: str, codes: Sequence[str], key: str, **values: Any) -> set[int]:
    """Move those of ``codes`` that can move now; returns the ids of the sets that did. In the caller's transaction, without words or checks."""
    move = MOVES[name]
    given = {
        "target": move.target, "sources": list(move.sources), "now": clock.now(), "today": clock.today(), "codes": list(codes),
        "mine": list(by.institution_ids), "key": key[:70], "move": name, "institution": values.pop("institution", by.institution_id),
        "note": values.pop("note", ""), "by": (by.name or by.reason)[:80], "account": by.account_id, **values,
    }  # fmt: skip
    statement = _CHANGE.format(
        more=f", {move.sql}" if move.sql else "",
        place=_PLACE[move.at],
        dated="AND s.expires_on >= %(today)s" if move.sterile else "",
    )
    with connection.cursor() as cursor:
        cursor.execute(statement, given)
        return {row[0] for row in cursor.fetchall()}


def may(by: Scope, name: str) -> None:
    """Raise unless the roles include this kind of scan: the centre's belong to sterile supply, the others to whoever uses sets."""
    by.demand("run_sterile" if MOVES[name].at == "centre" else "use_sterile")
    if by.institution_id is None:
        raise NotAllowed(T("请先选择执业机构（岗位）", "Choose the post you act in first"))


@transaction.atomic
def move(
    by: Scope, name: str, codes: Sequence[str], key: str, *, note: str = "", material: str = ""
) -> list[Scanned]:
    """Scan sets: each moves or says why not, in the order scanned. Raises AccessError for the wrong role, NotAllowed without a post."""
    may(by, name)
    step = MOVES[name]
    if not step.offered:
        raise NotAllowed(T("此步骤在专门的页面办理。", "This step has a page of its own."))
    if name == "pack" and material not in policy.materials(by.institution_id or 0):
        raise NotAllowed(T("请选择包装材料。", "Choose the packing material."))
    if name == "lose" and not note.strip():
        raise NotAllowed(T("请写明遗失经过。", "Write how it was lost."))
    done = change(by, name, codes, key, note=note.strip()[:200], material=material)
    return answers(by, step, codes, done, key)


def answers(by: Scope, step: Move, codes: Sequence[str], done: set[int], key: str) -> list[Scanned]:
    """What to say of each code after a change."""
    rows = {
        s.code: s
        for s in Set.objects.filter(code__in=codes).select_related("type", "holder", "owner", "load")
    }
    replayed = _replayed(codes, key)
    found = []
    for code in codes:
        row = rows.get(code)
        if row is None or not sees(by, row):
            found.append(
                Scanned(
                    code,
                    False,
                    T("没有这个器械包编码，请核对标签。", "No set has this code; check the label."),
                )
            )
        elif row.pk in done or code in replayed:
            found.append(
                Scanned(code, True, T("{s}：{l}", "{s}: {l}").format(s=row.type.label, l=step.label), row)
            )
        else:
            found.append(Scanned(code, False, why_not(by, step, row), row))
    audit.write(
        by, "update", what=f"sterile {step.name}", detail={"sets": [s.code for s in found if s.ok][:100]}
    )
    return found


def _replayed(codes: Sequence[str], key: str) -> set[str]:
    keys = {f"{key[:70]}:{code}": code for code in codes}
    return {keys[k] for k in Event.objects.filter(key__in=keys).values_list("key", flat=True)}


def sees(by: Scope, row: Set) -> bool:
    """Whether a set is any business of whoever scans: its owner's, its holder's, the centre's, or of an institution that the centre supplies."""
    if by.everything or not {row.owner_id, row.holder_id, row.centre_id}.isdisjoint(by.institution_ids):
        return True
    own = Institution.objects.filter(pk=by.institution_id or 0).first()
    lead = directory.lead_of(own) if own is not None else None
    return lead is not None and lead.pk == row.centre_id


def why_not(by: Scope, step: Move, row: Set) -> Text:
    """Why a set did not move, and what to do."""
    if row.state == "recalled" and "recalled" not in step.sources:
        return T(
            "该包已召回，禁止使用！请立即封存并退回中心。", "This set is RECALLED: do not use it. Put it aside and send it back to the centre."
        )  # fmt: skip
    if row.state not in step.sources:
        return _wrong_state(step, row)
    if step.sterile and row.expires_on is not None and row.expires_on < clock.today():
        return T(
            "已过有效期（{d}），禁止使用，请退回重新处理。", "Expired on {d}: do not use it; send it back."
        ).format(d=f"{row.expires_on}")
    if step.at == "centre":
        return T("该步骤由消毒供应中心办理。", "This is done at the sterile supply centre.")
    holder: Institution = row.holder
    return T("该包登记在{h}，不在本机构。", "This set is registered at {h}, not here.").format(
        h=T(holder.name, holder.name_en or holder.name)
    )


def _wrong_state(step: Move, row: Set) -> Text:
    now = STATES[row.state]
    if step.name == "open":
        return {
            "sterilised": T("灭菌后尚未放行，禁止使用。", "Sterilised but not released: do not use it."),
            "released": T("尚未入库或签收，请先扫码签收。", "Not in store yet: scan it in first."),
            "sent": T("尚未签收，请先扫码签收。", "On its way: accept it by scan first."),
            "opened": T(
                "该包已开包使用，不能重复使用。", "This set was opened already; it cannot be used twice."
            ),
        }.get(
            row.state,
            T("该包未灭菌（{s}），禁止使用。", "This set is not sterile ({s}): do not use it.").format(s=now),
        )
    return T("当前为“{s}”，不能办理“{m}”。", "It stands at “{s}”; “{m}” is not next.").format(
        s=now, m=step.label
    )


def offered(by: Scope) -> list[Move]:
    """The scans somebody may make on the scan page."""
    centre = by.may("run_sterile")
    return [m for m in MOVES.values() if m.offered and (m.at != "centre" or centre)]


def form(values: Mapping[str, str]) -> dict[str, str]:
    """What the scan page sends beside the codes."""
    return {"note": values.get("note", "")[:200], "material": values.get("material", "")[:20]}
