"""Registering machine clients and apps: what each may ask for and how it proves itself (permission ``manage_accounts``).

A change of keys, secret, scopes or activity revokes what was issued under the old ones.
"""

from __future__ import annotations

import ipaddress
import json
import re
import secrets
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from django.db import transaction
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, KeySet, RSAKey

from lianxin.access import audit, smart, tokens
from lianxin.access.errors import Invalid
from lianxin.access.models import Client
from lianxin.access.scope import Scope
from lianxin.access.seal import sm3
from lianxin.network.models import Institution
from lianxin.standards import clock
from lianxin.standards.text import T, Text

LEVELS = {"backend": ("system",), "app": ("patient", "user")}
RSA_BITS = 2048
MAX_KEYS = 20
MAX_ADDRESSES = 20
_PRIVATE = frozenset({"d", "p", "q", "dp", "dq", "qi", "oth", "k"})
_OWN_SCHEME = re.compile(
    r"[a-z][a-z0-9+-]*(\.[a-z0-9+-]+)+"
)  # of a native app: a reversed domain name (RFC 8252, 7.1)


@dataclass
class Draft:
    """A client as it shall be; ``jwks`` is the JSON text of a key set, ``institution`` None means the whole platform."""

    name: str
    kind: str = "backend"
    institution: Institution | None = None
    scope: str = ""
    jwks: str = ""
    jwks_url: str = ""
    redirect_uris: list[str] = field(default_factory=list)
    launch_url: str = ""
    validation: str = "strict"


def save(scope: Scope, draft: Draft, client: Client | None = None) -> Client:
    """Register a client, or change one; raises :class:`Invalid` naming each field that cannot be taken."""
    scope.demand("manage_accounts")
    errors: dict[str, Text] = {}
    values: dict[str, Any] = {
        "name": draft.name.strip(),
        "kind": draft.kind,
        "institution": draft.institution,
    }
    taken = Client.objects.filter(name=values["name"])
    if not values["name"]:
        errors["name"] = T("请填写名称。", "Give a name.")
    elif (taken.exclude(pk=client.pk) if client else taken).exists():
        errors["name"] = T(
            "已有同名客户端，请换一个名称。", "There is a client of this name; choose another."
        )
    if draft.validation in Client.VALIDATIONS:
        values["validation"] = draft.validation
    else:
        errors["validation"] = T("请选择校验方式。", "Choose how strictly to validate.")
    if draft.kind not in Client.KINDS:
        errors["kind"] = T("请选择类型。", "Choose the kind.")
    else:
        values["scope"] = _checked(errors, "scope", lambda: _scope(draft.kind, draft.scope))
    values["jwks"] = _checked(errors, "jwks", lambda: key_set(draft.jwks))
    values["jwks_url"] = _checked(errors, "jwks_url", lambda: _https(draft.jwks_url.strip()))
    if draft.jwks.strip() and draft.jwks_url.strip():
        errors["jwks_url"] = T("公钥与公钥地址只填一项。", "Give the keys or their address, not both.")
    values["redirect_uris"] = _checked(errors, "redirect_uris", lambda: _redirects(draft.redirect_uris))
    values["launch_url"] = _checked(errors, "launch_url", lambda: _https(draft.launch_url.strip()))
    if draft.kind == "app" and not values["redirect_uris"] and "redirect_uris" not in errors:
        errors["redirect_uris"] = T("应用须登记回调地址。", "An app needs its redirect addresses.")
    if errors:
        raise Invalid(errors)
    with transaction.atomic():
        if client is None:
            made = Client.objects.create(**values)
            audit.write(
                scope, "admin", what=f"client {made.name}", detail={"did": "registered", "scope": made.scope}
            )
            return made
        kept = Client.objects.select_for_update().get(pk=client.pk)
        for name, value in values.items():
            setattr(kept, name, value)
        kept.save()
        tokens.revoke(scope, kept.name)
        audit.write(
            scope, "admin", what=f"client {kept.name}", detail={"did": "changed", "scope": kept.scope}
        )
    return kept


@transaction.atomic
def new_secret(scope: Scope, client: Client) -> str:
    """Give the client a new secret, shown this once; the old one and all its tokens end."""
    scope.demand("manage_accounts")
    made = secrets.token_urlsafe(32)
    Client.objects.filter(pk=client.pk).update(secret_hash=sm3(made.encode()))
    tokens.revoke(scope, client.name)
    audit.write(scope, "admin", what=f"client {client.name}", detail={"did": "new secret"})
    return made


@transaction.atomic
def remove_secret(scope: Scope, client: Client) -> None:
    """Take the client's secret away (it proves itself by its keys, or is public)."""
    scope.demand("manage_accounts")
    Client.objects.filter(pk=client.pk).update(secret_hash=None)
    tokens.revoke(scope, client.name)
    audit.write(scope, "admin", what=f"client {client.name}", detail={"did": "secret removed"})


@transaction.atomic
def set_active(scope: Scope, client: Client, active: bool) -> None:
    """Let the client in again, or shut it out: then its tokens and grants end too."""
    scope.demand("manage_accounts")
    Client.objects.filter(pk=client.pk).update(active=active)
    if not active:
        tokens.revoke(scope, client.name)
    audit.write(
        scope, "admin", what=f"client {client.name}", detail={"did": "enabled" if active else "disabled"}
    )


def touch(client: Client) -> None:
    """Remember that the client has just proved itself."""
    Client.objects.filter(pk=client.pk).update(last_used_at=clock.now())


class _Refused(ValueError):
    def __init__(self, text: Text) -> None:
        super().__init__(text.en)
        self.text = text


def _checked(errors: dict[str, Text], name: str, work: Any) -> Any:
    try:
        return work()
    except _Refused as refused:
        errors[name] = refused.text
    except Invalid as refused:
        errors[name] = refused.message
    return None


def _scope(kind: str, text: str) -> str:
    return " ".join(smart.parse(text, LEVELS[kind], context=kind == "app"))


def key_set(text: str) -> dict[str, Any] | None:
    """A JSON Web Key Set of public keys as it is kept, None for an empty text; raises ValueError with what is wrong."""
    if not text.strip():
        return None
    bad = T(
        '不是 JSON Web Key Set,应形如 {"keys": [...]}。',
        'This is no JSON Web Key Set; it looks like {"keys": [...]}.',
    )
    try:
        given = json.loads(text)
    except ValueError:
        raise _Refused(bad) from None
    keys = given.get("keys") if isinstance(given, dict) else None
    if (
        not isinstance(keys, list)
        or not 0 < len(keys) <= MAX_KEYS
        or not all(isinstance(k, dict) for k in keys)
    ):
        raise _Refused(bad)
    kids = [k.get("kid") for k in keys]
    if not all(isinstance(k, str) and k for k in kids) or len(set(kids)) != len(kids):
        raise _Refused(T("每把公钥都须有互不相同的 kid。", "Every key needs a kid of its own."))
    for one in keys:
        if _PRIVATE & one.keys():
            raise _Refused(
                T(
                    "只能登记公钥；所给密钥含私钥部分，请立即更换该密钥。",
                    "Public keys only: this one has its private part; replace that key now.",
                )
            )
    usable_keys(given, strict=True)
    return {"keys": keys}


def usable_keys(given: dict[str, Any], *, strict: bool = False) -> KeySet:
    """The RSA (2048 bits and more) and P-384 keys of a set; raises ValueError when none is left (``strict``: or one is unreadable)."""
    found: list[Any] = []
    for one in given.get("keys", []):
        if (
            not isinstance(one, dict)
            or one.get("use") not in (None, "sig")
            or one.get("kty") not in ("RSA", "EC")
        ):
            continue
        try:
            key: Any = RSAKey.import_key(one) if one["kty"] == "RSA" else ECKey.import_key(one)
            good = key.public_key.key_size >= RSA_BITS if one["kty"] == "RSA" else one.get("crv") == "P-384"
        except (JoseError, ValueError, TypeError, KeyError, AttributeError):
            if not strict:
                continue
            raise _Refused(
                T("公钥 {kid} 无法读取。", "The key {kid} cannot be read.").format(
                    kid=str(one.get("kid"))[:40]
                )
            ) from None
        if good:
            found.append(key)
    if not found:
        raise _Refused(
            T(
                "没有可用的签名公钥：须为 RSA 2048 位以上(RS384)或 P-384(ES384)。",
                "No usable signing key: RSA of 2048 bits and more (RS384) or P-384 (ES384) is wanted.",
            )
        )
    return KeySet(found)


def _loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _parts(url: str) -> Any:
    bad = T(
        "地址“{url}”不完整或含不允许的部分。",
        "The address “{url}” is incomplete or has parts that are not allowed.",
    ).format(url=url[:100])
    if len(url) > 500 or any(ord(c) <= 32 or ord(c) > 126 for c in url):
        raise _Refused(bad)
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        raise _Refused(bad) from None
    if parts.fragment or "#" in url or parts.username is not None or not parts.scheme:
        raise _Refused(bad)
    return parts


def _https(url: str) -> str:
    """A web address: https, or http on this machine; "" stays ""."""
    if not url:
        return ""
    parts = _parts(url)
    if parts.hostname and (parts.scheme == "https" or (parts.scheme == "http" and _loopback(parts.hostname))):
        return url
    raise _Refused(
        T(
            "地址“{url}”须使用 https(本机调试可用 http)。",
            "The address “{url}” must use https (http only on this machine).",
        ).format(url=url[:100])
    )


def _redirects(urls: list[str]) -> list[str]:
    """Redirect addresses, compared exactly later: https, http on this machine, or a native app's own scheme."""
    out = []
    for url in (u.strip() for u in urls):
        if not url:
            continue
        parts = _parts(url)
        if parts.scheme in ("http", "https"):
            _https(url)
        elif not _OWN_SCHEME.fullmatch(parts.scheme):
            raise _Refused(
                T(
                    "回调地址“{url}”的协议不允许；移动应用请用反写域名作协议。",
                    "The scheme of “{url}” is not allowed; a native app uses its reversed domain name.",
                ).format(url=url[:100])
            )
        out.append(url)
    if len(out) > MAX_ADDRESSES:
        raise _Refused(T("回调地址过多。", "Too many redirect addresses."))
    return list(dict.fromkeys(out))
