"""Compact keys: what a value becomes in ``record_resource.keys`` and in the index tables.

Every function gives a signed number that is stored, and so stays the same for ever.  ``n`` is the number of the *source*, the
search parameter whose rows these are (``definitions.sources``).  Texts are hashed (BLAKE2b, 64 bits) together with what
they are and ``n``; keys made of other keys are mixed by arithmetic, which costs less
and which SQL can do and undo.  Two different values meet with a
chance of 1 in 2**64; the values of persons' identifiers pass through :func:`blind` first.
"""

from functools import lru_cache
from hashlib import blake2b

PATIENTS = frozenset({"Patient", "RelatedPerson", "Person"})  # their identifiers and telecoms are sealed

CONFIDENTIAL = 1  # key of resources whose meta.security says R or V (access.sharing); no hash is as small
_ALL = (1 << 64) - 1
_HALF = 1 << 63
_FULL = 1 << 64
_NUMBER = 0x9E3779B97F4A7C15  # odd multipliers, so that no bit of the parts is lost
_SECOND = 0xC2B2AE3D27D4EB4F
_PAIR = 0xD6E8FEB86659FD93


def hash64(text: str) -> int:
    """A signed 64-bit hash, stable for ever (it is stored)."""
    return int.from_bytes(
        blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "big", signed=True
    )


def _hash32(text: str) -> int:
    return int.from_bytes(
        blake2b(text.encode("utf-8", "surrogatepass"), digest_size=4).digest(), "big", signed=True
    )


@lru_cache(maxsize=100_000)
def ref_key(reference: str) -> int:
    """Key of ``Type/id`` (also of a whole url or urn that points outside)."""
    return hash64("/" + reference)


@lru_cache(maxsize=200_000)
def key_code(n: int, code: str) -> int:
    """A code, boolean, identifier value or uri, whatever its system."""
    return hash64(f"c{n}\0{code}")


@lru_cache(maxsize=200_000)
def key_system_code(n: int, system: str, code: str) -> int:
    """A code or identifier value of one system; ``system`` is empty when none was given (``|code``)."""
    return hash64(f"s{n}\0{system}\0{code}")


@lru_cache(maxsize=50_000)
def key_system(n: int, system: str) -> int:
    """Some code of this system (``system|``)."""
    return hash64(f"S{n}\0{system}")


@lru_cache(maxsize=100_000)
def key_text(n: int, folded: str) -> int:
    """The folded display or text of a concept (``:text``)."""
    return hash64(f"t{n}\0{folded}")


@lru_cache(maxsize=50_000)
def key_of_type(n: int, system: str, code: str, value: str) -> int:
    """An identifier's value together with one coding of its type (``:of-type``)."""
    return hash64(f"o{n}\0{system}\0{code}\0{value}")


@lru_cache(maxsize=100_000)
def key_below(n: int, prefix: str) -> int:
    """A uri that begins with these whole path segments (``:below``)."""
    return hash64(f"b{n}\0{prefix}")


@lru_cache(maxsize=100_000)
def key_ref_identifier(n: int, system: str, value: str) -> int:
    """A logical reference by identifier (``:identifier``); ``system`` is empty when none was given.

    Extraction writes each once with its system and once with ``*``, which any system matches.
    """
    return hash64(f"i{n}\0{system}\0{value}")


@lru_cache(maxsize=20_000)
def key_target(n: int, kind: str) -> int:
    """Some reference to this resource type."""
    return hash64(f"T{n}\0{kind}")


@lru_cache(maxsize=5_000)
def key_present(n: int) -> int:
    """The source has some value (``:missing``)."""
    return hash64(f"p{n}")


@lru_cache(maxsize=5_000)
def ref_mask(n: int) -> int:
    """What :func:`key_ref` mixes in, so that SQL can do the same both ways: ``target # mask`` and ``key # mask``."""
    return hash64(f"r{n}")


def key_ref(n: int, target: int) -> int:
    """A reference; ``target`` is the :func:`ref_key` of what it points at."""
    return target ^ ref_mask(n)


def key_scoped(subj: int, n: int, code: str) -> int:
    """A code together with the patient (their ``ref_key``) whose resource has it (in SQL: ``subj # key_code``)."""
    return subj ^ key_code(n, code)


def key_pair(n: int, first: int, second: int) -> int:
    """Two component keys of one item, for composite parameters."""
    value = (first * _PAIR + second * _SECOND + n * _NUMBER) & _ALL
    return value - _FULL if value >= _HALF else value


@lru_cache(maxsize=10_000)
def system_key(system: str) -> int:
    """32-bit key of a code system beside a quantity; 0 means none was given."""
    return (_hash32(system) or 1) if system else 0


@lru_cache(maxsize=50_000)
def code_key32(code: str) -> int:
    """32-bit key of a unit's code or text beside a quantity; 0 means none was given."""
    return (_hash32("u" + code) or 1) if code else 0


@lru_cache(maxsize=50_000)
def blind(value: str) -> str:
    """An identifier or telecom value of a person as it goes into a key: keyed (HMAC-SM3), so that nobody finds it by guessing."""
    from lianxin.access.seal import blind as seal

    return seal(value, "fhir-token")[:16].hex()
