"""Text messages to residents: composed from templates, stored before sent, handed to whatever gateway is set."""

from django.apps import AppConfig


class SmsConfig(AppConfig):
    name = "lianxin.resident.sms"
    label = "sms"

    def ready(self) -> None:
        """The chore that sends; messages follow a merged person; critical values go out by text message."""
        from lianxin.duty import periodic
        from lianxin.index import hooks
        from lianxin.regional.critical import hooks as critical_hooks
        from lianxin.resident.sms import critical, sending

        periodic.register("sms: send", sending.EVERY_SECONDS, sending.deliver)
        hooks.follow(hooks.Follower("sms_message"))
        critical_hooks.register_sender(critical.send)
