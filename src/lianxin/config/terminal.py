"""Talking to the person at the terminal, in Chinese where ``LANG`` is Chinese, in English elsewhere."""

from __future__ import annotations

import os
import sys
from typing import Any, NoReturn

import click


def chinese() -> bool:
    """Whether to talk Chinese: ``LANGUAGE``/``LC_ALL``/``LC_MESSAGES``/``LANG`` say so, the first that is set."""
    said = (os.environ.get(name) for name in ("LANGUAGE", "LC_ALL", "LC_MESSAGES", "LANG"))
    return next((value for value in said if value), "").startswith("zh")


def say(zh: str, en: str) -> None:
    """Tell something on standard error (standard output is for results)."""
    click.echo(zh if chinese() else en, err=True)


def fail(zh: str, en: str) -> NoReturn:
    """Tell why nothing was done and exit with 1."""
    say(f"错误：{zh}", f"error: {en}")
    sys.exit(1)


def progress(label: Any = "", total: int | None = None, unit: str = "") -> Any:
    """A progress bar (a ``tqdm``: ``update(n)``, ``close()``, or a ``with`` block); quiet where nobody looks on."""
    from tqdm import tqdm

    return tqdm(
        desc=str(label), total=total, unit=unit, file=sys.stderr, mininterval=0.2, disable=None, leave=True
    )
