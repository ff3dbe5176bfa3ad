"""JSON Merge Patch: the examples of RFC 7396, exact text of what is not touched, and what is refused."""

import pytest

from lianxin.record import patch
from lianxin.record.problems import Problem

MERGE = patch.MERGE_PATCH


@pytest.mark.parametrize(
    ("before", "change", "after"),
    [
        ('{"a":"b"}', '{"a":"c"}', '{"a":"c"}'),
        ('{"a":"b"}', '{"b":"c"}', '{"a":"b","b":"c"}'),
        ('{"a":"b","b":"c"}', '{"a":null}', '{"b":"c"}'),
        ('{"a":["b"]}', '{"a":"c"}', '{"a":"c"}'),
        ('{"a":"c"}', '{"a":["b"]}', '{"a":["b"]}'),
        ('{"a":{"b":"c"}}', '{"a":{"b":"d","c":null}}', '{"a":{"b":"d"}}'),
        ('{"a":[{"b":"c"}]}', '{"a":[1]}', '{"a":[1]}'),
        ('{"e":null}', '{"a":1}', '{"e":null,"a":1}'),
        ('{"a":"foo"}', '{"a":{"bb":{"ccc":null}}}', '{"a":{"bb":{}}}'),
        ('{"x" : 1.10 , "y":{ "z" : 2.0 }}', '{"w":3.00}', '{"x":1.10,"y":{ "z" : 2.0 },"w":3.00}'),
    ],
)
def test_examples(before, change, after):
    assert patch.of_body(MERGE, change.encode()).apply(before).decode() == after


@pytest.mark.parametrize("change", [b"[]", b'"x"', b"7", b"null"])
def test_only_objects_merge(change):
    with pytest.raises(Problem):
        patch.of_body(MERGE, change).apply('{"a":1}')


def test_a_bomb_is_refused():
    with pytest.raises(Problem):
        patch.of_body(MERGE, b'{"a":' * 200 + b"1" + b"}" * 200).apply("{}")


@pytest.mark.parametrize(
    ("kind", "raw", "wanted"),
    [
        ("application/json", b'{"gender":"male"}', "merge"),
        ("application/json", b"[]", "json"),
        ("application/fhir+json", b'{"resourceType":"Parameters"}', "fhirpath"),
        ("application/fhir+json", b'{"resourceType":"Patient","gender":"male"}', "merge"),
        (patch.JSON_PATCH, b"{}", "json"),
        (MERGE, b'{"resourceType":"Parameters"}', "merge"),
    ],
)
def test_the_kind_is_told_by_type_and_shape(kind, raw, wanted):
    assert patch.of_body(kind, raw).kind == wanted
