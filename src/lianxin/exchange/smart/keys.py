"""Public keys of clients (registered, or fetched from their JWKS address), and the keys that sign our identity tokens."""

from __future__ import annotations

import datetime as dt
import json
import threading
import time
from typing import Any

from django.db import IntegrityError, transaction
from joserfc.jwk import ECKey, KeySet, RSAKey

from lianxin.access import clients, seal
from lianxin.access.models import Client, SigningKey
from lianxin.exchange.smart import fetching
from lianxin.exchange.smart.errors import invalid_client
from lianxin.standards import clock

KEPT_SECONDS = 300.0  # a fetched key set is used this long
AGAIN_SECONDS = 20.0  # an unknown kid may mean a new key: fetch again, but not more often than this
FETCH_SECONDS = 5.0
MOST_BYTES = 64 * 1024
ALGORITHMS = ("RS256", "ES384")
LINGER = dt.timedelta(days=1)

_fetched: dict[str, tuple[float, KeySet]] = {}
_guard = threading.Lock()


def of_client(client: Client, kid: str) -> KeySet:
    """The client's signing keys; fetched anew when ``kid`` is not among the ones kept. Raises OAuthError invalid_client."""
    if client.jwks is not None:
        return clients.usable_keys(client.jwks)
    if not client.jwks_url:
        raise invalid_client("the client has no registered keys")
    now = time.monotonic()
    with _guard:
        held = _fetched.get(client.jwks_url)
    if held is not None:
        age = now - held[0]
        if age < AGAIN_SECONDS or (age < KEPT_SECONDS and any(k.kid == kid for k in held[1].keys)):
            return held[1]
    found = _fetch(client.jwks_url)
    with _guard:
        if len(_fetched) > 1000:
            _fetched.clear()
        _fetched[client.jwks_url] = (now, found)
    return found


def _fetch(url: str) -> KeySet:
    try:
        given = json.loads(fetching.fetch(url, FETCH_SECONDS, MOST_BYTES))
        if not isinstance(given, dict):
            raise ValueError("not an object")
        return clients.usable_keys(given)
    except fetching.NotFetched as why:
        raise invalid_client(f"the JWKS address could not be read: {why}") from None
    except (ValueError, RecursionError) as wrong:
        raise invalid_client(f"the JWKS address has no usable key set: {wrong}") from None


def forget() -> None:
    """Drop every fetched key set (tests)."""
    with _guard:
        _fetched.clear()


# ------------------------------------------------------------------------------------------------------------------- ours


def _opened(row: SigningKey) -> Any:
    given = json.loads(seal.unseal(row.private))
    return RSAKey.import_key(given) if row.algorithm.startswith("RS") else ECKey.import_key(given)


def signing(algorithm: str) -> Any:
    """Our live private key for an algorithm (RS256, ES384); made when there is none."""
    row = SigningKey.objects.filter(algorithm=algorithm, retired_at__isnull=True).first()
    if row is None:
        parameters: Any = {"use": "sig", "alg": algorithm}
        made: Any = (
            RSAKey.generate_key(2048, parameters, auto_kid=True)
            if algorithm == "RS256"
            else ECKey.generate_key("P-384", parameters, auto_kid=True)
        )
        try:
            with transaction.atomic():
                row = SigningKey.objects.create(
                    kid=made.kid,
                    algorithm=algorithm,
                    private=seal.seal(json.dumps(made.as_dict(private=True))),
                )
        except IntegrityError:  # another process was first
            row = SigningKey.objects.get(algorithm=algorithm, retired_at__isnull=True)
    return _opened(row)


def public() -> dict[str, Any]:
    """Our key set as published: live keys, and retired ones for as long as something they signed may be checked."""
    for algorithm in ALGORITHMS:
        signing(algorithm)
    since = clock.now() - LINGER
    rows = [r for r in SigningKey.objects.order_by("-id") if r.retired_at is None or r.retired_at > since]
    return {"keys": [_opened(row).as_dict(private=False) for row in rows]}


def retire() -> int:
    """Retire our live keys (new ones are made when next needed); returns how many."""
    return SigningKey.objects.filter(retired_at__isnull=True).update(retired_at=clock.now())
