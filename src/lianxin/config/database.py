"""Which database to use: ``DATABASE_URL``, else the embedded server's socket."""

import os
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from lianxin.config import postgres

# A page's row comes with the eight or ten rows it names (select_related). Trying every order of those joins cost the server
# 15-40 ms of planning for 1 ms of work; taken four at a time, in the order written, it is 2 ms and the same plan.
PLANNING = "-c join_collapse_limit=4"


def config(home: Path) -> dict[str, Any]:
    """Django ``DATABASES`` entry for ``DATABASE_URL`` (``postgresql://user:pw@host:port/name?option=…``) or the embedded server."""
    url = os.environ.get("DATABASE_URL")
    if not url:
        parts = {
            "NAME": "lianxin",
            "USER": "lianxin",
            "HOST": str(postgres.layout(home).run),
            "PORT": "",
            "PASSWORD": "",
        }
        options: dict[str, Any] = {}
    else:
        split = urlsplit(url)
        if split.scheme not in {"postgresql", "postgres"}:
            raise SystemExit(f"DATABASE_URL must be a postgresql:// address, not {split.scheme}://")
        options = dict(parse_qsl(split.query))
        parts = {
            "NAME": unquote(split.path.lstrip("/")),
            "USER": unquote(split.username or options.pop("user", "")),
            "PASSWORD": unquote(split.password or ""),
            "HOST": unquote(split.hostname or options.pop("host", "")),
            "PORT": str(split.port or ""),
        }
    session = [options.get("options", ""), PLANNING]
    if os.environ.get("LIANXIN_ROLE") == "web" and not session[0]:
        # A page that waits longer than this is of no use to anybody, and holds a worker's thread and a connection.
        session.append("-c statement_timeout=60s -c idle_in_transaction_session_timeout=60s")
    options["options"] = " ".join(filter(None, session))
    return {
        "ENGINE": "django.db.backends.postgresql",
        **parts,
        "CONN_MAX_AGE": 600,
        "CONN_HEALTH_CHECKS": True,
        "OPTIONS": {**options, "application_name": "lianxin"},
        "TEST": {"NAME": os.environ.get("LIANXIN_TEST_DB")},
    }


def embedded() -> bool:
    """Whether we run the database ourselves (``DATABASE_URL`` is not set)."""
    return not os.environ.get("DATABASE_URL")
