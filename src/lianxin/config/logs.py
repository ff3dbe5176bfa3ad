"""Logging: plain lines for people, or one JSON object per line (``LIANXIN_LOG_JSON=1``); never patient data.

Code logs with ``structlog.get_logger()`` or plain ``logging``; both come out alike and carry the request's id. As a last line
of defence every finished line is scrubbed: long digit runs (identity, phone and person numbers) and the row values that
PostgreSQL quotes in its DETAIL lines are replaced.
"""

from __future__ import annotations

import logging
import os
import re
from typing import Any

import structlog

_ROW_VALUES = re.compile(r"(Key \([^)]*\)=|Failing row contains )\(.*?\)(?=[\s.\"\\]|$)", re.DOTALL)
_LONG_NUMBER = re.compile(r"(?<![\w.])\d{7,}[Xx]?(?![\w.])")


def scrub(line: str) -> str:
    """Replace what may identify a patient in a finished log line."""
    return _LONG_NUMBER.sub("#", _ROW_VALUES.sub(r"\1(#)", line))


class Formatter(structlog.stdlib.ProcessorFormatter):
    """Structlog's formatter with :func:`scrub` applied to the finished line, traceback included."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the scrubbed line."""
        return scrub(super().format(record))


_SHARED: list[Any] = [
    structlog.contextvars.merge_contextvars,
    structlog.stdlib.add_log_level,
    structlog.stdlib.add_logger_name,
    structlog.processors.TimeStamper(fmt="%Y-%m-%dT%H:%M:%S%z", utc=False),
    structlog.processors.StackInfoRenderer(),
]


def config() -> dict[str, Any]:
    """Django's ``LOGGING`` and, by side effect, structlog's configuration."""
    as_json = os.environ.get("LIANXIN_LOG_JSON") == "1"
    ending: list[Any] = (
        [structlog.processors.format_exc_info, structlog.processors.JSONRenderer(ensure_ascii=False)]
        if as_json
        else [structlog.dev.ConsoleRenderer(colors=False, exception_formatter=structlog.dev.plain_traceback)]
    )
    structlog.configure(
        processors=[*_SHARED, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {
            "line": {
                "()": Formatter,
                "processors": [structlog.stdlib.ProcessorFormatter.remove_processors_meta, *ending],
                "foreign_pre_chain": _SHARED,
            }
        },
        "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "line"}},
        "root": {"handlers": ["stderr"], "level": os.environ.get("LIANXIN_LOG", "WARNING")},
        "loggers": {
            # Its messages are paths; refusals are counted in /metrics and audited, so only failures are logged.
            "django.request": {"level": "ERROR"},
            "lianxin.requests": {"level": "INFO" if as_json else os.environ.get("LIANXIN_LOG", "WARNING")},
            "fontTools": {"level": "ERROR"},
            "weasyprint": {"level": "ERROR"},
        },
    }
