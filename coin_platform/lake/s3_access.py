"""Reach an S3 server as the settings say: address, keys and certificates."""

from pathlib import Path
from typing import TYPE_CHECKING, TypedDict
from urllib.parse import urlsplit

from coin_platform import tls
from coin_platform.settings import PREFIX, Settings

if TYPE_CHECKING:
    pass


class Access(TypedDict):
    """The arguments with which boto3 and dagster-aws reach an S3 server; None: AWS's usual sources."""

    endpoint_url: str | None
    region_name: str | None
    aws_access_key_id: str | None
    aws_secret_access_key: str | None
    aws_session_token: str | None
    verify: str | None  # the path of a file of CA certificates


def access(settings: Settings) -> Access:
    """Return how the settings reach S3. Raises `SettingsError` for a wrong COIN_S3_CA."""
    secrets = (settings.s3_access_key, settings.s3_secret_key, settings.s3_session_token)
    access_key, secret_key, token = (secret.get_secret_value() if secret else None for secret in secrets)
    ca = settings.path(settings.s3_ca) if settings.s3_ca else None
    if ca is not None:
        tls.check(ca, f"{PREFIX}S3_CA")
    return {
        "endpoint_url": settings.s3_endpoint,
        "region_name": settings.s3_region or ("us-east-1" if settings.s3_endpoint else None),
        "aws_access_key_id": access_key,
        "aws_secret_access_key": secret_key,
        "aws_session_token": token,
        "verify": str(ca) if ca else None,
    }


def scan_options(access: Access, region: str) -> dict[str, str]:
    """Return the options with which polars reads the same server."""
    endpoint = access["endpoint_url"]
    options = {
        "aws_endpoint_url": endpoint,
        "aws_allow_http": "true" if (endpoint or "").startswith("http:") else None,
        "aws_region": region,
        "aws_access_key_id": access["aws_access_key_id"],
        "aws_secret_access_key": access["aws_secret_access_key"],
        "aws_session_token": access["aws_session_token"],
    }
    if access["verify"]:
        # object_store takes CA certificates as those of a proxy only, but then trusts them for every server: a proxy
        # is named, and no request goes there.
        address = endpoint or "https://amazonaws.com"
        options |= {"proxy_url": address, "proxy_excludes": urlsplit(address).hostname}
        options["proxy_ca_certificate"] = Path(access["verify"]).read_text()
    return {name: value for name, value in options.items() if value}
