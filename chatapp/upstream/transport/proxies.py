"""Which proxy a request goes through, from the environment, by the rules of httpx2 (and curl).

httpx2 mounts its own transports for environment proxies only when it makes the transport itself;
a client that is given a transport uses that one for every URL. So the proxies are our job.

`HTTP_PROXY`, `HTTPS_PROXY` and `ALL_PROXY` name a proxy for a scheme; the specific one wins.
`NO_PROXY` is a list, separated by commas, of hosts to reach directly:

* `*`: every host;
* `example.com`: that host and its subdomains; `.example.com`, `*.example.com`: only the subdomains;
* `localhost`, `10.0.0.1`, `::1`, `[::1]`: exactly that host;
* `10.0.0.0/8`, `fd00::/8`: the addresses of that network;
* any name with `:port` at its end, or `scheme://` in front: only that port or scheme.
"""

import ipaddress
import urllib.request
from collections.abc import Callable, Iterable, Mapping

import httpx2


class Proxies:
    """A table of proxies; immutable.

    :param proxies: proxy URL by scheme, `http`, `https` or `all`. A URL without a scheme is http.
        User and password in it are sent to the proxy (RFC 7617, Basic).
    :param direct: hosts to reach without a proxy, as in `NO_PROXY`.
    """

    def __init__(self, proxies: Mapping[str, str], direct: Iterable[str] = ()) -> None:
        self.proxies = {
            scheme: httpx2.Proxy(url if "://" in url else f"http://{url}")
            for scheme, url in proxies.items()
            if url
        }
        entries = [entry.strip().lower() for entry in direct]
        if "*" in entries:
            self.proxies = {}
        self.direct = [rule for entry in entries if entry and (rule := direct_rule(entry))]

    @classmethod
    def from_environment(cls) -> "Proxies":
        """What the environment (on macOS and Windows also the system) says now."""
        found = urllib.request.getproxies()
        schemes = ("http", "https", "all")
        return cls(
            {scheme: found[scheme] for scheme in schemes if scheme in found},
            found.get("no", "").split(","),
        )

    def proxy_for(self, url: httpx2.URL) -> httpx2.Proxy | None:
        """The proxy for this URL, or None to connect directly.

        :raises httpx2.UnsupportedProtocol: for a kind of proxy that isn't spoken here: SOCKS, and
            https through a proxy that is itself reached by https.
        """
        if not self.proxies or any(rule(url) for rule in self.direct):
            return None
        proxy = self.proxies.get(url.scheme) or self.proxies.get("all")
        if proxy is None:
            return None
        if proxy.url.scheme not in ("http", "https"):
            raise httpx2.UnsupportedProtocol(
                f"The environment names a {proxy.url.scheme} proxy for {url.scheme}; "
                "use an http:// proxy, or list the host in NO_PROXY."
            )
        if proxy.url.scheme == "https" and url.scheme == "https":
            raise httpx2.UnsupportedProtocol(
                "The environment names an https:// proxy for https; "
                "use an http:// proxy (the tunnel is encrypted), or list the host in NO_PROXY."
            )
        return proxy


Rule = Callable[[httpx2.URL], bool]


def direct_rule(entry: str) -> Rule | None:
    """The test for one entry of `NO_PROXY`; None for one that can't be understood (as curl)."""
    scheme, separator, place = entry.rpartition("://")
    network = network_of(place)
    if network is not None:
        matches, port = network_rule(network), None
    else:
        host, port = split_port(place)
        if not host or "/" in host:
            return None
        matches = host_rule(host, exact=bool(separator))

    def rule(url: httpx2.URL) -> bool:
        return (
            (scheme in ("", "all") or url.scheme == scheme)
            and (port is None or url.port == port)
            and matches(url.host)
        )

    return rule


Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def network_of(place: str) -> Network | None:
    """An address or a network in CIDR form, with or without brackets."""
    address, slash, prefix = place.partition("/")
    if address.startswith("[") and address.endswith("]"):
        address = address[1:-1]
    try:
        return ipaddress.ip_network(address + slash + prefix, strict=False)
    except ValueError:
        return None


def network_rule(network: Network) -> Callable[[str], bool]:
    def matches(host: str) -> bool:
        try:
            return ipaddress.ip_address(host) in network
        except ValueError:
            return False

    return matches


def split_port(place: str) -> tuple[str, int | None]:
    host, colon, port = place.rpartition(":")
    if colon and port.isdigit():
        return host.strip("[]"), int(port)
    return place, None


def host_rule(host: str, *, exact: bool) -> Callable[[str], bool]:
    suffix = "." + host.lstrip("*").lstrip(".")
    only_subdomains = host.startswith((".", "*."))
    if host == "localhost" or (exact and not host.startswith("*")):
        return lambda name: name == host
    return lambda name: name.endswith(suffix) or (not only_subdomains and name == suffix[1:])
