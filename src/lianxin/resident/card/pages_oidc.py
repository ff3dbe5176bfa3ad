"""Out to a provider and back."""

from __future__ import annotations

from urllib.parse import urlencode

from django.contrib import messages
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import get_object_or_404, redirect
from django.urls import reverse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET

from lianxin.access import audit
from lianxin.access.models import Account
from lianxin.resident.card import oidc, web
from lianxin.resident.card.models import Provider
from lianxin.resident.card.pages_signin import enter

ASKED = "lianxin_oidc"


def _address(request: HttpRequest, provider: Provider) -> str:
    return request.build_absolute_uri(reverse("card:oidc_back", args=[provider.key]))


@never_cache
@require_GET
def start(request: HttpRequest, key: str) -> HttpResponse:
    """Send the browser to the provider."""
    provider = get_object_or_404(Provider, key=key, active=True)
    address, asked = oidc.start(provider, _address(request, provider), web.onward(request))
    request.session[ASKED] = asked.kept()
    return HttpResponseRedirect(address)


@never_cache
@require_GET
def back(request: HttpRequest, key: str) -> HttpResponse:
    """The provider's answer: in, or back to the sign-in page with a word. What was remembered is good for one answer."""
    provider = get_object_or_404(Provider, key=key, active=True)
    kept = request.session.pop(ASKED, None)
    try:
        if kept is None:
            raise oidc.NotSignedIn("not asked for")
        asked = oidc.Asked(**kept)
        claims = oidc.finish(
            provider,
            asked,
            request.GET.get("state", ""),
            request.GET.get("code", ""),
            _address(request, provider),
        )
        account = oidc.account_of(provider, claims, _here(request))
    except oidc.NotSignedIn as refusal:
        audit.write(
            None,
            "login_failed",
            what=f"provider {provider.key}",
            detail={"why": refusal.why[:80]},
            outcome="refused",
        )
        messages.error(request, refusal.message)
        return redirect(reverse("card:login") + "?" + urlencode({"next": (kept or {}).get("back", web.HOME)}))
    enter(request, account)
    return redirect(asked.back)


def _here(request: HttpRequest) -> Account | None:
    """The resident signed in on this phone, to whom the identity is linked."""
    return request.user if isinstance(request.user, Account) and request.user.resident else None
