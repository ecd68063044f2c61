"""Decide what a failed S3 request means: to be tried again, or refused with a remedy."""

from typing import TYPE_CHECKING

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    NoCredentialsError,
    ParamValidationError,
    PartialCredentialsError,
    SSLError,
)
from botocore.parsers import ResponseParserError

from coin_platform.settings import PREFIX

if TYPE_CHECKING:
    pass


_PASSING = {  # refusals with these codes may pass, whatever their status
    *("RequestTimeout", "RequestTimeoutException", "SlowDown", "Throttling", "ThrottlingException", "InternalError"),
    *("ServiceUnavailable", "IncompleteBody", "BadDigest", "OperationAborted", "TooManyRequests"),
}
_REMEDIES = {  # code of a refusal -> remedy
    "RequestTimeTooSkewed": "this machine's clock or the server's is wrong: set it, best by NTP",
    "InvalidAccessKeyId": f"check {PREFIX}S3_ACCESS_KEY",
    "SignatureDoesNotMatch": f"check {PREFIX}S3_SECRET_KEY",
    "AccessDenied": f"check {PREFIX}S3_ACCESS_KEY, and that it has the rights that docs/access.md lists",
    "ExpiredToken": f"{PREFIX}S3_SESSION_TOKEN has expired: set a new one, with its keys",
    "InvalidToken": f"check {PREFIX}S3_SESSION_TOKEN",
    "NoSuchBucket": f"check {PREFIX}LAKE_URL, or make the bucket",
    "AuthorizationHeaderMalformed": f"check {PREFIX}S3_REGION",
    "PermanentRedirect": f"check {PREFIX}S3_REGION",
    "IllegalLocationConstraintException": f"check {PREFIX}S3_REGION",
}


class UnknownOutcome(Exception):
    """The server did not say whether it carried out the request. `remedy` may help."""

    def __init__(self, reason: str, remedy: str = "") -> None:
        super().__init__(reason)
        self.remedy = remedy


def outcome_of(error: ClientError | BotoCoreError | ResponseParserError) -> Exception:
    """Return `UnknownOutcome` for an error that may pass, and any other error itself."""
    if isinstance(error, ClientError):
        status, code = error.response["ResponseMetadata"]["HTTPStatusCode"], error.response["Error"]["Code"]
        if code.startswith("RequestTimeout"):
            return UnknownOutcome(
                f"answer {status} {code}", "the request came too slowly: look at the network to the server"
            )
        if code in _PASSING:
            return UnknownOutcome(f"answer {status} {code}", "look at the server: it has too much to do, or is broken")
        if status >= 500 or status in (408, 409, 429):
            return UnknownOutcome(f"answer {status}")  # also from a proxy in front of the server
        return error
    if isinstance(error, ResponseParserError):
        return UnknownOutcome("an answer that is none of S3", f"check {PREFIX}S3_ENDPOINT")
    if isinstance(error, SSLError):
        is_final = "CERTIFICATE_VERIFY_FAILED" in str(error) or "WRONG_VERSION_NUMBER" in str(error)
        return (
            error if is_final else UnknownOutcome(f"SSLError: {error}", f"check {PREFIX}S3_ENDPOINT and {PREFIX}S3_CA")
        )
    if isinstance(error, NoCredentialsError | PartialCredentialsError | ParamValidationError):
        return error
    return UnknownOutcome(f"{type(error).__name__}: {error}")


def remedy(error: Exception) -> str:
    """Return what helps against a refusal."""
    if isinstance(error, ClientError) and error.response["Error"]["Code"] in _REMEDIES:
        return _REMEDIES[error.response["Error"]["Code"]]
    if "CERTIFICATE_VERIFY_FAILED" in str(error):
        return f"check {PREFIX}S3_CA, and that the certificate has the host of {PREFIX}S3_ENDPOINT"
    if isinstance(error, SSLError):
        return f"there is no TLS: write http:// in {PREFIX}S3_ENDPOINT, or another port"
    if isinstance(error, NoCredentialsError | PartialCredentialsError):
        return f"set {PREFIX}S3_ACCESS_KEY and {PREFIX}S3_SECRET_KEY"
    if isinstance(error, ParamValidationError):
        return f"check {PREFIX}LAKE_URL"
    return f"check {PREFIX}LAKE_URL, {PREFIX}S3_ENDPOINT and the rights of {PREFIX}S3_ACCESS_KEY"
