"""The installation's root secret and the keys derived from it."""

import hashlib
import hmac
import os
import secrets as _secrets
from pathlib import Path


def root_secret(home: Path) -> bytes:
    """Return the 32-byte root secret: ``LIANXIN_SECRET`` (hex), else the one kept in ``home`` (made once, mode 0600)."""
    given = os.environ.get("LIANXIN_SECRET")
    if given:
        return bytes.fromhex(given)
    path = home / "secret"
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return bytes.fromhex(path.read_text().strip())
    with os.fdopen(fd, "w") as out:
        out.write(_secrets.token_hex(32))
    return bytes.fromhex(path.read_text().strip())


def derive(secret: bytes, purpose: str) -> bytes:
    """Derive a 32-byte key for ``purpose`` (HMAC-SHA-256 of the purpose under the root secret)."""
    return hmac.new(secret, purpose.encode(), hashlib.sha256).digest()
