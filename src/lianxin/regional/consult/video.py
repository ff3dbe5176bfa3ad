"""The video beside a consultation, by adapter: a Jitsi room whose name cannot be guessed and whose links end.

``LIANXIN_VIDEO_URL``     base address of a Jitsi server (https://…); without it there is no video and the page says to telephone
``LIANXIN_VIDEO_APP``     application id and
``LIANXIN_VIDEO_SECRET``  secret of Jitsi's token authentication: with both, links carry a signed JWT (HS256) that ends with the room

Nothing of the patient is in a link: the room's name is random, the token holds the speaker's name and title only.
"""

from __future__ import annotations

import datetime as dt
import os
import secrets
from typing import Any
from urllib.parse import quote, urlsplit

from joserfc import jwt
from joserfc.jwk import OctKey

from lianxin.regional.consult import policy
from lianxin.regional.consult.models import Consult
from lianxin.standards import clock


def base() -> str:
    """The configured base address without its last slash; "" when there is none or it is no https address."""
    url = os.environ.get("LIANXIN_VIDEO_URL", "").strip().rstrip("/")
    return url if urlsplit(url).scheme == "https" and urlsplit(url).netloc else ""


def room(consult: Consult, now: dt.datetime) -> dict[str, Any]:
    """Fields of a consultation's room: kept while it stands, lengthened with the time agreed; empty without video."""
    if not base():
        return {"room": "", "room_until": None}
    hold = dt.timedelta(minutes=int(policy.value("access.minutes", consult.desk_id)))
    until = max(consult.scheduled_at or now, now) + hold
    return {"room": consult.room or f"lx-{secrets.token_urlsafe(24)}", "room_until": until}


def link(consult: Consult, name: str, *, moderator: bool = False) -> str:
    """The address to join now; "" without video, before the room is made, or after it ended."""
    now = clock.now()
    if not base() or not consult.room or consult.room_until is None or consult.room_until <= now:
        return ""
    address = f"{base()}/{quote(consult.room, safe='')}"
    app, secret = os.environ.get("LIANXIN_VIDEO_APP", ""), os.environ.get("LIANXIN_VIDEO_SECRET", "")
    if app and secret:
        claims = {
            "iss": app, "aud": "jitsi", "sub": urlsplit(base()).hostname, "room": consult.room, "iat": int(now.timestamp()),
            "nbf": int(now.timestamp()) - 10, "exp": int(consult.room_until.timestamp()), "moderator": moderator,
            "context": {"user": {"name": name}},
        }  # fmt: skip
        signed = jwt.encode({"alg": "HS256", "typ": "JWT"}, claims, OctKey.import_key(secret))
        address += f"?jwt={signed}"
    return address
