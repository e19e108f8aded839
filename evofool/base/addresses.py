"""Addresses of Ray clusters, and whether one is of this machine."""

from __future__ import annotations

import ipaddress

__all__ = ["OpenCluster", "is_loopback"]


class OpenCluster(str):
    """The address, empty for the usual one, of a cluster that may let in whoever reaches it, without a token.

    On the command line: --insecure-cluster. It is never stored.
    """


def is_loopback(host: str) -> bool:
    """Whether nobody beyond this machine is meant by a name or an address."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"
