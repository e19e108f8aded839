"""Addresses of Ray clusters, and whether one is on this machine."""

from __future__ import annotations

import ipaddress

__all__ = ["OpenCluster", "is_loopback"]


class OpenCluster(str):
    """The address of a cluster that is used although it lets anybody in without a token; "" for the usual cluster.

    On the command line: --insecure-cluster. It is never stored.
    """


def is_loopback(host: str) -> bool:
    """Whether a host name or IP address means this machine alone: localhost, 127.0.0.1, [::1]."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"
