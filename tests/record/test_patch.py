"""JSON Patch and FHIRPath Patch on exact text: digits and untouched text stay; misfits and nonsense are refused."""

import json

import pytest

from lianxin.record import patch, patch_diff, patch_path, validate
from lianxin.record.json_tree import Node
from lianxin.record.patch import Patch
from lianxin.record.problems import Problem


def jpatch(body, *steps):
    raw = steps[0] if isinstance(steps[0], bytes) else json.dumps(steps).encode()
    return Patch("json", raw).apply(body if isinstance(body, str) else json.dumps(body))


def fpatch(body, *operations):
    made = {"resourceType": "Parameters", "parameter": []}
    for one in operations:
        parts = [{"name": k.partition("__")[0], **_value(k, v)} for k, v in one.items()]
        made["parameter"].append({"name": "operation", "part": parts})
    return Patch("fhirpath", json.dumps(made, ensure_ascii=False).encode()).apply(
        body if isinstance(body, str) else json.dumps(body, ensure_ascii=False)
    )


def _value(key, value):
    name, _, kind = key.partition("__")
    if kind == "part":
        return {"part": value}
    if kind:
        return {kind: value}
    return (
        {"valueInteger": value}
        if isinstance(value, int)
        else {"valueString": value}
        if name != "type"
        else {"valueCode": value}
    )


TEXT = '{"resourceType":"Observation","status":"final",  "code":{ "text" : "体重 \\u00e9" }, "valueQuantity":{"value": 1.10, "unit":"kg"},"note":[{"text":"a"},{"text":"b"}]}'


def test_untouched_text_and_digits_stay():
    made = jpatch(
        TEXT,
        b'[{"op":"replace","path":"/status","value":"amended"},{"op":"add","path":"/note/1/time","value":"2026"}]',
    ).decode()
    assert '{ "text" : "体重 \\u00e9" }' in made
    assert '{"value": 1.10, "unit":"kg"}' in made
    assert '"status":"amended"' in made
    made = jpatch(TEXT, b'[{"op":"replace","path":"/valueQuantity/value","value":2.500}]').decode()
    assert '{"value":2.500,"unit":"kg"}' in made


@pytest.mark.parametrize(
    ("doc", "steps", "wanted"),
    [
        ({"a": 1}, [{"op": "add", "path": "/b", "value": None}], {"a": 1, "b": None}),
        ({"a": [1, 3]}, [{"op": "add", "path": "/a/1", "value": 2}], {"a": [1, 2, 3]}),
        ({"a": [1]}, [{"op": "add", "path": "/a/-", "value": [2]}], {"a": [1, [2]]}),
        ({"a": [1]}, [{"op": "add", "path": "/a/1", "value": 2}], {"a": [1, 2]}),
        ({"a": 1, "b": 2}, [{"op": "remove", "path": "/a"}], {"b": 2}),
        ({"a": [1, 2]}, [{"op": "remove", "path": "/a/0"}], {"a": [2]}),
        ({"a/b": 1, "c~d": 2}, [{"op": "replace", "path": "/a~1b", "value": 3}, {"op": "remove", "path": "/c~0d"}], {"a/b": 3}),
        ({"a": {"b": 1}, "c": {}}, [{"op": "move", "from": "/a/b", "path": "/c/b"}], {"a": {}, "c": {"b": 1}}),
        ({"a": [1, 2, 3]}, [{"op": "move", "from": "/a/0", "path": "/a/2"}], {"a": [2, 3, 1]}),
        ({"a": 1}, [{"op": "move", "from": "/a", "path": "/a"}], {"a": 1}),
        ({"a": {"b": [1]}}, [{"op": "copy", "from": "/a", "path": "/c"}, {"op": "add", "path": "/c/b/-", "value": 2}], {"a": {"b": [1]}, "c": {"b": [1, 2]}}),
        ({"a": {"b": 1.0, "c": [True]}}, [{"op": "test", "path": "/a", "value": {"c": [True], "b": 1}}], {"a": {"b": 1.0, "c": [True]}}),
        ({"": 1}, [{"op": "replace", "path": "/", "value": 2}], {"": 2}),
        ({"a": 1}, [{"op": "replace", "path": "", "value": {"b": 1}}], {"b": 1}),
        ({"a": None}, [{"op": "test", "path": "/a", "value": None}], {"a": None}),
    ],
)  # fmt: skip
def test_json_patch(doc, steps, wanted):
    assert json.loads(jpatch(doc, *steps)) == wanted


@pytest.mark.parametrize(
    ("doc", "steps", "status"),
    [
        ({"a": 1}, b"{}", 400),
        ({"a": 1}, b"[1]", 400),
        ({"a": 1}, b'[{"op":"spam","path":"/a"}]', 400),
        ({"a": 1}, b'[{"op":"add","path":"/b"}]', 400),
        ({"a": 1}, b'[{"op":"copy","path":"/b"}]', 400),
        ({"a": 1}, b'[{"op":"add","path":"b","value":1}]', 400),
        ({"a": 1}, b'[{"op":"add","path":"/~2","value":1}]', 400),
        ({"a": 1}, b'[{"op":"test","path":"/a","value":2}]', 422),
        ({"a": 1}, b'[{"op":"test","path":"/a","value":true}]', 422),
        ({"a": 1}, b'[{"op":"test","path":"/a","value":"1"}]', 422),
        ({"a": [1, 2]}, b'[{"op":"add","path":"/a/3","value":1}]', 422),
        ({"a": [1, 2]}, b'[{"op":"remove","path":"/a/01"}]', 422),
        ({"a": [1, 2]}, b'[{"op":"remove","path":"/a/-1"}]', 422),
        ({"a": [1, 2]}, b'[{"op":"remove","path":"/a/-"}]', 422),
        ({"a": [1, 2]}, b'[{"op":"test","path":"/a/1e0","value":2}]', 422),
        ({"a": 1}, b'[{"op":"replace","path":"/b","value":1}]', 422),
        ({"a": 1}, b'[{"op":"remove","path":"/a/b"}]', 422),
        ({"a": {"b": 1}}, b'[{"op":"move","from":"/a","path":"/a/b/c"}]', 422),
        ({"a": 1}, b'[{"op":"remove","path":""}]', 422),
    ],
)
def test_json_patch_refusals(doc, steps, status):
    with pytest.raises(Problem) as caught:
        jpatch(doc, steps)
    assert caught.value.status == status


def test_a_patch_that_doubles_is_stopped():
    steps = [{"op": "copy", "from": "/a", "path": "/a/-"}] * 60
    with pytest.raises(Problem) as caught:
        jpatch({"a": ["x" * 1000]}, *steps)
    assert caught.value.status == 413
    assert caught.value.issues[0].expression.startswith("patch[")


PATIENT = {
    "resourceType": "Patient",
    "birthDate": "1980-01-01",
    "_birthDate": {"extension": [{"url": "http://t", "valueDateTime": "1980-01-01T08:00:00Z"}]},
    "name": [{"use": "official", "family": "单", "given": ["晓", "明"]}, {"use": "nickname", "text": "小明"}],
    "identifier": [{"system": "urn:a", "value": "1"}, {"system": "urn:b", "value": "2"}],
    "contact": [{"gender": "male"}],
    "deceasedBoolean": False,
}


@pytest.mark.parametrize(
    ("operation", "check"),
    [
        ({"type": "replace", "path": "Patient.birthDate", "value__valueDate": "1981"}, lambda p: p["birthDate"] == "1981" and "_birthDate" in p),
        ({"type": "add", "path": "Patient", "name": "gender", "value__valueCode": "male"}, lambda p: p["gender"] == "male"),
        ({"type": "add", "path": "Patient", "name": "telecom", "value__valueContactPoint": {"value": "1"}}, lambda p: p["telecom"] == [{"value": "1"}]),
        ({"type": "add", "path": "Patient", "name": "identifier", "value__valueIdentifier": {"value": "3"}}, lambda p: len(p["identifier"]) == 3),
        ({"type": "add", "path": "Patient.name.where(use = 'official')", "name": "given", "value__valueString": "三"}, lambda p: p["name"][0]["given"][2] == "三"),
        ({"type": "add", "path": "Patient", "name": "multipleBirth", "value__valueInteger": 2}, lambda p: p["multipleBirthInteger"] == 2),
        ({"type": "add", "path": "Patient", "name": "contact", "value__part": [
            {"name": "name", "valueHumanName": {"text": "李"}}, {"name": "gender", "valueCode": "female"},
            {"name": "telecom", "valueContactPoint": {"value": "1"}}]},
         lambda p: p["contact"][1] == {"name": {"text": "李"}, "gender": "female", "telecom": [{"value": "1"}]}),
        ({"type": "insert", "path": "Patient.identifier", "index": 1, "value__valueIdentifier": {"value": "x"}}, lambda p: [i["value"] for i in p["identifier"]] == ["1", "x", "2"]),
        ({"type": "insert", "path": "Patient.photo", "index": 0, "value__valueAttachment": {"title": "x"}}, lambda p: p["photo"] == [{"title": "x"}]),
        ({"type": "delete", "path": "Patient.identifier.where(system='urn:a')"}, lambda p: p["identifier"] == [{"system": "urn:b", "value": "2"}]),
        ({"type": "delete", "path": "Patient.birthDate"}, lambda p: "birthDate" not in p and "_birthDate" not in p),
        ({"type": "delete", "path": "Patient.maritalStatus"}, lambda p: p == PATIENT),
        ({"type": "delete", "path": "Patient.contact[0]"}, lambda p: "contact" not in p),
        ({"type": "delete", "path": "Patient.birthDate.extension('http://t')"}, lambda p: p["birthDate"] == "1980-01-01" and p["_birthDate"] == {}),
        ({"type": "replace", "path": "Patient.deceased", "value__valueDateTime": "2026"}, lambda p: p["deceasedDateTime"] == "2026" and "deceasedBoolean" not in p),
        ({"type": "replace", "path": "Patient.name[0].given[1]", "value__valueString": "亮"}, lambda p: p["name"][0]["given"] == ["晓", "亮"]),
        ({"type": "replace", "path": "Patient.name.where(use='official' and given.exists()).family", "value__valueString": "李"}, lambda p: p["name"][0]["family"] == "李"),
        ({"type": "replace", "path": "Patient.name.first().given.last()", "value__valueString": "亮"}, lambda p: p["name"][0]["given"][1] == "亮"),
        ({"type": "replace", "path": "Patient.identifier.where(system.startsWith('urn:b')).value", "value__valueString": "9"}, lambda p: p["identifier"][1]["value"] == "9"),
        ({"type": "move", "path": "Patient.identifier", "source": 1, "destination": 0}, lambda p: [i["value"] for i in p["identifier"]] == ["2", "1"]),
    ],
)  # fmt: skip
def test_fhirpath_patch(operation, check):
    made = json.loads(fpatch(PATIENT, operation))
    assert check(made), made


@pytest.mark.parametrize(
    ("operation", "status"),
    [
        ({"type": "spam", "path": "Patient"}, 400),
        ({"type": "delete", "path": "Patient.name.repeat(x)"}, 400),
        ({"type": "delete", "path": "Patient..name"}, 400),
        ({"type": "delete", "path": "Patient.name["}, 400),
        ({"type": "delete", "path": "(" * 500}, 400),
        ({"type": "delete", "path": "a" * 2000}, 400),
        ({"type": "delete"}, 400),
        ({"type": "insert", "path": "Patient.name", "value__valueHumanName": {}}, 400),
        ({"type": "insert", "path": "Patient.name", "index": 5, "value__valueHumanName": {}}, 422),
        ({"type": "insert", "path": "Patient.birthDate", "index": 0, "value__valueDate": "2026"}, 422),
        ({"type": "delete", "path": "Patient.name"}, 422),
        ({"type": "delete", "path": "Patient"}, 422),
        ({"type": "replace", "path": "Patient.photo", "value__valueString": "x"}, 422),
        ({"type": "replace", "path": "Patient", "value__valueString": "x"}, 422),
        ({"type": "replace", "path": "Patient.birthDate"}, 400),
        ({"type": "add", "path": "Patient", "name": "surprise", "value__valueString": "x"}, 422),
        ({"type": "add", "path": "Patient", "name": "birthDate", "value__valueDate": "2026"}, 422),
        ({"type": "add", "path": "Patient", "name": "deceased", "value__valueDateTime": "2026"}, 422),
        ({"type": "add", "path": "Patient.birthDate", "name": "x", "value__valueDate": "2026"}, 422),
        ({"type": "move", "path": "Patient.identifier", "source": 4, "destination": 0}, 422),
    ],
)
def test_fhirpath_patch_refusals(operation, status):
    with pytest.raises(Problem) as caught:
        fpatch(PATIENT, operation)
    assert caught.value.status == status
    assert caught.value.issues[0].expression == "Parameters.parameter[0]"


def test_fhirpath_patch_keeps_digits_and_text():
    raw = b'{"resourceType":"Parameters","parameter":[{"name":"operation","part":[{"name":"type","valueCode":"replace"},{"name":"path","valueString":"Observation.value.value"},{"name":"value","valueDecimal":7.0500}]}]}'
    made = Patch("fhirpath", raw).apply(TEXT).decode()
    assert '"valueQuantity":{"value":7.0500,"unit":"kg"}' in made
    assert '{ "text" : "体重 \\u00e9" }' in made


def test_lists_of_primitives_keep_their_extensions_beside_them():
    body = {
        "resourceType": "Patient",
        "name": [{"given": ["a", "b"], "_given": [None, {"extension": [{"url": "u", "valueString": "v"}]}]}],
    }
    made = json.loads(
        fpatch(body, {"type": "insert", "path": "Patient.name.given", "index": 0, "value__valueString": "z"})
    )
    assert made["name"][0] == {
        "given": ["z", "a", "b"],
        "_given": [None, None, {"extension": [{"url": "u", "valueString": "v"}]}],
    }
    made = json.loads(fpatch(body, {"type": "delete", "path": "Patient.name.given[1]"}))
    assert made["name"][0] == {"given": ["a"]}


def test_a_bundle_carries_patches():
    inner = b'[{"op":"remove","path":"/a"}]'
    import base64

    made = patch.of_resource(
        json.dumps(
            {
                "resourceType": "Binary",
                "contentType": "application/json-patch+json",
                "data": base64.b64encode(inner).decode(),
            }
        ).encode()
    )
    assert made == Patch("json", inner)
    for bad in (
        {"resourceType": "Patient"},
        {"resourceType": "Binary", "contentType": "text/plain", "data": "eA=="},
        [],
    ):
        with pytest.raises(Problem):
            patch.of_resource(json.dumps(bad).encode())


def test_paths_name_places():
    root = Node(json.dumps(PATIENT, ensure_ascii=False).encode())
    for path, count in [
        ("Patient.name.given", 2), ("name.given", 2), ("Observation.name", 0), ("Patient.name.where(use='x')", 0), ("Patient.deceased", 1),
        ("Patient.deceased.ofType(boolean)", 1), ("(Patient.deceased as boolean)", None), ("Patient.name.where($this.use != 'official')", 1),
        ("Patient.name.where(given.count() = 2)", 1), ("Patient.name.where(use.empty().not())", 2), ("Patient.name.skip(1)", 1),
        ("Patient.name.where(text.contains('明') or family = '单')", 2), ("Patient.`name`.take(1)", 1),
    ]:  # fmt: skip
        if count is None:
            with pytest.raises(Problem):
                patch_path.find(root, path)
        else:
            assert len(patch_path.find(root, path)) == count, path


SPOKEN = {
    "resourceType": "Observation",
    "id": "1",
    "meta": {"versionId": "1", "tag": [{"code": "x"}]},
    "status": "final",
    "code": {"text": "t"},
    "valueQuantity": {"value": 1.5, "unit": "kg"},
    "note": [{"text": "a"}, {"text": "b"}, {"text": "c"}],
    "component": [{"code": {"text": "k"}, "valueString": "v", "interpretation": [{"text": "high"}]}],
    "contained": [{"resourceType": "Practitioner", "id": "p", "active": True}],
    "extension": [{"url": "http://e", "valueBoolean": True}],
}


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"status": "amended"},
        {"meta": {"versionId": "2", "tag": [{"code": "x"}, {"code": "y"}]}},
        {"meta": {"versionId": "2"}},
        {"valueQuantity": None, "valueString": "x"},
        {"valueQuantity": {"value": 1.75, "unit": "kg", "code": "kg"}},
        {"note": [{"text": "a"}, {"text": "c"}]},
        {"note": [{"text": "a"}, {"text": "x"}, {"text": "b"}, {"text": "c"}]},
        {"note": None},
        {"performer": [{"display": "a"}, {"display": "b"}]},
        {"component": [{"code": {"text": "k2"}, "valueInteger": 3}]},
        {
            "component": [
                *SPOKEN["component"],
                {
                    "code": {"text": "n"},
                    "valueQuantity": {"value": 2},
                    "interpretation": [{"text": "low"}, {"text": "odd"}],
                },
            ]
        },
        {
            "extension": [
                {"url": "http://e", "valueBoolean": False},
                {"url": "http://f", "extension": [{"url": "g", "valueCode": "h"}]},
            ]
        },
        {"contained": [{"resourceType": "Practitioner", "id": "p", "active": False}]},
        {
            "text": {"status": "generated", "div": "<div>x</div>"},
            "subject": {"reference": "Patient/1"},
            "issued": "2026-01-01T00:00:00Z",
        },
    ],
)
def test_a_diff_applied_gives_the_new_version(change):
    new = {k: v for k, v in {**SPOKEN, **change}.items() if v is not None}
    made = patch_diff.parameters(
        "Observation", Node(json.dumps(SPOKEN).encode()), Node(json.dumps(new).encode())
    ).text()
    parameters = json.loads(made)
    assert not validate.check(parameters)[0], parameters
    patched = (
        json.loads(Patch("fhirpath", made).apply(json.dumps(SPOKEN)))
        if parameters.get("parameter")
        else SPOKEN
    )

    def bare(resource):
        return {**resource, "meta": {k: v for k, v in resource.get("meta", {}).items() if k != "versionId"}}

    assert bare(patched) == bare(new)
