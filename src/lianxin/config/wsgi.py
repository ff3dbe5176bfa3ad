"""The one WSGI application: ``/fhir`` and ``/dicomweb`` go to their raw doors, everything else to Django.

These doors do not pass through Django's middleware: they are several times cheaper without (see docs/decisions).
"""

import os
import sys
from collections.abc import Callable, Iterable
from typing import Any

from django.core.wsgi import get_wsgi_application

from lianxin.config import process, slow
from lianxin.config.serve import WORKER_THREADS

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "lianxin.config.settings")
if os.environ.get("LIANXIN_SUPERVISED") == "1":
    process.die_with_parent()

# A thread with much to do (a large Bundle, the audit journal's batch) lets the short requests beside it go first, after 1 ms, not 5.
sys.setswitchinterval(0.001)
pages = get_wsgi_application()

from lianxin.config.observe import observed  # noqa: E402 - needs the settings that the line above has loaded
from lianxin.exchange.fhir import hot  # noqa: E402
from lianxin.regional.archive import web  # noqa: E402

_fhir = observed(hot.application, "fhir")
_dicomweb = observed(web.application, "dicomweb")
_watch = slow.Watch(WORKER_THREADS)


def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """Answer one request; whoever pauses in sending its body is watched (see ``slow``)."""
    if environ.get("CONTENT_LENGTH", "0") not in ("0", "") or "HTTP_TRANSFER_ENCODING" in environ:
        environ["wsgi.input"] = slow.Body(environ["wsgi.input"], environ, _watch)
    path = environ.get("PATH_INFO", "")
    if path == "/fhir" or path.startswith("/fhir/"):
        return _fhir(environ, start_response)
    if path == "/dicomweb" or path.startswith("/dicomweb/"):
        return _dicomweb(environ, start_response)
    return pages(environ, start_response)
