"""What a subscription's client may see at this moment: its own scope, rebuilt from what it still holds.

A subscription keeps the SMART scopes its client had when it was made.  Of these, what the client still holds counts: scopes
of its live tokens, and those it is registered with (it asks for tokens by itself, so none may be alive just now).
"""

from __future__ import annotations

from typing import Any

from lianxin.access import sharing, smart
from lianxin.access.scope import Scope, scope_for_client
from lianxin.standards import clock


def scope_now(cur: Any, client_id: int, given: str) -> Scope | None:
    """The scope of ``client_id`` within ``given`` (SMART scopes) now; None when the client was switched off or holds nothing any more."""
    cur.execute(
        "SELECT c.name, c.institution_id, c.scope, ARRAY(SELECT t.scope FROM access_token t WHERE t.client_id = c.id"
        " AND t.grant_id IS NULL AND t.revoked_at IS NULL AND t.expires_at > %s),"
        " CASE WHEN i.kind IN ('township', 'community') THEN ARRAY(SELECT v.id FROM network_institution v"
        " WHERE v.parent_id = i.id AND v.kind = 'village') ELSE '{}' END"
        " FROM access_client c LEFT JOIN network_institution i ON i.id = c.institution_id"
        " WHERE c.id = %s AND c.active AND (i.id IS NULL OR i.active)",
        [clock.now(), client_id],
    )
    row = cur.fetchone()
    if row is None:
        return None
    name, institution_id, registered, tokens, villages = row
    held = smart.narrowed(
        tuple(given.split()), tuple(part for text in (registered, *tokens) for part in text.split())
    )
    if not held:
        return None
    if institution_id is None:
        return scope_for_client(client_id, name, None, held)
    own = [institution_id, *villages]
    return scope_for_client(
        client_id, name, institution_id, held, villages, sharing.partners(own, cursor=cur)
    )
