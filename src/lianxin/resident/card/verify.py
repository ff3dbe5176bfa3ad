"""Reading a card's code without the platform: what a till, a kiosk or a township's own system needs, and nothing more.

A code is the text ``LX`` and then base32 (RFC 4648, no padding, capitals: the QR alphabet's own, and safe through keyboard
scanners) of 37 bytes and their Ed25519 signature (RFC 8032)::

    kind 1 · key 4 · card number 8 · serial 8 · issued at 4 · seconds good for 4 · nonce 8 · signature 64

all numbers big-endian, times in seconds since 1970. ``kind`` 1 is shown on a phone and lives for seconds, 2 is printed and lives
until the card is replaced. The verifier needs the published keys (``/card/keys.json``), a clock right to half a minute and, for
printed cards, a revocation list of the day (``/card/revoked``). It knows who the card says it is; that it was not copied within
its seconds only the platform can notice. This file depends on ``cryptography`` alone and may be copied.
"""

from __future__ import annotations

import base64
import binascii
import re
import struct
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

PREFIX = "LX"
SHOWN, PRINTED = 1, 2
BODY = struct.Struct(">B4sQ8sII8s")
SIGNATURE = 64
SKEW = 30
"""Seconds that a verifier's clock may be wrong, either way."""
_LENGTH = len(PREFIX) + -(-(BODY.size + SIGNATURE) * 8 // 5)
_FORM = re.compile(rf"{PREFIX}[A-Z2-7]{{{_LENGTH - len(PREFIX)}}}")


@dataclass(frozen=True)
class Claim:
    """What a code says. ``why`` is "" when it holds, else form, key, signature, early, expired or revoked."""

    number: str = ""
    serial: bytes = b""
    kind: int = 0
    issued_at: int = 0
    seconds: int = 0
    nonce: bytes = b""
    why: str = ""

    @property
    def ok(self) -> bool:
        """Whether the code may be believed."""
        return not self.why


def body(
    kind: int, kid: bytes, number: str, serial: bytes, issued_at: int, seconds: int, nonce: bytes
) -> bytes:
    """The bytes that are signed."""
    return BODY.pack(kind, kid, int(number), serial, issued_at, seconds, nonce)


def text(signed: bytes, signature: bytes) -> str:
    """A code as it stands in the QR."""
    return PREFIX + base64.b32encode(signed + signature).decode().rstrip("=")


def read(
    code: str,
    keys: Mapping[bytes, Ed25519PublicKey],
    now: float,
    *,
    revoked: Collection[bytes] = (),
    skew: int = SKEW,
) -> Claim:
    """Check a code at ``now`` (seconds since 1970); never raises for what somebody shows."""
    plain = code.strip().upper() if len(code) < 400 else ""
    if not _FORM.fullmatch(plain):
        return Claim(why="form")
    packed = plain[len(PREFIX) :]
    try:
        raw = base64.b32decode(packed + "=" * (-len(packed) % 8))
    except (binascii.Error, ValueError):
        return Claim(why="form")
    signed, signature = raw[: BODY.size], raw[BODY.size :]
    if len(signature) != SIGNATURE or text(signed, signature) != plain:
        return Claim(why="form")  # spare bits that are not zero: another text for the same bytes
    kind, kid, number, serial, issued_at, seconds, nonce = BODY.unpack(signed)
    key = keys.get(kid)
    if key is None:
        return Claim(why="key")
    try:
        key.verify(signature, signed)
    except InvalidSignature:
        return Claim(why="signature")
    why = ""
    if kind not in (SHOWN, PRINTED):
        why = "form"
    elif now < issued_at - skew:
        why = "early"
    elif now > issued_at + seconds + skew:
        why = "expired"
    elif serial in revoked:
        why = "revoked"
    return Claim(f"{number:016d}", serial, kind, issued_at, seconds, nonce, why)


def keys_of(jwks: Mapping[str, object]) -> dict[bytes, Ed25519PublicKey]:
    """The published key set (JWK, OKP/Ed25519 after RFC 8037) as :func:`read` takes it."""
    found = {}
    rows = jwks.get("keys")
    for row in rows if isinstance(rows, list) else []:
        if isinstance(row, dict) and row.get("crv") == "Ed25519":
            raw = base64.urlsafe_b64decode(row["x"] + "=" * (-len(row["x"]) % 4))
            found[bytes.fromhex(row["kid"])] = Ed25519PublicKey.from_public_bytes(raw)
    return found
