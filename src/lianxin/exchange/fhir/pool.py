"""The door's reads run on the connections beside Django's."""

from lianxin.access.connections import close, cursor, reading

__all__ = ["close", "cursor", "reading"]
