"""When the index finds that two people are one: accounts, cards and codes become the kept one's, and go back.

Where both had what a person has once (an account of their own, an active card, the service's number), the gone one's gives way:
the binding ends, the card is replaced. An unmerge brings them back unless something newer stands there.
"""

from __future__ import annotations

from lianxin.index import hooks

# Only rows without an end can collide: a guardian's always has one (the eighteenth birthday).
_BINDING_YIELDS = """
UPDATE access_actsfor g SET until = greatest(now(), g.since)
 WHERE g.person_id = %(gone)s AND g.until IS NULL AND EXISTS (
       SELECT 1 FROM access_actsfor k WHERE k.person_id = %(kept)s AND k.until IS NULL
          AND (k.account_id = g.account_id OR (k.relation = 'self' AND g.relation = 'self')))
RETURNING g.id"""
_BINDING_RESUMES = """
UPDATE access_actsfor g SET until = NULL
 WHERE g.id = ANY(%(ids)s::bigint[]) AND NOT EXISTS (
       SELECT 1 FROM access_actsfor k WHERE k.id <> g.id AND k.until IS NULL
          AND ((k.account_id = g.account_id AND (k.person_id = g.person_id OR (k.relation = 'self' AND g.relation = 'self')))
               OR (k.person_id = g.person_id AND k.relation = 'self' AND g.relation = 'self')))
RETURNING g.id"""
_CARD_YIELDS = """
UPDATE card_card g SET state = 'replaced', ended_at = greatest(now(), g.issued_at), reason = '主索引合并'
 WHERE g.person_id = %(gone)s AND g.state = 'active' AND EXISTS (
       SELECT 1 FROM card_card k WHERE k.person_id = %(kept)s AND k.state = 'active')
RETURNING g.id"""
_CARD_RESUMES = """
UPDATE card_card g SET state = 'active', ended_at = NULL, reason = ''
 WHERE g.id = ANY(%(ids)s::bigint[]) AND NOT EXISTS (
       SELECT 1 FROM card_card k WHERE k.person_id = g.person_id AND k.state = 'active' AND k.id <> g.id)
RETURNING g.id"""
_HAS_NUMBER = "EXISTS (SELECT 1 FROM card_servicecard k WHERE k.person_id = %(keep)s)"


def register() -> None:
    """Called once from ``CardConfig.ready``."""
    hooks.follow(hooks.Follower("access_actsfor", yields=_BINDING_YIELDS, resumes=_BINDING_RESUMES))
    hooks.follow(hooks.Follower("card_card", yields=_CARD_YIELDS, resumes=_CARD_RESUMES))
    hooks.follow(hooks.Follower("card_servicecard", stays=_HAS_NUMBER))
    for table in ("card_handedcode", "card_servicecall"):
        hooks.follow(hooks.Follower(table))
