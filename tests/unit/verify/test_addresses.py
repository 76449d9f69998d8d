"""Where a broker of a deployment can be reached from this host."""

from __future__ import annotations

from typing import Any

from cbw.verify.compose import ComposeProject


class Published:
    """A container whose port for clients Docker has published, under a number for IPv4 and another one for IPv6."""

    attrs: dict[str, Any] = {  # noqa: RUF012
        "HostConfig": {"NetworkMode": "default", "PortBindings": {"9998/tcp": [{"HostPort": "0"}]}},
        "NetworkSettings": {
            "Networks": {"default": {"IPAddress": "172.18.0.3"}},
            "Ports": {"9998/tcp": [{"HostIp": "0.0.0.0", "HostPort": "32001"}, {"HostIp": "::", "HostPort": "32002"}]},
        },
    }

    def reload(self) -> None:
        """It is as it was."""


def test_a_number_for_ipv6_is_not_used_with_ipv4() -> None:
    """There it may be that of another broker."""
    addresses = ComposeProject.addresses(ComposeProject.__new__(ComposeProject), Published())  # type: ignore[arg-type]
    assert addresses == ["172.18.0.3:9998", "127.0.0.1:32001", "[::1]:32002"]
