"""A small OpenID provider as a program: `python -m tests.support.identity_provider PORT FILE`. Not for anything but tests.

It signs in everybody at once, as what the JSON file says, which a test may change at any time. Keys: `claims`, `id_token` (claims
that replace those of the ID token), `algorithm`, `key` (`other`: a key that is not published), `refuse`, `userinfo`.
"""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

from joserfc import jwt
from joserfc.jwk import OctKey, RSAKey

CLIENT, SECRET = "corewatch", "the client's secret"


def main(port: int, file: Path) -> None:
    """Serve for ever."""
    key, other = RSAKey.generate_key(2048, {"kid": "1"}), RSAKey.generate_key(2048, {"kid": "1"})
    issuer = f"http://127.0.0.1:{port}"
    codes: dict[str, dict[str, str]] = {}

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            pass

        def _json(self, body: Any, status: int = 200) -> None:
            data = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            query = {name: values[0] for name, values in parse_qs(parts.query).items()}
            if parts.path == "/.well-known/openid-configuration":
                names = {"authorization_endpoint": "authorize", "token_endpoint": "token", "jwks_uri": "keys"}
                names["userinfo_endpoint"] = "userinfo"
                self._json({"issuer": issuer} | {name: f"{issuer}/{path}" for name, path in names.items()})
            elif parts.path == "/keys":
                self._json({"keys": [{**key.as_dict(private=False), "use": "sig"}]})
            elif parts.path == "/userinfo":
                self._json(json.loads(file.read_text()).get("userinfo", {}))
            elif parts.path == "/authorize":
                assert query["client_id"] == CLIENT
                assert query["response_type"] == "code"
                assert query["code_challenge_method"] == "S256"
                assert "openid" in query["scope"].split()
                code = secrets.token_urlsafe()
                codes[code] = query
                given = {"code": code} if not json.loads(file.read_text()).get("refuse") else {"error": "access_denied"}
                self.send_response(302)
                self.send_header(
                    "location", f"{query['redirect_uri']}?{urlencode({**given, 'state': query['state'], 'iss': issuer})}"
                )
                self.end_headers()
            else:
                self._json({}, 404)

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            form = {name: values[0] for name, values in parse_qs(body.decode()).items()}
            asked = codes.pop(form.get("code", ""), None)
            client = base64.b64decode(self.headers.get("authorization", "Basic ").partition(" ")[2]).decode()
            proof = base64.urlsafe_b64encode(hashlib.sha256(form.get("code_verifier", "").encode()).digest()).decode().rstrip("=")
            if asked is None or client.partition(":")[0] != CLIENT or proof != asked["code_challenge"]:
                self._json({"error": "invalid_grant"}, 400)
                return
            said, now = json.loads(file.read_text()), int(time.time())
            claims = {"iss": issuer, "aud": CLIENT, "sub": "1", "iat": now, "exp": now + 60, "nonce": asked["nonce"]}
            claims |= said.get("claims", {}) | said.get("id_token", {})
            algorithm = said.get("algorithm", "RS256")
            signer: Any = other if said.get("key") == "other" else key
            if algorithm == "HS256":  # the classic attack: the public key as a shared secret
                signer = OctKey.import_key(base64.urlsafe_b64encode(key.as_pem(private=False)))
            token = jwt.encode({"alg": algorithm, "kid": "1"}, claims, signer, algorithms=[algorithm])
            self._json({"access_token": "a", "token_type": "Bearer", "id_token": token})

    ThreadingHTTPServer(("127.0.0.1", port), Handler).serve_forever()


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]))
