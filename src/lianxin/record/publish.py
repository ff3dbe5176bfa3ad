"""Functions publish their cases into the record here, inside their own transaction."""

from typing import Any


def publish(resources: list[dict[str, Any]], *, person_id: int | None, institution_id: int | None, cursor: Any = None) -> list[str]:
    """Upsert platform-owned ``resources`` (each with resourceType and id); returns their references."""
    raise RuntimeError("the record is being laid")


def publish_network() -> int:
    """Project institutions, departments, people and posts into the record; returns how many resources changed."""
    raise RuntimeError("the record is being laid")
