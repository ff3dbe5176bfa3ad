"""Messages asked for and messages sent.

:func:`send` stores the message in the caller's transaction: when the act it tells of is undone, so is the message. A chore takes
what is due, a few at a time and under a lease, so that several processes share the work and one that dies leaves its messages to
the others. Exactly once by ``key`` on our side; on the gateway's side as far as it knows a repeated ``reference``: between its
answer and our commit a crash is possible, and then it is asked again with the same reference.
"""

from __future__ import annotations

import datetime as dt
import logging
from collections.abc import Mapping
from typing import Any

from django.db import connection, transaction

from lianxin.access import seal
from lianxin.index.facts import phone_blind
from lianxin.resident.sms import gateways, phones
from lianxin.resident.sms.composing import compose, template
from lianxin.resident.sms.models import Message
from lianxin.standards import clock

log = logging.getLogger(__name__)

EVERY_SECONDS = 2
BATCH = 20
LEASE = dt.timedelta(minutes=5)
MOST_TRIES = 8
FIRST_WAIT = dt.timedelta(seconds=10)
LONGEST_WAIT = dt.timedelta(minutes=30)
A_DAY = 30
"""Messages to one number in 24 hours; what is more is stored as refused."""
QUIET_FROM, QUIET_TO = dt.time(21, 30), dt.time(7, 30)
"""Only urgent messages go out at night (Shanghai time)."""


def send(
    phone: str,
    template_name: str,
    values: Mapping[str, Any],
    key: str,
    *,
    person_id: int | None = None,
    at: dt.datetime | None = None,
    language: str = "zh-hans",
) -> Message:
    """Store a message to ``phone`` (mainland mobile), to be sent at ``at`` (default now); the same ``key`` again is the same message.

    Raises ``phones.NotAPhone``, ``composing.UnknownTemplate`` or ValueError for a missing value. Over the number's daily limit
    the message is stored as refused: whoever sends need not care.
    """
    number = phones.mobile(phone)
    kind = template(template_name)
    text = compose(kind, values, language)
    now = clock.now()
    start = max(at, now) if at else now
    blind = phone_blind(number)
    fields: dict[str, Any] = {
        "template": kind.name,
        "phone_sealed": seal.seal(number),
        "phone_blind": blind,
        "phone_tail": number[-4:],
        "person_id": person_id,
        "text_sealed": seal.seal(text),
        "urgent": kind.urgent,
        "created_at": now,
        "next_at": start if kind.urgent else awake(start),
        "expires_at": start + dt.timedelta(minutes=kind.minutes),
    }
    fields["expires_at"] += fields["next_at"] - start  # the night does not use up what a message is worth
    with transaction.atomic():
        if _today(blind, now) >= A_DAY:
            fields |= {"state": "refused", "error": "too many for this number today", "text_sealed": ""}
        message, _ = Message.objects.get_or_create(key=key, defaults=fields)
    return message


def _today(blind: bytes, now: dt.datetime) -> int:
    since = now - dt.timedelta(days=1)
    return Message.objects.filter(phone_blind=blind, created_at__gt=since).exclude(state="refused").count()


def awake(at: dt.datetime) -> dt.datetime:
    """``at``, or the end of the night it falls into."""
    local = at.astimezone(clock.ZONE)
    if local.time() >= QUIET_FROM:
        return dt.datetime.combine(local.date() + dt.timedelta(days=1), QUIET_TO, clock.ZONE)
    if local.time() < QUIET_TO:
        return dt.datetime.combine(local.date(), QUIET_TO, clock.ZONE)
    return at


_CLAIM = """
UPDATE sms_message m SET state = 'sending', next_at = %(lease)s, tries = m.tries + 1
 WHERE m.id IN (
   SELECT id FROM sms_message WHERE state IN ('waiting', 'sending') AND next_at <= %(now)s
    ORDER BY urgent DESC, next_at, id LIMIT %(batch)s FOR UPDATE SKIP LOCKED)
RETURNING m.id"""


def deliver(most: int = 200) -> int:
    """Send what is due (the chore); returns how many went out. Without a gateway nothing is taken up."""
    carrier = gateways.current()
    done = 0
    while carrier is not None and most > 0:
        now = clock.now()
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute(_CLAIM, {"lease": now + LEASE, "now": now, "batch": min(BATCH, most)})
            taken = [row[0] for row in cursor.fetchall()]
        if not taken:
            break
        most -= len(taken)
        for message in Message.objects.filter(pk__in=taken).order_by("-urgent", "pk"):
            done += _one(carrier, message)
    return done


def _one(carrier: gateways.Carrier, message: Message) -> bool:
    """Try one message; whatever happens to it harms no other."""
    now = clock.now()
    if now >= message.expires_at:
        return _end(message, "expired", message.error or "not sent in time")
    if not message.urgent and awake(now) > now:
        # a retry ran into the night: it was not tried, and goes on in the morning with the time it had left
        later = awake(now)
        Message.objects.filter(pk=message.pk, state="sending").update(
            state="waiting",
            next_at=later,
            tries=max(0, message.tries - 1),
            expires_at=message.expires_at + (later - now),
        )
        return False
    try:
        receipt = carrier.carry(
            str(message.reference), seal.unseal(message.phone_sealed), seal.unseal(message.text_sealed)
        )
    except gateways.Refused as why:
        return _end(message, "failed", str(why))
    except gateways.Temporary as why:
        return _later(message, str(why))
    except Exception as broken:  # an adapter's own fault must not hold up the others; it shows on the page
        log.exception("text message %s", message.pk)
        return _later(message, type(broken).__name__)
    Message.objects.filter(pk=message.pk, state="sending").update(
        state="sent",
        sent_at=clock.now(),
        receipt=receipt,
        error="",
        **({} if carrier.keeps else {"text_sealed": ""}),
    )
    return True


def _later(message: Message, why: str) -> bool:
    """Back to the queue with a longer wait each time, or given up."""
    if message.tries >= MOST_TRIES:
        return _end(message, "failed", why)
    wait = min(FIRST_WAIT * 2 ** (message.tries - 1), LONGEST_WAIT)
    if message.urgent and message.template == "login_code":
        wait = min(wait, dt.timedelta(seconds=20))  # somebody stands there waiting
    Message.objects.filter(pk=message.pk, state="sending").update(
        state="waiting", next_at=clock.now() + wait, error=why[:200]
    )
    return False


def _end(message: Message, state: str, why: str) -> bool:
    Message.objects.filter(pk=message.pk, state="sending").update(
        state=state, error=why[:200], text_sealed=""
    )
    return False
