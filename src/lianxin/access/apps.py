"""The access room: accounts, scopes, relationships, audit, sealing."""

from django.apps import AppConfig

from lianxin.standards import checks


class AccessConfig(AppConfig):
    name = "lianxin.access"
    label = "access"
    verbose_name = "访问"

    def ready(self) -> None:
        """Offer the audit chain's verification to ``lianxin check``."""
        from lianxin.access import audit

        checks.register("audit chain", audit.verify)
