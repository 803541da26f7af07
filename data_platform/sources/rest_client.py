"""One request to an API until it is answered: credentials, waiting, retries, redirects, limits.

What may pass by itself is tried again. Credentials go to the origin of the configured URL and nowhere else, and no
error quotes an address with its query, a header or a body.
"""

import json
import logging
import random
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from types import TracebackType
from typing import Any
from urllib.parse import urljoin, urlsplit

import requests
from urllib3.exceptions import DecodeError, InvalidHeader, ProtocolError, ReadTimeoutError
from urllib3.util import Retry

from data_platform.errors import DeliveryRejected, SettingsError, SourceUnavailable
from data_platform.sources.extraction import fits_header, secret
from data_platform.sources.rest_config import Auth, OAuth2, RestSource, web_address

MAX_PAGE_BYTES = 256 * 1024 * 1024
LONGEST_WAIT = 300.0  # seconds; who is told to wait for longer comes back with the next run
_REDIRECTS = (301, 302, 303, 307, 308)
_MOST_REDIRECTS = 5
# Beside what servers fail with, which they do for a while: proxies have numbers of their own for it, such as 520.
_TRANSIENT = (408, 425, 429)
_NEVER = (501, 505)  # not implemented, another version of HTTP
_CHUNK = 1024 * 1024
_EARLY = timedelta(seconds=30).total_seconds()
# At level DEBUG it writes addresses with their query, where some APIs want the key.
logging.getLogger("urllib3.connectionpool").setLevel(logging.INFO)


@dataclass(frozen=True)
class Answer:
    """The body of a page, and the address of the next one by the header Link, if there is one."""

    body: bytes
    links: Mapping[str, str]


class _Again(Exception):
    """The request may be sent again, after `wait` seconds (None: as long as the backoff says)."""

    def __init__(self, said: str, wait: float | None = None) -> None:
        super().__init__(said)
        self.said, self.wait = said, wait


class _Session(requests.Session):
    def get_redirect_target(self, resp: requests.Response) -> None:
        """None: requests would prepare the next request even where it is not to follow, and fail at what is no URL."""


class Client:
    """Asks one API. `place` is how sources.yaml calls it."""

    def __init__(self, config: RestSource, place: str) -> None:
        self.config, self.place = config, place
        self.requests = self.retried = 0
        self._session = _Session()
        self._credentials = _credentials(config.auth, self, place)
        self._last = 0.0

    def __enter__(self) -> "Client":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._session.close()

    def get(self, url: str, params: Mapping[str, Any]) -> Answer:
        """The answer to GET, after as many tries as the configuration allows.

        Raises SourceUnavailable where all of them failed, SettingsError where the API refuses, DeliveryRejected for an
        answer that is too large.
        """
        return self._tried(lambda: self._follow(url, params), self._credentials.renew)

    def post(self, url: str, form: Mapping[str, str]) -> bytes:
        """The answer to a form; of the token's address alone, and so without other credentials."""
        return self._tried(lambda: self._once("POST", url, {}, form), lambda: False).body

    def _tried(self, ask: Callable[[], Answer], renew: Callable[[], bool]) -> Answer:
        failures, renewed = 0, False
        while True:
            try:
                return ask()
            except _Refused:
                # A token may have expired in the middle; a fresh one that is refused as well is wrong.
                if renewed or not renew():
                    raise SettingsError(
                        f"{self.place}.auth: {_host(self.config.url)} does not accept the credentials: correct the "
                        "variables that it names."
                    ) from None
                renewed = True
            except _Again as error:
                # Jitter, so that many who were turned away together do not come back together.
                wait = self.config.backoff * 2**failures * random.uniform(1, 1.25) if error.wait is None else error.wait
                failures += 1
                if failures > self.config.retries or wait > LONGEST_WAIT:
                    asked = f", and is to be asked again in {wait:.0f} s" if wait > LONGEST_WAIT else ""
                    raise SourceUnavailable(
                        f"{self.place}: {_host(self.config.url)} {error.said}{asked}. Nothing was taken; run the day "
                        "again later."
                    ) from None
                self.retried += 1
                time.sleep(wait)

    def _follow(self, url: str, params: Mapping[str, Any]) -> Answer:
        for _ in range(_MOST_REDIRECTS):
            answer = self._once("GET", url, params, None)
            target = answer.links.get("_redirect")
            if target is None:
                return answer
            following = joined(url, target)
            if following is None:
                raise SettingsError(f"{self.place}.url is redirected to what is no address: correct it.")
            url, params = self.same_origin(following), {}
        raise SettingsError(f"{self.place}.url is redirected more than {_MOST_REDIRECTS} times: correct it.")

    def same_origin(self, url: str) -> str:
        """`url`, unless it leads to another host than the configured one: that gets no request, and no credentials."""
        if _origin(url) != _origin(self.config.url):
            raise SettingsError(
                f"{self.place}.url leads on to another host, {_host(url)}, which is not asked and gets no credentials: "
                "if it is the right one, make it the `url`."
            )
        return url

    def _once(self, method: str, url: str, params: Mapping[str, Any], form: Mapping[str, str] | None) -> Answer:
        self._pace()
        self.requests += 1
        started = time.monotonic()
        timeout = self.config.timeout
        credentials = self._credentials if form is None else _Credentials()
        try:
            with self._session.request(
                method, url, params=dict(params), data=form, auth=credentials, timeout=timeout, stream=True,
                allow_redirects=False, headers={"Accept": "application/json"},
            ) as response:  # fmt: skip
                if response.status_code in _REDIRECTS:
                    return Answer(b"", {"_redirect": response.headers.get("Location", "")})
                self._judge(response)
                pieces, size = [], 0
                for piece in _pieces(response):
                    size += len(piece)
                    if size > MAX_PAGE_BYTES:
                        raise DeliveryRejected(
                            f"{self.place}: a page is larger than {MAX_PAGE_BYTES // 1024 // 1024} MB: ask for fewer "
                            "records a page (`pages: size:`)."
                        )
                    if time.monotonic() - started > timeout:
                        raise _Again(f"took longer than {timeout:g} s for a page")
                    pieces.append(piece)
                links = {name: link["url"] for name, link in response.links.items() if "url" in link}
                return Answer(b"".join(pieces), links)
        except requests.exceptions.SSLError:
            raise SettingsError(
                f"{self.place}.url: the certificate of {_host(url)} cannot be trusted: have it renewed, or name the "
                "authority that signed it in REQUESTS_CA_BUNDLE."
            ) from None
        except (requests.exceptions.Timeout, ReadTimeoutError):
            raise _Again(f"did not answer within {timeout:g} s") from None
        except (requests.exceptions.ConnectionError, ProtocolError):
            raise _Again("cannot be reached, or broke the connection off") from None
        except (requests.exceptions.RequestException, DecodeError) as error:
            raise SourceUnavailable(
                f"{self.place}: the request to {_host(url)} failed ({type(error).__name__})."
            ) from None

    def _judge(self, response: requests.Response) -> None:
        status = response.status_code
        if status < 300:
            return
        if status == 401:
            raise _Refused
        if status in _TRANSIENT or (status >= 500 and status not in _NEVER):
            raise _Again(f"answers {status}", _retry_after(response))
        raise SettingsError(
            f"{self.place}: {_host(response.url)} answers {status} to {urlsplit(response.url).path or '/'}: correct "
            "`url`, `params` or the rights of the credentials."
        )

    def _pace(self) -> None:
        if self.config.requests_per_second is not None:
            wait = self._last + 1 / self.config.requests_per_second - time.monotonic()
            if wait > 0:
                time.sleep(wait)
            self._last = time.monotonic()


def joined(url: str, target: str) -> str | None:
    """The address that `target`, read at `url`, leads to; None where that is none."""
    try:
        following = urljoin(url, target)
    except ValueError:
        return None
    return following if web_address(following) else None


def _pieces(response: requests.Response) -> Iterator[bytes]:
    """The body as it arrives: to wait for a full piece would be to wait for who drips as long as he likes."""
    while piece := response.raw.read1(_CHUNK, decode_content=True):
        yield piece


def _retry_after(response: requests.Response) -> float | None:
    """The seconds that the header Retry-After asks for, by a number or a date; None without one."""
    try:
        return Retry().get_retry_after(response.raw)
    except InvalidHeader:
        return None


class _Refused(Exception):
    """The credentials are not accepted (any more)."""


def _origin(url: str) -> tuple[str, str | None, int | None]:
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port or {"http": 80, "https": 443}.get(parts.scheme)


def _host(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.hostname}:{parts.port}" if parts.port else str(parts.hostname)


# Credentials


class _Credentials(requests.auth.AuthBase):
    """None: and no others either, such as those of a .netrc."""

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        return request

    def renew(self) -> bool:
        """Whether there are others to try after these were refused."""
        return False


class _Header(_Credentials):
    def __init__(self, name: str, value: str) -> None:
        self._name, self._value = name, value

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers[self._name] = self._value
        return request


class _Param(_Credentials):
    def __init__(self, name: str, value: str) -> None:
        self._name, self._value = name, value

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.prepare_url(str(request.url), {self._name: self._value})
        return request


class _Token(_Credentials):
    """A token that is asked for when it is needed, and again when it has expired."""

    def __init__(self, config: OAuth2, client: Client, place: str) -> None:
        self._config, self._client = config, client
        self._form = {
            "grant_type": "client_credentials",
            "client_id": secret(config.client_id, f"{place}.auth.oauth2.client_id"),
            "client_secret": secret(config.client_secret, f"{place}.auth.oauth2.client_secret"),
            **({"scope": config.scope} if config.scope else {}),
        }
        self._token, self._until = "", 0.0

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        if time.monotonic() >= self._until:
            self._ask()
        request.headers["Authorization"] = f"Bearer {self._token}"
        return request

    def renew(self) -> bool:
        self._until = 0.0
        return True

    def _ask(self) -> None:
        body = self._client.post(self._config.token_url, self._form)
        try:
            told = json.loads(body)
            self._token = str(told["access_token"])
            if not fits_header(self._token):
                raise ValueError
            lives = float(told.get("expires_in") or 3600)
        except (ValueError, KeyError, TypeError, AttributeError):
            raise SettingsError(
                f"{self._client.place}.auth.oauth2.token_url gives no token (access_token in JSON): correct it."
            ) from None
        self._until = time.monotonic() + max(lives - _EARLY, lives / 2)


def _credentials(auth: Auth | None, client: Client, place: str) -> _Credentials:
    if auth is None:
        return _Credentials()
    if auth.bearer is not None:
        return _Header("Authorization", f"Bearer {secret(auth.bearer, f'{place}.auth.bearer', in_header=True)}")
    if auth.api_key is not None:
        key = secret(auth.api_key, f"{place}.auth.api_key", in_header=auth.header is not None)
        return _Header(auth.header, key) if auth.header else _Param(str(auth.param), key)
    if auth.basic is not None:
        user, password = (
            secret(getattr(auth.basic, name), f"{place}.auth.basic.{name}", in_header=True)
            for name in ("user", "password")
        )
        return _Header("Authorization", requests.auth._basic_auth_str(user, password))
    assert auth.oauth2 is not None
    return _Token(auth.oauth2, client, place)
