"""HTML to paper (PDF)."""

from __future__ import annotations


def pdf(markup: str) -> bytes:
    """The page as PDF. It must be self-contained: only ``data:`` addresses are read, nothing from disk or network."""
    from weasyprint import HTML  # a second to import: only who prints pays it
    from weasyprint.urls import URLFetcher

    fetcher = URLFetcher(allowed_protocols=("data",), allow_redirects=False)
    made = HTML(string=markup, url_fetcher=fetcher).write_pdf()
    assert made is not None
    return made
