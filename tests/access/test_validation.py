"""A client's setting strict or warn reaches the scope of its tokens, and only these two exist."""

import pytest
from django.db import IntegrityError, transaction

from lianxin.access import clients, tokens
from lianxin.access.models import Client
from lianxin.access.scope import Scope

pytestmark = pytest.mark.django_db


@pytest.mark.parametrize(("setting", "strict"), [("strict", True), ("warn", False)])
def test_the_setting_reaches_the_scope(setting, strict):
    token = tokens.issue("feeder", "system/*.cruds", None)
    assert tokens.scope_for_token(token).strict
    client = Client.objects.get(name="feeder")
    clients.save(
        Scope.system("test"), clients.Draft("feeder", scope="system/*.cruds", validation=setting), client
    )
    token = tokens.issue("feeder", "system/*.cruds", None)
    assert tokens.scope_for_token(token).strict is strict


def test_other_settings_are_refused():
    client = Client.objects.create(name="x")
    assert client.validation == "strict"
    with pytest.raises(clients.Invalid) as refused:
        clients.save(Scope.system("test"), clients.Draft("x", scope="system/*.r", validation="never"), client)
    assert "validation" in refused.value.errors
    with pytest.raises(IntegrityError), transaction.atomic():
        Client.objects.filter(pk=client.pk).update(validation="never")
