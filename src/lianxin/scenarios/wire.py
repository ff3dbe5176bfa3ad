"""Talking to the platform as a vendor's system does: FHIR over the door, in this process, with a bearer token."""

from __future__ import annotations

import io
import json
from typing import Any
from wsgiref.util import setup_testing_defaults

from lianxin.exchange.fhir import door


class Refused(Exception):
    """The door answered with an error; the OperationOutcome is the message."""


def call(token: str, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
    """One request to ``/fhir/<path>``; returns the resource answered, raises :class:`Refused` on 4xx and 5xx."""
    raw = json.dumps(body, ensure_ascii=False).encode() if body is not None else b""
    path, _, query = path.partition("?")
    environ: dict[str, Any] = {
        "REQUEST_METHOD": method,
        "PATH_INFO": f"/fhir/{path}".rstrip("/"),
        "QUERY_STRING": query,
        "CONTENT_TYPE": "application/fhir+json",
        "CONTENT_LENGTH": str(len(raw)),
        "HTTP_AUTHORIZATION": f"Bearer {token}",
        "HTTP_ACCEPT": "application/fhir+json",
        "wsgi.input": io.BytesIO(raw),
    }
    setup_testing_defaults(environ)
    status: list[str] = []

    def start_response(line: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Any:
        status.append(line)
        return lambda data: None

    answer = b"".join(door.application(environ, start_response))
    if status[0][0] not in "23":
        raise Refused(f"{method} {path}: {status[0]} {answer.decode(errors='replace')[:2000]}")
    return json.loads(answer) if answer else {}
