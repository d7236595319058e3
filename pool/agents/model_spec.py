"""One model as it is configured: who has it, under which key, and how it is asked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import urlsplit

from msgspec import Struct

from pool.errors import ConfigError

OPENAI_URL: Final = "https://api.openai.com/v1"
_PREFIX: Final = "openai:"
_HEADERS: Final[Mapping[str, str]] = {
    "Accept": "text/event-stream",
    # Small pieces do not get smaller by compression, only later.
    "Accept-Encoding": "identity",
    "Content-Type": "application/json",
    "User-Agent": "actorpool",
}


class ModelSpec(Struct, frozen=True, kw_only=True):
    """A model besides an agent's first one. A string is short for one that has only `model`.

    `model`: "openai:NAME", NAME as the endpoint at `base_url` knows it. `name`: what routes,
    budgets and events call it (default: as `model`). Without a `base_url` it is at the first
    model's, with that one's key and, if none are given here, its `options`; with one, `api_key` is
    its own, and without it no credentials are sent. `context_tokens`: how long a conversation may
    be for it (default: as for the first).
    """

    model: str
    name: str | None = None
    base_url: str | None = None
    api_key: str | None = None
    options: Mapping[str, Any] | None = None
    context_tokens: int | None = None

    def __repr__(self) -> str:
        # without the key
        return f"<ModelSpec {self.name or self.model!r}>"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        # else tracebacks of rich have all fields, whatever __repr__ says
        return [("model", self.model)]


class ModelPlace(Struct, frozen=True):
    """A model and everything that is needed to ask it, checked.

    `name` is what we call it, `model` what its provider does.
    """

    name: str
    model: str
    url: str
    headers: Mapping[str, str]
    options: Mapping[str, Any]
    context_tokens: int

    def __repr__(self) -> str:
        # without the key
        return f"<ModelPlace {self.name!r}>"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        # else tracebacks of rich have all fields, whatever __repr__ says
        return [("name", self.name)]

    @property
    def account(self) -> tuple[str, str]:
        """Where it is asked, with which credentials."""
        return self.url, self.headers.get("Authorization", "")


def first_place(
    model: str,
    *,
    base_url: str | None,
    api_key: str | None,
    options: Mapping[str, Any] | None,
    context_tokens: int,
) -> ModelPlace:
    """Where an agent's first model is; `ConfigError` says what cannot be used."""
    return ModelPlace(
        name=model,
        model=_bare("model", model),
        url=_url("base_url", OPENAI_URL if base_url is None else base_url),
        headers=_headers("api_key", api_key),
        options=options or {},
        context_tokens=context_tokens,
    )


def further_place(spec: ModelSpec | str, first: ModelPlace, *, option: str) -> ModelPlace:
    """Where a further model is; `option` is what mistakes in it are called by."""
    if isinstance(spec, str):
        spec = ModelSpec(model=spec)
    elsewhere = spec.base_url is not None
    if not elsewhere and spec.api_key is not None:
        raise ConfigError(f"{option}.api_key", "...", "goes with a base_url of its own")
    if spec.context_tokens is not None and spec.context_tokens < 1:
        remedy = "write a number of at least 1"
        raise ConfigError(f"{option}.context_tokens", spec.context_tokens, remedy)
    return ModelPlace(
        name=spec.name or spec.model,
        model=_bare(option, spec.model),
        url=first.url if spec.base_url is None else _url(f"{option}.base_url", spec.base_url),
        headers=_headers(f"{option}.api_key", spec.api_key) if elsewhere else first.headers,
        options=_options(spec, first, elsewhere=elsewhere),
        context_tokens=spec.context_tokens or first.context_tokens,
    )


def named_place(name: str, first: ModelPlace) -> ModelPlace:
    """Where a model is of which only a name is known: at the first one's provider."""
    return further_place(
        ModelSpec(model=_PREFIX + name.removeprefix(_PREFIX)), first, option="model"
    )


def _options(spec: ModelSpec, first: ModelPlace, *, elsewhere: bool) -> Mapping[str, Any]:
    if spec.options is not None:
        return spec.options
    return {} if elsewhere else first.options


def _bare(option: str, model: str) -> str:
    name = model.removeprefix(_PREFIX)
    if name == model or not name:
        raise ConfigError(option, model, f'write "{_PREFIX}" and the name of a model')
    return name


def _url(option: str, base_url: str) -> str:
    parts = urlsplit(base_url)
    if parts.scheme not in ("http", "https") or not parts.netloc:
        remedy = f"write an http or https address, such as {OPENAI_URL}"
        raise ConfigError(option, base_url, remedy)
    return base_url.rstrip("/")


def _headers(option: str, api_key: str | None) -> Mapping[str, str]:
    if api_key is None:
        return _HEADERS
    if not (api_key.isascii() and api_key.isprintable() and api_key.strip()):
        remedy = "write the key alone: printable ASCII, without line ends"
        raise ConfigError(option, "...", remedy)
    return {**_HEADERS, "Authorization": f"Bearer {api_key}"}
