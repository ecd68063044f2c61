"""The addresses of the simulator, which stands in for every exchange."""

from urllib.parse import urlsplit


def simulated_url(url: str, exchange: str, host: str) -> str:
    """Return the address at which the simulator answers for an exchange's own address.

    `wss://ws.kraken.com/v2` becomes `ws://HOST/kraken/v2`, and `https` becomes `http`.
    """
    parts = urlsplit(url)
    return parts._replace(scheme=parts.scheme.removesuffix("s"), netloc=host, path=f"/{exchange}{parts.path}").geturl()
