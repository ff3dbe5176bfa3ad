"""Text messages of critical values: staff are asked to read one back, a patient to call or come. Neither says the value, the finding or a name."""

from __future__ import annotations

import logging

from lianxin.resident import sms
from lianxin.resident.sms import gateways
from lianxin.resident.sms.phones import NotAPhone

log = logging.getLogger(__name__)
TEMPLATES = {"staff": "critical_staff", "patient": "critical_patient"}


def send(phone: str, kind: str, number: str, key: str) -> bool:
    """Store the message of a call (``kind`` "staff" or "patient", ``number`` the case's); False without a gateway or a number that takes it.

    The same ``key`` is the same message. What the number's daily limit refuses counts as not sent: the call shows the attempt as failed.
    """
    if gateways.current() is None:  # it would lie there for hours, and the call would show it as told
        return False
    try:
        message = sms.send(phone, TEMPLATES[kind], {"number": number}, key[:120])
    except NotAPhone:  # a landline, or nonsense
        log.info("no message %s: no mobile number", key)
        return False
    return message.state != "refused"
