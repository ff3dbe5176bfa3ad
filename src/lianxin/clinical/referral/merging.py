"""When the index finds that two people are one, the gone one's referrals and follow-ups become the kept one's."""

from __future__ import annotations

from typing import Any

TABLES = (
    "referral_referral",
    "referral_leg",
    "referral_letter",
    "referral_message",
    "referral_followup",
    "referral_followupcontact",
)

# Two open referrals of one specialty may meet here. Both go on; only the kept person's counts for the duplicate guard.
_YIELD = """
UPDATE referral_referral g SET live = false
 WHERE g.person_id = %(gone)s AND g.live AND EXISTS (
       SELECT 1 FROM referral_referral k WHERE k.person_id = %(kept)s AND k.live
          AND (k.specialty, k.direction, k.emergency) = (g.specialty, g.direction, g.emergency)
          AND k.parent_id IS NOT DISTINCT FROM g.parent_id)"""


def repoint(cursor: Any, patient_ids: list[str], from_person: int, to_person: int) -> None:
    """Registered with ``index.hooks``: only when a whole person (by number) moves, as cases do."""
    cursor.execute("SELECT number FROM index_person WHERE id = %s", [from_person])
    row = cursor.fetchone()
    if row is None or row[0] not in patient_ids:
        return
    cursor.execute(_YIELD, {"gone": from_person, "kept": to_person})
    for table in TABLES:
        cursor.execute(f"UPDATE {table} SET person_id = %s WHERE person_id = %s", [to_person, from_person])
