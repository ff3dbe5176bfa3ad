"""ImagingStudy in the record: one for each attached study, with its series and where its images are to be had."""

from __future__ import annotations

from typing import Any

from django.conf import settings

from lianxin.record import publish as record
from lianxin.regional.archive.models import Instance, Study

ENDPOINT = "dicomweb"
DCM = "http://dicom.nema.org/resources/ontology/DCM"
ID = "http://lianxin.example/id"
MOST_LISTED = 500
"""Instances of a study that are listed one by one; of a larger one only the numbers are, and QIDO tells the rest."""


def resource_id(study: Study) -> str:
    """The id of a study's ImagingStudy."""
    return f"study-{study.pk}"


def study(one: Study) -> None:
    """Write the projection of an attached study, in the caller's transaction."""
    assert one.person is not None
    record.publish([_endpoint()], person_id=None, institution_id=None)
    record.publish([_study(one)], person_id=one.person_id, institution_id=one.institution_id)


def withdraw(one: Study, person_id: int) -> None:
    """Take back what was published of a study that is this person's no more (status entered-in-error)."""
    made = _study(one) | {"status": "entered-in-error"}
    record.publish([made], person_id=person_id, institution_id=one.institution_id)


def address() -> str:
    """Where DICOMweb is served, as the outside knows it."""
    return f"{settings.LIANXIN_PUBLIC_URL.rstrip('/')}/dicomweb"


def _endpoint() -> dict[str, Any]:
    return {
        "resourceType": "Endpoint",
        "id": ENDPOINT,
        "status": "active",
        "connectionType": {
            "system": "http://terminology.hl7.org/CodeSystem/endpoint-connection-type",
            "code": "dicom-wado-rs",
        },
        "name": "DICOMweb",
        "payloadType": [{"text": "DICOM"}],
        "payloadMimeType": ["application/dicom"],
        "address": address(),
    }


def _modality(code: str) -> dict[str, Any]:
    return {"system": DCM, "code": code or "OT"}


def _study(one: Study) -> dict[str, Any]:
    assert one.person is not None
    listed = one.instances <= MOST_LISTED
    held: dict[int, list[dict[str, Any]]] = {}
    if listed:
        for pk, uid, sop_class, number in (
            Instance.objects.filter(study=one, live=True).order_by("series_id", "number", "pk")
            .values_list("series_id", "sop_uid", "sop_class", "number")
        ):  # fmt: skip
            held.setdefault(pk, []).append(
                {"uid": uid, "sopClass": {"system": "urn:ietf:rfc:3986", "code": f"urn:oid:{sop_class}"}}
                | ({"number": number} if number is not None and number >= 0 else {})
            )
    series = []
    for row in one.series.order_by("number", "pk"):
        made: dict[str, Any] = {
            "uid": row.uid,
            "modality": _modality(row.modality),
            "numberOfInstances": row.instances,
        }
        if row.number is not None and row.number >= 0:
            made["number"] = row.number
        if row.description:
            made["description"] = row.description
        if row.body_part:
            made["bodySite"] = {"system": "http://lianxin.example/cs/body-part", "code": row.body_part}
        if held.get(row.pk):
            made["instance"] = held[row.pk]
        series.append(made)
    resource: dict[str, Any] = {
        "resourceType": "ImagingStudy",
        "id": resource_id(one),
        "identifier": [{"system": "urn:dicom:uid", "value": f"urn:oid:{one.study_uid}"}],
        "status": "available",
        "modality": [_modality(code) for code in one.modalities or [one.modality]],
        "subject": {"reference": f"Patient/{one.person.number}"},
        "endpoint": [{"reference": f"Endpoint/{ENDPOINT}"}],
        "numberOfSeries": len(series),
        "numberOfInstances": one.instances,
        "series": series,
    }
    if one.study_at and not one.clock:
        resource["started"] = one.study_at.isoformat(timespec="seconds")
    if one.accession:
        resource["identifier"].append(
            {
                "type": {
                    "coding": [{"system": "http://terminology.hl7.org/CodeSystem/v2-0203", "code": "ACSN"}]
                },
                "system": f"{ID}/accession",
                "value": one.accession,
            }
        )
    if one.order_number:
        resource["basedOn"] = [{"reference": f"ServiceRequest/{one.order_number}"}]
    if one.description:
        resource["description"] = one.description
    return resource
