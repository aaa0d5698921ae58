"""OpenID Connect relying party: authorization code flow with PKCE (OpenID Connect Core 1.0, RFC 7636)."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

import requests
from authlib.integrations.base_client import OAuthError
from authlib.integrations.requests_client import OAuth2Session
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet

from config.portal_access import OidcSettings
from corewatch.errors import CorewatchError
from corewatch.roles import Role
from portal.access.principal import Principal, SignIn
from portal.access.proxy_header import LONGEST_LOGIN, roles_of_groups

ALGORITHMS: Final = ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512"]
"""Signatures of ID tokens; none with a shared secret."""

_CACHE_S: Final = 3600.0
_AFTER_FAILURE_S: Final = 5.0
_REFETCH_S: Final = 60.0
"""Seconds between two fetches of the keys for a token whose key is unknown."""
_LEEWAY_S: Final = 60
_LONGEST: Final = 1_000_000


class ProviderUnavailable(CorewatchError):
    """The identity provider does not answer, or not as it must."""


class SignInRefused(CorewatchError):
    """The provider, or what it says of this person, does not permit the sign-in."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """Random values that bind an answer of the provider to the browser that asked."""

    state: str
    nonce: str
    verifier: str


class IdentityProvider:
    """One provider. Its addresses and keys are fetched when they are needed, and kept for an hour. Thread-safe.

    Parameters
    ----------
    redirect_uri
        Where the provider sends browsers back to.
    monotonic
        Seconds of a monotonic clock.
    """

    def __init__(self, settings: OidcSettings, redirect_uri: str, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._settings, self._redirect_uri, self._monotonic = settings, redirect_uri, monotonic
        self._lock = threading.Lock()
        self._metadata: dict[str, Any] = {}
        self._metadata_at_s = self._failed_at_s = self._keys_at_s = float("-inf")
        self._keys = KeySet([])

    def address(self, attempt: Attempt) -> str:
        """Where to send a browser that wants to sign in.

        Raises
        ------
        ProviderUnavailable
            The provider's metadata cannot be read.
        """
        endpoint = self._endpoint("authorization_endpoint")
        with self._session() as session:
            url, _state = session.create_authorization_url(
                endpoint, state=attempt.state, nonce=attempt.nonce, code_verifier=attempt.verifier
            )
        return str(url)

    def principal(self, code: str, attempt: Attempt) -> Principal:
        """Whom the provider signed in, from the code in its answer.

        Raises
        ------
        ProviderUnavailable
            It does not answer.
        SignInRefused
            It refuses the code, its ID token is not valid, or the person has no role here.
        """
        try:
            with self._session() as session:
                token: Mapping[str, Any] = session.fetch_token(
                    self._endpoint("token_endpoint"),
                    code=code,
                    code_verifier=attempt.verifier,
                    timeout=self._settings.timeout_s,
                    allow_redirects=False,
                )
        except OAuthError as error:
            raise SignInRefused("the provider refused its own code", "sign in again") from error
        except (requests.RequestException, ValueError) as error:
            raise ProviderUnavailable("the token endpoint does not answer", "try again later") from error
        claims = self._verified(str(token.get("id_token", "")), attempt.nonce)
        return self._principal_of(claims, str(token.get("access_token", "")))

    def _verified(self, id_token: str, nonce: str) -> dict[str, Any]:
        try:
            claims = self._decoded(id_token)
            jwt.JWTClaimsRegistry(
                leeway=_LEEWAY_S,
                iss={"essential": True, "value": self._settings.issuer},
                sub={"essential": True},
                exp={"essential": True},
                iat={"essential": True},
                nonce={"essential": True, "value": nonce},
            ).validate(claims)
        except (JoseError, ValueError, TypeError) as error:
            raise SignInRefused("the ID token is not valid", "sign in again") from error
        audience = claims.get("aud")
        audiences = audience if isinstance(audience, list) else [audience]
        party = claims.get("azp", self._settings.client_id if len(audiences) == 1 else None)
        if self._settings.client_id not in audiences or party != self._settings.client_id:
            raise SignInRefused("the ID token is for another client", "correct portal.oidc.client_id")
        return claims

    def _decoded(self, id_token: str) -> dict[str, Any]:
        try:
            return jwt.decode(id_token, self._key_set(), algorithms=ALGORITHMS).claims
        except (JoseError, ValueError):
            with self._lock:
                if self._monotonic() - self._keys_at_s < _REFETCH_S:
                    raise
                self._keys_at_s = float("-inf")
        return jwt.decode(id_token, self._key_set(), algorithms=ALGORITHMS).claims  # the provider may have new keys

    def _principal_of(self, claims: dict[str, Any], access_token: str) -> Principal:
        names = (self._settings.login_claim, self._settings.groups_claim)
        if not all(name in claims for name in names) and access_token and "userinfo_endpoint" in self._known_metadata():
            more = self._fetch(self._endpoint("userinfo_endpoint"), {"authorization": f"Bearer {access_token}"})
            if more.get("sub") != claims["sub"]:  # OpenID Connect Core 5.3.2
                raise SignInRefused("the user info is of another person", "sign in again")
            claims = {**more, **claims}
        login = claims.get(self._settings.login_claim)
        if not isinstance(login, str) or not login.isprintable() or not 0 < len(login.strip()) <= LONGEST_LOGIN:
            raise SignInRefused(f"the provider sends no {self._settings.login_claim}", "correct portal.oidc.login_claim or scopes")
        groups = claims.get(self._settings.groups_claim, [])
        groups = [groups] if isinstance(groups, str) else groups if isinstance(groups, list) else []
        roles: frozenset[Role] = roles_of_groups([group for group in groups if isinstance(group, str)], self._settings.roles)
        if not roles:
            raise SignInRefused("your account has no group with a role here", "ask an administrator")
        name = claims.get(self._settings.name_claim)
        shown = name.strip() if isinstance(name, str) and name.isprintable() else ""
        return Principal(login.strip(), (shown or login)[:LONGEST_LOGIN], roles, SignIn.OIDC)

    def _endpoint(self, name: str) -> str:
        address = self._known_metadata().get(name)
        parts = urlsplit(str(address or ""))
        if parts.scheme != "https" and parts.hostname not in {"127.0.0.1", "::1", "localhost"}:
            raise ProviderUnavailable(f"the provider names no safe {name}", "correct the provider's settings")
        return str(address)

    def _known_metadata(self) -> dict[str, Any]:
        with self._lock:
            if self._monotonic() - self._metadata_at_s < _CACHE_S:
                return self._metadata
            if self._monotonic() - self._failed_at_s < _AFTER_FAILURE_S:
                raise ProviderUnavailable("the provider does not answer", "try again later")
        try:
            found = self._fetch_metadata()
        except ProviderUnavailable:
            with self._lock:
                self._failed_at_s = self._monotonic()
            raise
        with self._lock:
            self._metadata, self._metadata_at_s = found, self._monotonic()
        return found

    def _fetch_metadata(self) -> dict[str, Any]:
        found = self._fetch(f"{self._settings.issuer.rstrip('/')}/.well-known/openid-configuration")
        if found.get("issuer") != self._settings.issuer:
            raise ProviderUnavailable("the provider is another issuer", "correct portal.oidc.issuer")
        return found

    def _key_set(self) -> KeySet:
        with self._lock:
            if self._monotonic() - self._keys_at_s < _CACHE_S:
                return self._keys
        found = self._fetch(self._endpoint("jwks_uri"))
        usable = [key for key in found.get("keys", []) if isinstance(key, dict) and key.get("use", "sig") == "sig"]
        try:
            keys = KeySet.import_key_set({"keys": [key for key in usable if key.get("kty") in {"RSA", "EC"}]})
        except (JoseError, ValueError, KeyError) as error:
            raise ProviderUnavailable("the provider's keys cannot be read", "look at its jwks_uri") from error
        with self._lock:
            self._keys, self._keys_at_s = keys, self._monotonic()
        return keys

    def _fetch(self, address: str, headers: Mapping[str, str] | None = None) -> dict[str, Any]:
        try:
            with requests.get(
                address, headers=dict(headers or {}), timeout=self._settings.timeout_s, verify=self._verify, allow_redirects=False,
                stream=True,
            ) as answer:  # fmt: skip
                if answer.status_code != 200:
                    raise ProviderUnavailable(f"the provider answers {answer.status_code}", "look at its log")
                body = answer.raw.read(_LONGEST, decode_content=True)
                found = json.loads(body)
        except (requests.RequestException, ValueError, OSError) as error:
            raise ProviderUnavailable("the provider does not answer", "look whether it runs, and at portal.oidc") from error
        if not isinstance(found, dict):
            raise ProviderUnavailable("the provider's answer cannot be read", "look at its log")
        return found

    def _session(self) -> OAuth2Session:
        secret = self._settings.client_secret
        session = OAuth2Session(
            self._settings.client_id,
            None if secret is None else secret.get_secret_value(),
            scope=" ".join(self._settings.scopes),
            redirect_uri=self._redirect_uri,
            code_challenge_method="S256",
            token_endpoint_auth_method="none" if secret is None else "client_secret_basic",
        )
        session.verify = self._verify
        return session

    @property
    def _verify(self) -> bool | str:
        return True if self._settings.authority is None else str(self._settings.authority)
