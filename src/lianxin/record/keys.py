"""Compact keys: 64-bit hashes of references, codes and uris; 32-bit hashes of code systems."""

from functools import lru_cache
from hashlib import blake2b

NO_SYSTEM = 0
IMPLIED_SYSTEM = 1  # elements of type code: their system is implied by the element
PATIENTS = frozenset({"Patient", "RelatedPerson", "Person"})


def hash64(text: str) -> int:
    """A signed 64-bit hash, stable for ever (it is stored)."""
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "big", signed=True)


@lru_cache(maxsize=200_000)
def code_key(code: str) -> int:
    """Key of a code, an identifier value or a uri in ``record_token``."""
    return hash64(code)


@lru_cache(maxsize=10_000)
def system_key(system: str) -> int:
    """Key of a code system; 0 means none was given, 1 that the element implies it."""
    if not system:
        return NO_SYSTEM
    return int.from_bytes(blake2b(system.encode(), digest_size=4).digest(), "big", signed=True) or 2


@lru_cache(maxsize=100_000)
def ref_key(reference: str) -> int:
    """Key of ``Type/id`` (also of a whole url or urn that points outside)."""
    return hash64("/" + reference)


def blind_key(value: str) -> int:
    """Key of an identifier or telecom value of a person: keyed (HMAC-SM3), so the table cannot be searched by guessing."""
    from lianxin.access.seal import blind

    return int.from_bytes(blind(value, "fhir-token")[:8], "big", signed=True)
