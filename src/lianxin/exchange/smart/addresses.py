"""Where this installation is, as a client sees it: every address a token speaks of is made here."""

from __future__ import annotations

from dataclasses import dataclass

from django.http import HttpRequest


@dataclass(frozen=True)
class Addresses:
    """All addresses below one origin such as ``https://lianxin.example``."""

    origin: str

    @property
    def fhir(self) -> str:
        """The FHIR base: the ``iss`` of a launch and the ``aud`` of an authorization."""
        return f"{self.origin}/fhir"

    @property
    def issuer(self) -> str:
        """The issuer of identity tokens."""
        return f"{self.origin}/auth"

    def auth(self, name: str) -> str:
        """An address of ours: authorize, token, introspect, revoke, jwks, grants."""
        return f"{self.origin}/auth/{name}"


def of_request(request: HttpRequest) -> Addresses:
    """The addresses as the caller reached us (the same rule as the FHIR door: a proxy's scheme counts)."""
    scheme = request.META.get("HTTP_X_FORWARDED_PROTO", request.scheme)
    scheme = scheme if scheme in ("http", "https") else "http"
    return Addresses(f"{scheme}://{request.get_host()}")


def of_base(base: str) -> Addresses:
    """The addresses beside a FHIR base."""
    return Addresses(base.removesuffix("/fhir"))
