"""Keys with a crowd behind them (the village's one phone, a birthday that everybody got in a migration) tell nothing: they are
noted once, and from then on neither stored nor looked up. The other keys of a registration still find its person; a crowd is never
an answer of "nobody" and never slow.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from lianxin.index import active, store
from lianxin.index.match.model import POLICY
from lianxin.standards import clock

log = logging.getLogger(__name__)

CROWD: int = POLICY["crowd"]
_TURN = 0x4C58_0002
_COUNT = (
    "SELECT k, (SELECT count(*) FROM (SELECT 1 FROM index_form f WHERE f.keys @> ARRAY[k] LIMIT %s) c)"
    " FROM unnest(%s::int4[]) AS k"
)


def uncrowded(cur: Any, keys: Sequence[int], held: active.Held) -> list[int]:
    """The keys without a crowd behind them; what was found is not written down (somebody only asks)."""
    cur.execute(_COUNT, [CROWD + 1, store.numbers(k for k in keys if k not in held.crowd)], prepare=True)
    return [key for key, count in cur.fetchall() if count <= CROWD]


def noted(cur: Any, keys: Sequence[Sequence[int]], seen: store.Seen) -> bool:
    """Note the crowded keys of items that met too many; True when there were any: the look-up is then to be made again.

    One transaction at a time notes keys; whoever finds the turn taken goes on with what it has found and notes nothing.
    """
    suspects = {k for n, count in seen.hits.items() if count > CROWD for k in keys[n]} - seen.held.crowd
    if not suspects:
        return False
    cur.execute(_COUNT, [CROWD + 1, store.numbers(sorted(suspects))], prepare=True)
    crowded = [(key, count) for key, count in cur.fetchall() if count > CROWD]
    if not crowded:
        return False
    cur.execute("SELECT pg_try_advisory_xact_lock(%s)", [_TURN])
    if cur.fetchone()[0]:
        cur.execute(
            "INSERT INTO index_crowd (key, people, since) SELECT k, %s, %s FROM unnest(%s::int4[]) AS k ON CONFLICT DO NOTHING",
            [CROWD, clock.now(), store.numbers(key for key, _ in crowded)],
        )
        log.warning("%s keys of the index have a crowd behind them and are ignored from now on", len(crowded))
    seen.held.crowd = seen.held.crowd | {key for key, _ in crowded}
    return True
