"""What we tell clients about signing in: smart-configuration, OpenID configuration, the CapabilityStatement's security."""

from __future__ import annotations

from typing import Any

from lianxin.access.scope import Scope
from lianxin.exchange.fhir import handlers
from lianxin.exchange.smart import addresses, keys, proof
from lianxin.exchange.smart.addresses import Addresses

CAPABILITIES = [
    "launch-ehr", "launch-standalone", "client-public", "client-confidential-symmetric",
    "client-confidential-asymmetric", "sso-openid-connect", "context-ehr-patient", "context-ehr-encounter",
    "context-standalone-patient", "context-banner", "permission-offline", "permission-online", "permission-patient",
    "permission-user", "permission-v1", "permission-v2",
]  # fmt: skip
SCOPES = [
    "openid", "fhirUser", "profile", "launch", "launch/patient", "launch/encounter", "offline_access", "online_access",
    "patient/*.cruds", "patient/*.rs", "patient/*.read", "user/*.cruds", "user/*.rs", "user/*.read", "system/*.cruds",
    "system/*.rs", "system/*.read",
]  # fmt: skip


def _common(here: Addresses) -> dict[str, Any]:
    return {
        "issuer": here.issuer,
        "jwks_uri": here.auth("jwks"),
        "authorization_endpoint": here.auth("authorize"),
        "token_endpoint": here.auth("token"),
        "introspection_endpoint": here.auth("introspect"),
        "revocation_endpoint": here.auth("revoke"),
        "grant_types_supported": ["authorization_code", "client_credentials", "refresh_token"],
        "response_types_supported": ["code"],
        "scopes_supported": SCOPES,
        "code_challenge_methods_supported": ["S256"],
        "token_endpoint_auth_methods_supported": [
            "private_key_jwt", "client_secret_basic", "client_secret_post", "none",
        ],
        "token_endpoint_auth_signing_alg_values_supported": list(proof.ALGORITHMS),
    }  # fmt: skip


def smart(here: Addresses) -> dict[str, Any]:
    """``/fhir/.well-known/smart-configuration`` (SMART App Launch 2.2, "Conformance")."""
    return _common(here) | {"management_endpoint": here.auth("grants"), "capabilities": CAPABILITIES}


def openid(here: Addresses) -> dict[str, Any]:
    """OpenID Connect Discovery 1.0, 3."""
    return _common(here) | {
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": list(keys.ALGORITHMS),
        "claims_supported": ["iss", "sub", "aud", "exp", "iat", "nonce", "fhirUser", "profile", "name"],
    }


def route(scope: Scope | None, request: handlers.Request) -> handlers.Response:
    """The smart-configuration at the FHIR door."""
    return handlers.Response(
        200, smart(addresses.of_base(request.base)), {"Content-Type": "application/json"}
    )


def capability(statement: dict[str, Any]) -> None:
    """Name the OAuth addresses in ``CapabilityStatement.rest.security``."""
    for rest in statement.get("rest", []):
        here = addresses.of_base(statement.get("implementation", {}).get("url", ""))
        uris = [
            {"url": name, "valueUri": here.auth(path)}
            for name, path in (
                ("authorize", "authorize"), ("token", "token"), ("introspect", "introspect"), ("revoke", "revoke"),
                ("manage", "grants"),
            )
        ]  # fmt: skip
        rest["security"] = {
            "cors": True,
            "extension": [
                {
                    "url": "http://fhir-registry.smarthealthit.org/StructureDefinition/oauth-uris",
                    "extension": uris,
                }
            ],
            "service": [
                {
                    "coding": [
                        {
                            "system": "http://terminology.hl7.org/CodeSystem/restful-security-service",
                            "code": "SMART-on-FHIR",
                            "display": "SMART-on-FHIR",
                        }
                    ],
                    "text": "OAuth2 using SMART-on-FHIR profile (see http://docs.smarthealthit.org)",
                }
            ],
            "description": "Bearer token with SMART scopes (v1 or v2); see /.well-known/smart-configuration",
        }
