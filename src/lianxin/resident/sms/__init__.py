"""Text messages to residents: composed from templates, stored before sent, handed to whatever gateway is set.

``sms.send(phone, template, values, key)`` is what other rooms call; see docs/how-to/sms.md.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lianxin.resident.sms.models import Message


def send(
    phone: str,
    template: str,
    values: Mapping[str, Any],
    key: str,
    *,
    person_id: int | None = None,
    at: dt.datetime | None = None,
    language: str = "zh-hans",
) -> Message:
    """Store a message in the caller's transaction, to be sent by a chore; the same ``key`` again is the same message.

    See :func:`lianxin.resident.sms.sending.send`, which this is (imported late: models are not there while apps are loading).
    """
    from lianxin.resident.sms import sending

    return sending.send(phone, template, values, key, person_id=person_id, at=at, language=language)
