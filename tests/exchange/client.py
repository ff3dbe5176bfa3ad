"""A client of the raw WSGI door for tests, and small sound resources."""

import io
import json
from typing import Any
from urllib.parse import unquote_to_bytes

from lianxin.access import tokens
from lianxin.exchange.fhir import hot


class Reply:
    """Status, headers and body of an answer."""

    def __init__(self, status: int, headers: dict[str, str], raw: bytes) -> None:
        self.status, self.headers, self.raw = status, headers, raw

    @property
    def json(self) -> Any:
        return json.loads(self.raw)

    @property
    def issues(self) -> list[dict[str, Any]]:
        return self.json["issue"]


class Client:
    """Calls the door with a bearer token."""

    def __init__(self, name: str, institution: str | None = None, scope: str = "system/*.cruds") -> None:
        self.token = tokens.issue(name, scope, institution)

    def __call__(self, method: str, path: str, body: Any = None, **headers: str) -> Reply:
        raw = (
            body
            if isinstance(body, bytes)
            else b""
            if body is None
            else json.dumps(body, ensure_ascii=False).encode()
        )
        where, _, query = path.partition("?")
        environ: dict[str, Any] = {
            "REQUEST_METHOD": method, "PATH_INFO": unquote_to_bytes(f"/fhir/{where}").decode("latin-1"), "QUERY_STRING": query, "HTTP_HOST": "t", "wsgi.url_scheme": "http",
            "CONTENT_LENGTH": str(len(raw)), "wsgi.input": io.BytesIO(raw), "CONTENT_TYPE": "application/fhir+json",
            "HTTP_AUTHORIZATION": f"Bearer {self.token}",
        }  # fmt: skip
        for name, value in headers.items():
            key = name.upper()
            environ[key if key in ("CONTENT_TYPE", "CONTENT_LENGTH") else f"HTTP_{key}"] = value
        got: dict[str, Any] = {}

        def start(status: str, reply_headers: list[tuple[str, str]]) -> None:
            got["status"], got["headers"] = int(status.split()[0]), dict(reply_headers)

        out = b"".join(hot.application(environ, start))
        return Reply(got["status"], got["headers"], out)


def patient(name: str = "单晓明", birth: str = "1980-05-06", **more: Any) -> dict[str, Any]:
    """A Patient."""
    return {"resourceType": "Patient", "name": [{"text": name}], "gender": "male", "birthDate": birth, **more}


def observation(
    patient_id: str, code: str = "8480-6", value: str = "120", when: str = "2026-03-01T08:00:00+08:00"
) -> bytes:
    """An Observation as exact text (the value is put in as written)."""
    return (
        f'{{"resourceType":"Observation","status":"final","code":{{"coding":[{{"system":"http://loinc.org","code":"{code}"}}]}},'
        f'"subject":{{"reference":"Patient/{patient_id}"}},"effectiveDateTime":"{when}","valueQuantity":{{"value":{value},"unit":"mmHg",'
        '"system":"http://unitsofmeasure.org","code":"mm[Hg]"}}'
    ).encode()
