"""The start of a batch's helper process. Imports nothing of Django before it has been set up: a fresh process begins here."""

from __future__ import annotations

import gc
import multiprocessing
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager


def start() -> None:
    """Set Django up, and end with the process that wanted the help, however that ends."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    import django

    django.setup()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


@contextmanager
def uncollected() -> Iterator[None]:
    """Without the search for garbage in cycles: a share makes hundreds of thousands of objects and no cycle, and goes as a whole."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()
