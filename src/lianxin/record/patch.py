"""Patching a resource's exact text, with JSON Patch (RFC 6902), FHIRPath Patch or JSON Merge Patch (RFC 7396).

Untouched parts keep their text.  The result is not validated here: it goes through the same checks as an update.
"""

import base64
import binascii
from dataclasses import dataclass
from typing import Any

from lianxin.record import patch_fhirpath, patch_json, patch_merge, text
from lianxin.record.json_tree import Node
from lianxin.record.problems import refuse

JSON_PATCH = "application/json-patch+json"
MERGE_PATCH = "application/merge-patch+json"
MAX_BYTES = 10 * 1024 * 1024


@dataclass(frozen=True)
class Patch:
    """A patch as sent: its kind (``json``, ``fhirpath`` or ``merge``) and its text."""

    kind: str
    raw: bytes

    def apply(self, body: str) -> bytes:
        """The patched text of a resource; Problem 400, 413 or 422 when it cannot be applied."""
        root = Node(body.encode())
        if self.kind == "json":
            made = patch_json.apply(root, patch_json.decode(self.raw), MAX_BYTES)
        elif self.kind == "merge":
            made = patch_merge.apply(root, Node(self.raw), MAX_BYTES)
        else:
            made = patch_fhirpath.apply(root, Node(self.raw), MAX_BYTES)
        return made.text()


def of_body(content_type: str, raw: bytes) -> Patch:
    """The patch in a request's body.

    Content types of their own decide.  What comes as plain or FHIR JSON is told by its shape, for clients send all of them
    so: an array is a JSON Patch, Parameters are a FHIRPath Patch, any other object (fhirpy's ``patch(gender=…)``) a merge patch.
    """
    sent: Any = text.parse(raw)
    if content_type == JSON_PATCH or (isinstance(sent, list) and content_type != MERGE_PATCH):
        return Patch("json", raw)
    if content_type != MERGE_PATCH and isinstance(sent, dict) and sent.get("resourceType") == "Parameters":
        return Patch("fhirpath", raw)
    return Patch("merge", raw)


def of_resource(raw: bytes, place: str = "") -> Patch:
    """The patch in a bundle entry's resource: a Binary with JSON Patch, or Parameters."""
    resource: Any = text.parse(raw)
    kind = resource.get("resourceType") if isinstance(resource, dict) else None
    if kind == "Parameters":
        return Patch("fhirpath", raw)
    if kind == "Binary" and str(resource.get("contentType", "")).partition(";")[0].strip() == JSON_PATCH:
        try:
            inner = base64.b64decode(str(resource.get("data", "")), validate=True)
        except (binascii.Error, ValueError):
            raise refuse(
                400, "value", "Binary.data 不是 base64", "Binary.data is not base64", f"{place}.data"
            ) from None
        text.parse(inner)
        return Patch("json", inner)
    raise refuse(
        400,
        "value",
        "PATCH 条目的 resource 应为 Parameters，或内容为 JSON Patch 的 Binary",
        "the resource of a PATCH entry must be Parameters, or a Binary holding a JSON Patch",
        place,
    )
