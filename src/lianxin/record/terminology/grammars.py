"""Code systems that are a grammar or a short list of facts: which codes belong to them can be said, though nobody enumerates them.

BCP 47 languages, BCP 13 media types, UCUM units, ISO 4217 currencies, IANA time zones.
"""

import re
import zoneinfo
from collections.abc import Callable
from functools import cache

from lianxin.record import units

LANGUAGES = "urn:ietf:bcp:47"
MEDIA = "urn:ietf:bcp:13"
CURRENCIES = "urn:iso:std:iso:4217"
ZONES = "https://www.iana.org/time-zones"

_LANGUAGE = re.compile(
    r"(?:[a-z]{2,3}(?:-[a-z]{3}){0,3}|[a-z]{4,8})(?:-[a-z]{4})?(?:-(?:[a-z]{2}|[0-9]{3}))?"
    r"(?:-(?:[a-z0-9]{5,8}|[0-9][a-z0-9]{3}))*(?:-[a-wyz0-9](?:-[a-z0-9]{2,8})+)*(?:-x(?:-[a-z0-9]{1,8})+)?|x(?:-[a-z0-9]{1,8})+",
    re.IGNORECASE,
)  # RFC 5646, clause 2.1; every part has its own first character, so that matching is linear
_TOKEN = r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,127}"
_MEDIA = re.compile(
    rf'{_TOKEN}/{_TOKEN}(?:\s*;\s*{_TOKEN}=(?:{_TOKEN}|"[^"\\\x00-\x1f]*"))*'
)  # RFC 2045, clause 5.1

# ISO 4217, the codes in force
_IN_FORCE = (
    "AED AFN ALL AMD ANG AOA ARS AUD AWG AZN BAM BBD BDT BGN BHD BIF BMD BND BOB BOV BRL BSD BTN BWP BYN BZD CAD CDF CHE CHF CHW"
    " CLF CLP CNY COP COU CRC CUC CUP CVE CZK DJF DKK DOP DZD EGP ERN ETB EUR FJD FKP GBP GEL GHS GIP GMD GNF GTQ GYD HKD HNL HRK"
    " HTG HUF IDR ILS INR IQD IRR ISK JMD JOD JPY KES KGS KHR KMF KPW KRW KWD KYD KZT LAK LBP LKR LRD LSL LYD MAD MDL MGA MKD MMK"
    " MNT MOP MRU MUR MVR MWK MXN MXV MYR MZN NAD NGN NIO NOK NPR NZD OMR PAB PEN PGK PHP PKR PLN PYG QAR RON RSD RUB RWF SAR SBD"
    " SCR SDG SEK SGD SHP SLE SLL SOS SRD SSP STN SVC SYP SZL THB TJS TMT TND TOP TRY TTD TWD TZS UAH UGX USD USN UYI UYU UYW UZS"
    " VED VES VND VUV WST XAF XAG XAU XBA XBB XBC XBD XCD XDR XOF XPD XPF XPT XSU XTS XUA XXX YER ZAR ZMW ZWL"
)
_CURRENCIES = frozenset(_IN_FORCE.split())


@cache
def _zones() -> frozenset[str]:
    return frozenset(zoneinfo.available_timezones())


def _bounded(pattern: re.Pattern[str]) -> Callable[[str], bool]:
    return lambda code: len(code) <= 255 and pattern.fullmatch(code) is not None


_TESTS: dict[str, Callable[[str], bool]] = {
    LANGUAGES: _bounded(_LANGUAGE),
    MEDIA: _bounded(_MEDIA),
    units.SYSTEM: units.valid,
    CURRENCIES: _CURRENCIES.__contains__,
    ZONES: lambda code: code in _zones(),
}

NAMES = {
    LANGUAGES: "Tags for Identifying Languages (BCP 47)",
    MEDIA: "Media Types (BCP 13)",
    units.SYSTEM: "Unified Code for Units of Measure (UCUM)",
    CURRENCIES: "Currency codes (ISO 4217)",
    ZONES: "IANA time zones",
}


def test(system: str) -> Callable[[str], bool] | None:
    """The test whether a code belongs to a system, or None when the system has no grammar here."""
    return _TESTS.get(system)


def listed(system: str) -> list[str] | None:
    """The codes of a system that is a short list, in order; None for the others."""
    if system == CURRENCIES:
        return sorted(_CURRENCIES)
    return sorted(_zones()) if system == ZONES else None


def display(system: str, code: str) -> str:
    """A name for a code of such a system."""
    return (units.describe(code) if system == units.SYSTEM else None) or code
