"""What the tests of bulk data share: a client of /bulk/, and a small record."""

import gzip
import json
import uuid
from typing import Any
from urllib.parse import urlsplit

from django.test import Client as Browser

from lianxin.exchange.bulk import runner
from lianxin.exchange.bulk.models import BulkJob
from tests.exchange.client import Client, Reply, observation, patient


class Bulk(Client):
    """A FHIR client that also speaks to /bulk/."""

    def web(self, method: str, url: str, body: bytes = b"", **headers: str) -> Any:
        """A request to a /bulk/ address."""
        given = {f"HTTP_{k.upper()}": v for k, v in headers.items() if k != "content_type"}
        given.setdefault("HTTP_AUTHORIZATION", f"Bearer {self.token}")
        parts = urlsplit(url)
        return Browser().generic(
            method, parts.path, body, content_type=headers.get("content_type", "application/fhir+ndjson"), HTTP_HOST="testserver", **given
        )  # fmt: skip

    def begin(self, path: str, body: Any = None, **headers: str) -> str:
        """Kick off; the polling address."""
        headers = {"PREFER": "respond-async", **headers}
        reply = self("GET" if body is None else "POST", path, body, **headers)
        assert reply.status == 202, reply.raw
        return reply.headers["Content-Location"]

    def finished(self, where: str) -> dict[str, Any]:
        """Let the workers end everything; the manifest."""
        runner.drain()
        answer = self.web("GET", where)
        assert answer.status_code == 200, (answer.status_code, answer.content)
        assert answer.headers["Content-Type"] == "application/json"
        return json.loads(answer.content)

    def lines(self, url: str) -> list[dict[str, Any]]:
        """The resources of a file."""
        answer = self.web("GET", url)
        assert answer.status_code == 200, answer.status_code
        assert answer.headers["Content-Type"] == "application/fhir+ndjson"
        return [json.loads(line) for line in b"".join(answer.streaming_content).splitlines()]

    def exported(self, path: str, body: Any = None, **headers: str) -> dict[str, list[dict[str, Any]]]:
        """A whole export: resources by type."""
        found: dict[str, list[dict[str, Any]]] = {}
        for file in self.finished(self.begin(path, body, **headers))["output"]:
            got = self.lines(file["url"])
            assert len(got) == file["count"]
            assert {one["resourceType"] for one in got} == {file["type"]}
            found.setdefault(file["type"], []).extend(got)
        return found

    def imported(self, inputs: list[tuple[str, Any]], **more: Any) -> dict[str, Any]:
        """A whole import of (type, lines), uploaded first; the manifest."""
        parts = []
        for rtype, lines in inputs:
            raw = (
                lines
                if isinstance(lines, bytes)
                else b"\n".join(json.dumps(r, ensure_ascii=False).encode() for r in lines)
            )
            answer = self.web("POST", "/bulk/upload", raw)
            assert answer.status_code == 201, answer.content
            parts.append((rtype, json.loads(answer.content)["url"].replace("testserver", "t")))
        return self.finished(self.begin("$import", parameters(parts, **more)))


def parameters(inputs: list[tuple[str, str]], **more: Any) -> dict[str, Any]:
    """The Parameters of an ``$import``."""
    made: list[dict[str, Any]] = [{"name": "inputFormat", "valueCode": "application/fhir+ndjson"}]
    made += [{"name": k, "valueCode": v} for k, v in more.items()]
    made += [
        {"name": "input", "part": [{"name": "type", "valueCode": t}, {"name": "url", "valueUri": u}]} for t, u in inputs
    ]  # fmt: skip
    return {"resourceType": "Parameters", "parameter": made}


def ids(found: dict[str, list[dict[str, Any]]], rtype: str) -> list[str]:
    """Ids of a type, sorted."""
    return sorted(one["id"] for one in found.get(rtype, []))


def fill(client: Client, people: int = 3, results: int = 4) -> list[str]:
    """Patients with observations; the patients' ids."""
    made = []
    for n in range(people):
        pid = f"b-{uuid.uuid4().hex[:8]}"
        reply = client("PUT", f"Patient/{pid}", patient(f"测试{n}", f"19{50 + n}-01-02", id=pid))
        assert reply.status == 201, reply.raw
        for k in range(results):
            reply = client("POST", "Observation", observation(pid, value=str(100 + k)))
            assert reply.status == 201, reply.raw
        made.append(pid)
    return made


def job_of(where: str) -> BulkJob:
    """The job behind a polling address."""
    return BulkJob.objects.get(pk=where.rpartition("/")[2])


__all__ = ["Bulk", "Reply", "fill", "gzip", "ids", "job_of", "parameters"]
