from django.apps import AppConfig


class NetworkConfig(AppConfig):
    name = "lianxin.network"
    label = "network"

    def ready(self) -> None:
        """Let ``lianxin check`` look at the network too."""
        from lianxin.network import directory
        from lianxin.standards import checks

        checks.register("network", directory.check)
