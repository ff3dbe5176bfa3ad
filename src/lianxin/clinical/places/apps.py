from typing import Any

from django.apps import AppConfig
from django.db.models.signals import post_migrate

_BOTH_CLAIM = (
    "r.state IN ('held', 'assigned', 'occupied') AND EXISTS (SELECT 1 FROM pool_claim k WHERE k.person_id = %(keep)s"
    " AND k.kind = r.kind AND k.state IN ('held', 'assigned', 'occupied') AND k.during && r.during)"
)


def _load_shipped(**_: Any) -> None:
    """The shipped examinations are there after migrate; loading them again changes nothing."""
    from lianxin.pool import exams

    exams.load_shipped()


class PlacesConfig(AppConfig):
    name = "lianxin.clinical.places"
    label = "places"

    def ready(self) -> None:
        """Claims follow a merged person, impossible ones are found by ``lianxin check``, contrast needs its consent."""
        from lianxin.clinical.places import consents
        from lianxin.index import hooks
        from lianxin.pool import exams, exclusive
        from lianxin.standards import checks

        checks.register("pool: claims", exclusive.recount)
        # Two people lay in two beds at once: which of the claims is wrong, the wards have to say, not the merge.
        hooks.follow(hooks.Follower("pool_claim", stays=_BOTH_CLAIM))
        hooks.follow(hooks.Follower("places_contrastconsent"))
        hooks.follow(hooks.Follower("places_operation", key="claim_id"))
        exams.demand(consents.demanded)
        post_migrate.connect(_load_shipped, sender=self)
