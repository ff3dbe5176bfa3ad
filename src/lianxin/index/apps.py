"""The index room: who is who."""

from django.apps import AppConfig

from lianxin.standards import checks


class IndexConfig(AppConfig):
    name = "lianxin.index"
    label = "index"
    verbose_name = "主索引"

    def ready(self) -> None:
        """Offer the index's self-check to ``lianxin check``."""
        from lianxin.index import upkeep

        checks.register("person index", upkeep.check)
