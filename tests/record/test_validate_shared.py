"""Real resources: everything official and every Synthea resource is accepted, by the quick check wherever it is plain."""

import json
import zipfile

import orjson
import pytest
from django.conf import settings

from lianxin.record import invariants, validate, validate_fast

pytestmark = [
    pytest.mark.shared,
    pytest.mark.skipif(not settings.SHARED.exists(), reason="the shared data folder is not here"),
]

# Not valid R4 themselves: ten search parameters without a base, and one with an id of 66 characters.
BROKEN = {"SearchParameter.base", "SearchParameter.id"}


def resources(name):
    with zipfile.ZipFile(settings.SHARED / "data" / "fhir" / name) as archive:
        for member in archive.namelist():
            if member.endswith(".json"):
                resource = json.loads(archive.read(member))
                yield from [e["resource"] for e in resource["entry"]] if "entry" in resource else [resource]


def test_every_official_instance_is_sound():
    broken = 0
    for resource in resources("r4-definitions.zip"):
        raw = orjson.dumps(resource)
        issues = validate.check(resource)[0]
        if issues:
            assert {i.expression for i in issues} <= BROKEN, resource["id"]
            broken += 1
            continue
        assert validate.accept(raw) == resource
        assert invariants.broken(resource, raw) == [], resource["id"]
    assert broken == 11


def test_every_synthea_resource_takes_the_quick_way():
    count = 0
    for resource in resources("synthea-100-bundles.zip"):
        raw = orjson.dumps(resource)
        assert validate_fast.sound(raw, resource, raw), resource["id"]
        assert invariants.broken(resource, raw) == [], resource["id"]
        count += 1
    assert count >= 38_970
