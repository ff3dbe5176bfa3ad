"""A small code system and value sets over it, for the terminology tests."""

from typing import Any

ANIMALS = "http://example.org/cs/animals"


def animals(**more: Any) -> dict[str, Any]:
    """A CodeSystem with a hierarchy, properties, designations, an abstract and a retired code."""
    return {
        "resourceType": "CodeSystem",
        "url": ANIMALS,
        "version": "1",
        "name": "Animals",
        "title": "Animals",
        "status": "active",
        "language": "en",
        "content": "complete",
        "caseSensitive": True,
        "valueSet": "http://example.org/vs/all-animals",
        "concept": [
            {
                "code": "animal",
                "display": "Animal",
                "property": [{"code": "notSelectable", "valueBoolean": True}],
                "concept": [
                    {
                        "code": "mammal",
                        "display": "Mammal",
                        "definition": "Feeds its young",
                        "designation": [{"language": "zh", "value": "哺乳动物"}],
                        "concept": [
                            {
                                "code": "dog",
                                "display": "Dog",
                                "designation": [
                                    {"language": "zh-CN", "value": "狗"},
                                    {"language": "de", "use": {"system": "http://u", "code": "syn"}, "value": "Hund"},
                                ],
                                "property": [{"code": "legs", "valueInteger": 4}],
                            },
                            {"code": "whale", "display": "Whale", "property": [{"code": "legs", "valueInteger": 0}]},
                            {"code": "bat", "display": "Bat", "property": [{"code": "parent", "valueCode": "flyer"}]},
                        ],
                    },
                    {"code": "flyer", "display": "Flyer", "concept": [{"code": "crow", "display": "Crow"}]},
                    {"code": "dodo", "display": "Dodo", "property": [{"code": "status", "valueCode": "retired"}]},
                ],
            }
        ],
        **more,
    }  # fmt: skip


def value_set(
    *includes: dict[str, Any], exclude: list[dict[str, Any]] | None = None, **more: Any
) -> dict[str, Any]:
    """A ValueSet with these includes."""
    compose: dict[str, Any] = {"include": list(includes)}
    if exclude:
        compose["exclude"] = exclude
    return {"resourceType": "ValueSet", "status": "active", "compose": compose, **more}


def only(*filters: tuple[str, str, str], **more: Any) -> dict[str, Any]:
    """An include of the animals with (property, op, value) filters."""
    rows = [{"property": p, "op": o, "value": v} for p, o, v in filters]
    return {"system": ANIMALS, **({"filter": rows} if rows else {}), **more}
