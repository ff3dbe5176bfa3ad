"""fhirpy and fhirclient (SMART on FHIR) against the served door, each used as its documentation says."""

from __future__ import annotations

from typing import Any

import pytest
from fhirclient import client as smart
from fhirclient.auth import FHIRAuth
from fhirclient.models import bundle as bundles
from fhirclient.models import observation as observations
from fhirclient.models import patient as patients
from fhirclient.models import practitioner as practitioners
from fhirpy import SyncFHIRClient
from fhirpy.base.exceptions import OperationOutcome, ResourceNotFound

from tests.clients.conftest import Door

SYSTEM = "urn:lianxin:test"


def patient(value: str, family: str = "安") -> dict[str, Any]:
    return {"resourceType": "Patient", "identifier": [{"system": SYSTEM, "value": value}], "gender": "female",
            "name": [{"family": family, "text": f"{family}然"}], "birthDate": "1980-05-06"}  # fmt: skip


def practitioner(value: str) -> dict[str, Any]:
    return {"resourceType": "Practitioner", "identifier": [{"system": SYSTEM, "value": value}],
            "name": [{"text": "甄一"}]}  # fmt: skip


def observation(pid: str, value: float, when: str) -> dict[str, Any]:
    return {"resourceType": "Observation", "status": "final", "effectiveDateTime": when, "subject": {"reference": f"Patient/{pid}"},
            "code": {"coding": [{"system": "http://loinc.org", "code": "8480-6"}]}, "valueQuantity": {"value": value, "unit": "mmHg"}}  # fmt: skip


def bundle(kind: str, *entries: tuple[str, str, dict[str, Any] | None]) -> dict[str, Any]:
    made = [{**({"resource": r} if r else {}), "request": {"method": m, "url": u}} for m, u, r in entries]
    return {"resourceType": "Bundle", "type": kind, "entry": made}


class TestFhirpy:
    @pytest.fixture(scope="class")
    @staticmethod
    def client(door: Door) -> SyncFHIRClient:
        return SyncFHIRClient(door.base, authorization=f"Bearer {door.token}")

    def test_capability(self, client: SyncFHIRClient) -> None:
        statement = client.execute("metadata", method="get")
        assert statement["fhirVersion"] == "4.0.1"

    def test_create_read_update_delete(self, client: SyncFHIRClient) -> None:
        made = client.resource("Patient", **patient("py-1"))
        made.save()
        assert made.id
        assert made["meta"]["versionId"] == "1"
        read = client.reference("Patient", made.id).to_resource()
        assert read.serialize() == made.serialize()
        read["gender"] = "other"
        read.update()
        assert read["meta"]["versionId"] == "2"
        made.refresh()
        assert made["gender"] == "other"
        read.refresh()
        assert read["meta"]["versionId"] == "2"
        read.delete()
        with pytest.raises(ResourceNotFound):
            client.get("Patient", made.id)

    def test_update_as_create(self, client: SyncFHIRClient) -> None:
        made = client.resource("Practitioner", **practitioner("py-own"), id="py-own-id")
        made.save()
        assert client.get("Practitioner", "py-own-id")["identifier"][0]["value"] == "py-own"

    def test_patch(self, client: SyncFHIRClient) -> None:
        made = client.resource("Patient", **patient("py-2")).create()
        made.patch(gender="unknown", birthDate=None)
        kept = client.get("Patient", made.id)
        assert kept["gender"] == "unknown"
        assert "birthDate" not in kept
        assert kept["name"][0]["text"] == "安然"
        made["active"] = True
        made.save(fields=["active"])
        assert client.get("Patient", made.id)["active"] is True
        assert client.patch("Patient", made.id, gender="male")["gender"] == "male"

    def test_search_and_page_to_the_end(self, client: SyncFHIRClient) -> None:
        pid = client.resource("Patient", **patient("py-3")).create().id
        for day in range(1, 8):
            client.resource("Observation", **observation(pid, 110 + day, f"2026-03-0{day}")).save()
        found = client.resources("Observation").search(patient=f"Patient/{pid}").sort("-date").limit(3)
        assert [o["valueQuantity"]["value"] for o in found] == [117, 116, 115, 114, 113, 112, 111]
        assert len(found.fetch()) == 3
        assert client.resources("Observation").search(patient=pid, date__ge="2026-03-05").count() == 3
        assert (
            client.resources("Observation").search(patient=pid).sort("date").first()["valueQuantity"]["value"]
            == 111
        )
        assert client.resources("Patient").search(identifier=f"{SYSTEM}|py-3").get().id == pid
        both = client.resources("Observation").search(patient=pid).include("Observation", "subject").limit(2)
        modes = [e["search"]["mode"] for e in both.fetch_raw()["entry"]]
        assert modes == ["match", "match", "include"]
        had = client.resources("Patient").has("Observation", "subject", code="8480-6").search(_id=pid)
        assert [p.id for p in had.fetch()] == [pid]
        assert (
            client.resources("Observation")
            .search(patient=pid)
            .elements("code")
            .fetch()[0]
            .get("valueQuantity")
            is None
        )

    def test_history(self, client: SyncFHIRClient) -> None:
        made = client.resource("Practitioner", **practitioner("py-4")).create()
        made["active"] = False
        made.update()
        versions = client.execute(f"Practitioner/{made.id}/_history", method="get")
        assert [e["request"]["method"] for e in versions["entry"]] == ["PUT", "POST"]
        assert client.execute(f"Practitioner/{made.id}/_history/1", method="get")["meta"]["versionId"] == "1"

    def test_conditional_create_update_patch_delete(self, client: SyncFHIRClient) -> None:
        mine = client.resources("Practitioner").search(identifier=f"{SYSTEM}|py-5")
        first, created = mine.get_or_create(client.resource("Practitioner", **practitioner("py-5")))
        assert created
        second, created = mine.get_or_create(client.resource("Practitioner", **practitioner("py-5")))
        assert not created
        assert first.id == second.id
        updated, created = mine.update(client.resource("Practitioner", **practitioner("py-5"), active=True))
        assert (updated.id, created, updated["active"]) == (first.id, False, True)
        assert mine.patch(active=False)["active"] is False
        _, status = mine.delete()
        assert status in (200, 204)
        assert mine.first() is None

    def test_batch_and_transaction(self, client: SyncFHIRClient) -> None:
        answer = client.execute("", data=bundle(
            "batch", ("POST", "Practitioner", practitioner("py-6")), ("GET", "Practitioner/nobody", None),
            ("GET", f"Practitioner?identifier={SYSTEM}|py-5", None)))  # fmt: skip
        assert [e["response"]["status"][:3] for e in answer["entry"]] == ["201", "404", "200"]
        whole = bundle("transaction", ("POST", "Observation", observation("x", 1, "2026-03-01")),
                       ("POST", "Patient", patient("py-7")))  # fmt: skip
        ref = "urn:uuid:9a0f4f0e-4c3e-4f40-9f49-0d5cf1b6a001"
        whole["entry"][1]["fullUrl"] = ref
        whole["entry"][0]["resource"]["subject"]["reference"] = ref
        answer = client.execute("", data=whole)
        assert answer["type"] == "transaction-response"
        kept = client.resources("Observation").search(**{"patient.identifier": f"{SYSTEM}|py-7"}).fetch()
        assert len(kept) == 1
        with pytest.raises(OperationOutcome) as refused:
            client.execute("", data=bundle("transaction", ("POST", "Patient", patient("py-8")),
                                           ("POST", "Patient", {**patient("py-9"), "gender": "x"})))  # fmt: skip
        assert refused.value.resource["issue"][0]["expression"] == ["Bundle.entry[1].resource.Patient.gender"]
        assert client.resources("Patient").search(identifier=f"{SYSTEM}|py-8").count() == 0

    def test_validate_and_refusal(self, client: SyncFHIRClient) -> None:
        assert client.resource("Patient", **patient("py-10")).is_valid()
        assert not client.resource("Patient", **{**patient("py-10"), "gender": "x"}).is_valid()
        with pytest.raises(OperationOutcome) as refused:
            client.resource("Patient", **{**patient("py-10"), "gender": "x"}).create()
        assert refused.value.resource["issue"][0]["expression"] == ["Patient.gender"]

    def test_everything(self, client: SyncFHIRClient) -> None:
        pid = client.resource("Patient", **patient("py-11")).create().id
        client.resource("Observation", **observation(pid, 1, "2026-03-01")).create()
        answer = client.resource("Patient", id=pid).execute("$everything", method="get")
        assert sorted(e["resource"]["resourceType"] for e in answer["entry"])[:2] == [
            "Observation",
            "Patient",
        ]


class TestFhirclient:
    @pytest.fixture(scope="class")
    @staticmethod
    def server(door: Door) -> Any:
        made = smart.FHIRClient(settings={"app_id": "vendor", "api_base": door.base})
        made.server.auth = FHIRAuth.create("oauth2", {"access_token": door.token, "app_id": "vendor"})
        return made.server

    def test_capability(self, server: Any, door: Door) -> None:
        own = smart.FHIRClient(settings={"app_id": "vendor", "api_base": door.base}).server
        statement = own.capabilityStatement
        assert statement.fhirVersion == "4.0.1"
        assert {r.type for r in statement.rest[0].resource} >= {"Patient", "Observation"}

    def test_create_read_update_delete(self, server: Any) -> None:
        made = patients.Patient(patient("fc-1")).create(server)
        read = patients.Patient.read(made["id"], server)
        assert read.name[0].family == "安"
        read.gender = "other"
        assert read.update(server)["meta"]["versionId"] == "2"
        read.delete(server)
        with pytest.raises(Exception, match="410"):
            patients.Patient.read(made["id"], server)

    def test_search_and_page_to_the_end(self, server: Any) -> None:
        pid = patients.Patient(patient("fc-2")).create(server)["id"]
        for day in range(1, 8):
            observations.Observation(observation(pid, 110 + day, f"2026-03-0{day}")).create(server)
        asked = observations.Observation.where({"patient": pid, "_sort": "-date", "_count": "3"})
        assert [o.valueQuantity.value for o in asked.perform_resources_iter(server)] == [*range(117, 110, -1)]
        pages = list(observations.Observation.where({"patient": pid, "_count": "3"}).perform_iter(server))
        assert [len(p.entry) for p in pages] == [3, 3, 1]
        since = observations.Observation.where({"patient": pid, "date": "ge2026-03-05"})
        assert len(list(since.perform_resources_iter(server))) == 3

    def test_history_is_a_bundle_it_understands(self, server: Any) -> None:
        made = practitioners.Practitioner(practitioner("fc-3")).create(server)
        read = practitioners.Practitioner.read(made["id"], server)
        read.active = False
        read.update(server)
        versions = bundles.Bundle.read_from(f"Practitioner/{made['id']}/_history", server)
        assert versions.type == "history"
        assert [e.request.method for e in versions.entry] == ["PUT", "POST"]
        old = practitioners.Practitioner.read_from(f"Practitioner/{made['id']}/_history/1", server)
        assert old.active is None

    def test_patch_over_its_session(self, server: Any) -> None:
        made = patients.Patient(patient("fc-4")).create(server)
        headers = server.auth.signed_headers({"Content-Type": "application/json-patch+json"})
        change = b'[{"op": "replace", "path": "/gender", "value": "male"}]'
        answer = server.session.patch(f"{server.base_uri}Patient/{made['id']}", data=change, headers=headers)
        assert answer.status_code == 200, answer.text
        assert patients.Patient.read(made["id"], server).gender == "male"

    def test_conditional_create_over_its_session(self, server: Any) -> None:
        headers = server.auth.signed_headers(
            {"Content-Type": "application/fhir+json", "If-None-Exist": f"identifier={SYSTEM}|fc-5"}
        )
        answers = [
            server.session.post(f"{server.base_uri}Practitioner", json=practitioner("fc-5"), headers=headers)
            for _ in range(2)
        ]
        assert [a.status_code for a in answers] == [201, 200]

    def test_batch_and_transaction(self, server: Any) -> None:
        asked = bundles.Bundle(
            bundle(
                "batch", ("POST", "Practitioner", practitioner("fc-6")), ("GET", "Practitioner/nobody", None)
            )
        )
        answer = bundles.Bundle(asked.create(server))
        assert [e.response.status[:3] for e in answer.entry] == ["201", "404"]
        ref = "urn:uuid:9a0f4f0e-4c3e-4f40-9f49-0d5cf1b6a002"
        whole = bundle(
            "transaction",
            ("POST", "Observation", observation("x", 1, "2026-03-01")),
            ("POST", "Patient", patient("fc-7")),
        )
        whole["entry"][1]["fullUrl"] = ref
        whole["entry"][0]["resource"]["subject"]["reference"] = ref
        answer = bundles.Bundle(bundles.Bundle(whole).create(server))
        assert [e.response.status[:3] for e in answer.entry] == ["201", "201"]
        where = answer.entry[0].response.location.split("/")
        kept = observations.Observation.read(where[where.index("Observation") + 1], server)
        assert kept.subject.reference.startswith("Patient/")

    def test_everything_parses_strictly(self, server: Any) -> None:
        pid = patients.Patient(patient("fc-8")).create(server)["id"]
        whole = bundles.Bundle.read_from(f"Patient/{pid}/$everything", server)
        assert whole.entry[0].resource.resource_type == "Patient"
