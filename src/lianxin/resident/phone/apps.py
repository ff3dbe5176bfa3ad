"""A resident's pages on a phone: find and book, what happens next, one's own record, who looked."""

from django.apps import AppConfig


class PhoneConfig(AppConfig):
    """The room's machine is offered to the kernel."""

    name = "lianxin.resident.phone"
    label = "phone"

    def ready(self) -> None:
        """Register what a resident may ask of an institution."""
        from lianxin.index import hooks as index
        from lianxin.resident.phone import corrections

        corrections.register()
        twice = "EXISTS (SELECT 1 FROM phone_correction k WHERE k.person_id = %(keep)s AND k.answer = '' AND k.reference = r.reference)"
        index.follow(index.Follower("phone_correction", key="case_id", stays=f"r.answer = '' AND {twice}"))
