"""Who sends: MSH-3 and MSH-4, the address it calls from, and the certificate it shows; and on whose behalf it then acts."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from typing import Any

from lianxin.access.scope import Scope
from lianxin.exchange.subscriptions.ownership import scope_now
from lianxin.exchange.v2 import errors
from lianxin.exchange.v2.errors import REJECTED, Place, Refused
from lianxin.exchange.v2.message import Message
from lianxin.exchange.v2.models import Peer
from lianxin.standards.text import T

WHATEVER = "system/*.cruds"
_FIND = "SELECT * FROM exchange_peer WHERE application = %s AND facility = %s AND active"


@dataclass(frozen=True)
class Origin:
    """Where a message came from: network address ("" within the house: a command, a test) and the certificate's SHA-256."""

    address: str = ""
    fingerprint: str = ""


def find(message: Message, origin: Origin) -> Peer:
    """The peer that sent a message; AR when it is unknown, switched off, or calls from elsewhere (the answer does not say which)."""
    return admitted(called(*named(message)), origin)


def named(message: Message) -> tuple[str, str]:
    """What a sender calls itself: MSH-3 and MSH-4."""
    return message.header.text(3), message.header.text(4)


def called(application: str, facility: str) -> Peer | None:
    """The active peer of that name."""
    # asked often: as plain SQL, which costs a third of building the same query each time
    return next(iter(Peer.objects.raw(_FIND, [application, facility])), None)


def admitted(peer: Peer | None, origin: Origin) -> Peer:
    """The peer, if there is one and it may call from there; AR otherwise."""
    if peer is None or not permitted(peer, origin):
        raise unknown()
    return peer


def unknown() -> Refused:
    """The refusal of a sender that is not known."""
    return Refused(
        errors.UNKNOWN_KEY,
        T(
            "未登记的发送方（MSH-3/MSH-4）或来源地址，请先在平台登记。",
            "The sender (MSH-3, MSH-4) is not registered here, or not from this address; have it registered first.",
        ),
        Place("MSH", 1, 3),
        REJECTED,
    )


def permitted(peer: Peer, origin: Origin) -> bool:
    """Whether a peer may call from there."""
    if peer.fingerprint and origin.fingerprint.lower() != peer.fingerprint.lower():
        return False
    if not origin.address:
        return True
    try:
        here = ipaddress.ip_address(origin.address.split("%")[0])
    except ValueError:
        return False
    if isinstance(here, ipaddress.IPv6Address) and here.ipv4_mapped:
        here = here.ipv4_mapped
    if not peer.addresses:
        return here.is_loopback
    return any(here in ipaddress.ip_network(one, strict=False) for one in peer.addresses)


def scope_of(cur: Any, peer: Peer) -> Scope:
    """The scope a peer acts in now; AR when its client was switched off, has no institution or holds no permission any more."""
    scope = scope_now(cur, peer.client_id, WHATEVER)
    if scope is None or scope.institution_id is None:
        raise unknown()
    return scope
