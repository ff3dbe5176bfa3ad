"""Where SMART takes part in the house: the door, the ticker, sign-out, merges of people."""

from django.contrib.auth.signals import user_logged_out


def register() -> None:
    """Called once from ``ExchangeConfig.ready``."""
    from lianxin.access import tokens
    from lianxin.duty import periodic
    from lianxin.exchange.fhir import handlers
    from lianxin.exchange.smart import discovery, grants, proof
    from lianxin.index import hooks

    handlers.register_route((".well-known", "smart-configuration"), discovery.route, public=True)
    handlers.register_capability(discovery.capability)
    periodic.register("smart.tokens", 3600, tokens.tidy)
    periodic.register("smart.assertions", 600, proof.tidy)
    for table in grants.FOLLOWING:
        hooks.follow(hooks.Follower(table))
    hooks.on_repoint(grants.forget_tokens)
    user_logged_out.connect(grants.signed_out, dispatch_uid="lianxin.smart")
