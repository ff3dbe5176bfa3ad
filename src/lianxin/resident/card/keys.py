"""Keys that sign card codes and the revocation list, and the published key set."""

from __future__ import annotations

import base64
import datetime as dt
import secrets
from functools import lru_cache
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from django.db import IntegrityError, transaction

from lianxin.access import audit, seal
from lianxin.access.scope import Scope
from lianxin.resident.card.models import QrKey
from lianxin.standards import clock

PRINTED_FOR = dt.timedelta(days=731)
"""A retired key stays published as long as a printed card it signed may live."""


def live() -> QrKey:
    """The key that signs now; made when there is none."""
    row = QrKey.objects.filter(retired_at__isnull=True).first()
    if row is None:
        made = Ed25519PrivateKey.generate()
        private = made.private_bytes(Encoding.Raw, PrivateFormat.Raw, NoEncryption())
        try:
            with transaction.atomic():
                row = QrKey.objects.create(
                    kid=secrets.token_hex(4),
                    private=seal.seal(private.hex()),
                    public=made.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw),
                    created_at=clock.now(),
                )
        except IntegrityError:  # another process was first
            row = QrKey.objects.get(retired_at__isnull=True)
    return row


@lru_cache(maxsize=8)
def _private(sealed: str) -> Ed25519PrivateKey:
    return Ed25519PrivateKey.from_private_bytes(bytes.fromhex(seal.unseal(sealed)))


def sign(row: QrKey, body: bytes) -> bytes:
    """64 bytes of signature."""
    return _private(row.private).sign(body)


def _published() -> list[QrKey]:
    since = clock.now() - PRINTED_FOR
    return [k for k in QrKey.objects.order_by("-id") if k.retired_at is None or k.retired_at > since]


def public() -> dict[bytes, Ed25519PublicKey]:
    """Keys that what they signed may still be checked with, by their short name."""
    return {bytes.fromhex(k.kid): Ed25519PublicKey.from_public_bytes(bytes(k.public)) for k in _published()}


def jwks() -> dict[str, Any]:
    """The same as a JWK set (RFC 8037)."""
    live()
    return {
        "keys": [
            {
                "kty": "OKP",
                "crv": "Ed25519",
                "use": "sig",
                "alg": "EdDSA",
                "kid": k.kid,
                "x": base64.urlsafe_b64encode(bytes(k.public)).decode().rstrip("="),
            }
            for k in _published()
        ]
    }


@transaction.atomic
def retire(scope: Scope) -> None:
    """Retire the live key; the next code makes a new one. Codes it signed stay good for as long as they say."""
    QrKey.objects.filter(retired_at__isnull=True).update(retired_at=clock.now())
    audit.write(scope, "admin", what="card key", detail={"did": "retired"})
