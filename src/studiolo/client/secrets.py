"""Calls on an account's secrets."""

from __future__ import annotations

from studiolo.client.call import Call, endpoint
from studiolo.client.paths import word
from studiolo.resources import Secret


class SecretCalls:
    @endpoint
    def secrets(self) -> Call[list[Secret]]:
        """The names of this account's secrets. Their values are never shown."""
        return Call("GET", "/secrets", list[Secret])

    @endpoint
    def put_secret(self, name: str, value: str) -> Call[Secret]:
        """Keep a secret, replacing one of that name. Raises `WrongInput`."""
        return Call("PUT", f"/secrets/{word(name, 'secret')}", Secret, body={"value": value})

    @endpoint
    def delete_secret(self, name: str) -> Call[None]:
        """Forget a secret. Raises `NotFound`."""
        return Call("DELETE", f"/secrets/{word(name, 'secret')}", type(None))
