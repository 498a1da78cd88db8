"""Where a request came from, as workers are told: `X-Forwarded-*` and `Forwarded`, made once for each connection.

Pure. What a client says of itself is believed only when its address is one of the trusted proxies.
"""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address

Network = IPv4Network | IPv6Network


class Peer:
    """The other end of a client's connection. `lines` are complete header lines that say so to a worker.

    `address` is a host, not a port; "unknown" for a connection that has none.
    """

    __slots__ = ("_element", "_scheme", "address", "lines", "trusted")

    def __init__(self, address: str, *, secure: bool, networks: Sequence[Network]) -> None:
        self.address = address.encode()
        self.trusted = bool(networks) and _within(address, networks)
        self._scheme = b"https" if secure else b"http"
        quoted = b'"[%b]"' % self.address if b":" in self.address else self.address
        self._element = b"for=%b;proto=%b" % (quoted, self._scheme)
        self.lines = b"X-Forwarded-For: %b\r\nX-Forwarded-Proto: %b\r\nForwarded: %b\r\n" % (
            self.address,
            self._scheme,
            self._element,
        )

    def extended(self, headers: Sequence[tuple[bytes, bytes]], host: bytes) -> bytes:
        """The lines for a request of a trusted proxy: what it says is kept, and this hop is added."""
        said: dict[bytes, bytes] = {}
        for name, value in headers:
            lower = name.lower()
            said[lower] = b"%b, %b" % (said[lower], value) if lower in said else value
        forwarded = said.pop(b"forwarded", None)
        if forwarded is not None:
            said[b"forwarded"] = b"%b, %b" % (forwarded, self._element)
        if forwarded is None or b"x-forwarded-for" in said:
            before = said.get(b"x-forwarded-for")
            said[b"x-forwarded-for"] = self.address if before is None else b"%b, %b" % (before, self.address)
            said.setdefault(b"x-forwarded-proto", self._scheme)
            said.setdefault(b"x-forwarded-host", host)
        return b"".join(b"%b: %b\r\n" % (name.title(), value) for name, value in said.items())


def _within(address: str, networks: Sequence[Network]) -> bool:
    try:
        # A link-local address may carry the name of an interface.
        known = ip_address(address.partition("%")[0])
    except ValueError:
        return False
    if isinstance(known, IPv6Address) and known.ipv4_mapped is not None:
        known = known.ipv4_mapped
    return any(known in network for network in networks)
