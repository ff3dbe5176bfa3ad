"""Text messages to residents: composed from templates, stored before sent, handed to whatever gateway is set."""

from django.apps import AppConfig


class SmsConfig(AppConfig):
    name = "lianxin.resident.sms"
    label = "sms"

    def ready(self) -> None:
        """The chore that sends; messages follow a merged person."""
        from lianxin.duty import periodic
        from lianxin.index import hooks
        from lianxin.resident.sms import sending

        periodic.register("sms: send", sending.EVERY_SECONDS, sending.deliver)
        hooks.follow(hooks.Follower("sms_message"))
