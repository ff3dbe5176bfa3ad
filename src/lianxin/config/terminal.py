"""Talking to the person at the terminal, in Chinese where ``LANG`` is Chinese, in English elsewhere."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from typing import NoReturn, TypeVar

import click

Item = TypeVar("Item")


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


def progress(label: object, items: Iterable[Item], total: int | None = None) -> Iterable[Item]:
    """``items`` with a progress bar beside them on standard error (where that is a terminal)."""
    from tqdm import tqdm

    return tqdm(items, desc=str(label), total=total, file=sys.stderr, mininterval=0.2, disable=None)
