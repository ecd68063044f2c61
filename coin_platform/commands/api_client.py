"""Ask the control API of COIN_SERVE_URL. Every failure is one line that names the address and the remedy."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Self
from urllib.parse import urlsplit

import httpx
import msgspec

from coin_platform import __version__, tls
from coin_platform.errors import ApiError
from coin_platform.foreign import one_line
from coin_platform.serve.keys import is_loopback, own_key_file
from coin_platform.settings import PREFIX, Settings

_CONNECT_SECONDS = 5.0
_ANSWER_SECONDS = 30.0  # a change waits 5 s for the collectors, and a list of markets 15 s for its exchange
_SHOWN_CHARACTERS = 500  # of what a server says
_KIND = "urn:coin:problem:"


class ApiProblem(ApiError):
    """The API answered with a problem of RFC 9457. `kind` is the last word of its type, `detail` what is wrong."""

    def __init__(self, text: str, status: int, kind: str, detail: str) -> None:
        super().__init__(text)
        self.status, self.kind, self.detail = status, kind, detail


class ApiClient:
    """Sends requests to one control API. Not used by two threads at once."""

    def __init__(self, url: str, key: str | None, verify: Any = True) -> None:
        """`verify`: the certificates that are trusted, as `httpx` takes them."""
        self._url = url.rstrip("/")
        headers = {"User-Agent": f"coin-platform/{__version__}", "Accept": "application/json"}
        self._client = httpx.Client(
            base_url=self._url,
            headers=headers | ({"Authorization": f"Bearer {key}"} if key else {}),
            timeout=httpx.Timeout(_ANSWER_SECONDS, connect=_CONNECT_SECONDS),
            verify=verify,
            trust_env=False,  # a proxy of the environment would see the key
        )

    @classmethod
    def of(cls, settings: Settings, url: str) -> Self:
        """Return a client of this address with the key of the settings. Raises `SettingsError` for a wrong COIN_CA."""
        ca = settings.path(settings.ca) if settings.ca else None
        return cls(url, _key(settings, url), tls.trusting(ca, f"{PREFIX}CA") if url.startswith("https:") else True)

    def ask(self, method: str, path: str, *, params: Mapping[str, Any] | None = None, json: Any = None) -> Any:
        """Return the JSON of an answer. Raises `ApiProblem` for an answer that says why not, and `ApiError`."""
        try:
            answer = self._client.request(method, path, params=params, json=json)
        except httpx.TimeoutException as error:
            unknown = "" if method == "GET" else "; whether the change was made is not known: look before you repeat it"
            raise ApiError(f"{PREFIX}SERVE_URL={self._url}: no answer in time, {_words(error)}{unknown}") from error
        except httpx.HTTPError as error:
            raise ApiError(
                f"{PREFIX}SERVE_URL={self._url}: the control API cannot be reached, {_words(error)}; "
                f"start `coin serve` there, or unset {PREFIX}SERVE_URL"
            ) from error
        if answer.is_success:
            try:
                return msgspec.json.decode(answer.content)
            except (msgspec.MsgspecError, UnicodeDecodeError):
                raise self._foreign(answer) from None
        raise self._problem(answer)

    def close(self) -> None:
        """Close the connection."""
        self._client.close()

    def _problem(self, answer: httpx.Response) -> ApiError:
        try:
            found = msgspec.json.decode(answer.content, type=_Problem)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            return self._foreign(answer)
        status, remedy = answer.status_code, found.remedy
        if status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN) and "key" in found.detail:
            remedy = f"set {PREFIX}SERVE_KEY to a key of {PREFIX}SERVE_KEYS of the server"
        detail = one_line(found.detail[:_SHOWN_CHARACTERS])
        text = "; ".join(filter(None, (f"{self._url}: {detail}", one_line(remedy[:_SHOWN_CHARACTERS]))))
        return ApiProblem(text, status, found.type.removeprefix(_KIND), detail)

    def _foreign(self, answer: httpx.Response) -> ApiError:
        return ApiError(
            f"{PREFIX}SERVE_URL={self._url}: HTTP {answer.status_code}, and not the answer of a control API; "
            "write the address of `coin serve`"
        )


class _Problem(msgspec.Struct):
    detail: str
    type: str = ""
    remedy: str = ""


def _words(error: httpx.HTTPError) -> str:
    return one_line(str(error)) or type(error).__name__


def _key(settings: Settings, url: str) -> str | None:
    """Return the key to send. The server's own key is sent to this machine alone."""
    if settings.serve_key is not None:
        return settings.serve_key.get_secret_value()
    file = own_key_file(settings)
    if not is_loopback(urlsplit(url).hostname or ""):
        return None
    try:
        return file.read_text(encoding="ascii").strip() or None
    except (OSError, UnicodeDecodeError):
        return None  # another user's server, or one with keys of its own: its answer says what is missing
