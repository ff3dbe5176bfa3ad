"""When the index finds that two people are one, the gone one's referrals and follow-ups become the kept one's, and go back."""

from __future__ import annotations

from lianxin.index import hooks

TABLES = ("referral_leg", "referral_letter", "referral_message", "referral_followupcontact")

# Two open referrals of one specialty may meet here. Both go on; only the kept person's counts for the duplicate guard.
_SAME_PLACE = (
    "(k.specialty, k.direction, k.emergency) = (g.specialty, g.direction, g.emergency)"
    " AND k.parent_id IS NOT DISTINCT FROM g.parent_id"
)
_YIELD = f"""
UPDATE referral_referral g SET live = false
 WHERE g.person_id = %(gone)s AND g.live AND EXISTS (
       SELECT 1 FROM referral_referral k WHERE k.person_id = %(kept)s AND k.live AND {_SAME_PLACE})
RETURNING g.case_id"""
_RESUME = f"""
UPDATE referral_referral g SET live = true
 WHERE g.case_id = ANY(%(ids)s::bigint[]) AND g.ended_at IS NULL AND NOT EXISTS (
       SELECT 1 FROM referral_referral k WHERE k.person_id = g.person_id AND k.live AND k.case_id <> g.case_id AND {_SAME_PLACE})
RETURNING g.case_id"""


def register() -> None:
    """Called once from ``ReferralConfig.ready``."""
    hooks.follow(hooks.Follower("referral_referral", key="case_id", yields=_YIELD, resumes=_RESUME))
    hooks.follow(hooks.Follower("referral_followup", key="case_id"))
    for table in TABLES:
        hooks.follow(hooks.Follower(table))
