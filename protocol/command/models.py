"""Agents that are models: made from settings, with keys from the environment."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Final

from pool.agents.calls import CallRules, ModelCalls
from pool.agents.model_spec import ModelSpec
from pool.errors import ConfigError
from protocol.model_settings import FurtherModel, ModelSettings

if TYPE_CHECKING:
    from pool.agents.chat import ChatFactory

_PROVIDER: Final = "openai"
# What the first model gets from the environment, and from which variable.
_VARIABLES: Final = {"api_key": "OPENAI_API_KEY", "base_url": "OPENAI_BASE_URL"}


class Models:
    """Makes them. Agents with equal rules for calls share what their calls teach."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ
        self._calls: dict[CallRules, ModelCalls] = {}

    def agent(self, name: str, model: str, settings: ModelSettings) -> ChatFactory:
        """The agent of that name, which asks `model` first; `ConfigError` if it cannot be had."""
        _check(model)
        key = self._key("OPENAI_API_KEY", "the model's provider asks")
        fallbacks, others = self._further(settings.fallbacks), self._further(settings.others)
        # an HTTP client, of which agents of one's own have no need
        from pool.agents.chat import chat

        try:
            return chat(
                model=model,
                instructions=settings.instructions,
                api_key=key,
                base_url=self._environ.get("OPENAI_BASE_URL") or None,
                fallbacks=fallbacks,
                others=others,
                routes=settings.routes,
                plans=settings.plans,
                last_resort=settings.last_resort,
                calls=self._shared(settings.rules),
            )
        except ConfigError as mistake:
            option = _VARIABLES.get(mistake.option, f"agents.{name}.{mistake.option}")
            raise ConfigError(option, mistake.value, mistake.remedy) from None

    def _shared(self, rules: CallRules) -> ModelCalls:
        calls = self._calls.get(rules)
        if calls is None:
            calls = self._calls[rules] = ModelCalls(rules)
            if rules.retries:
                _quiet()
        return calls

    def _further(self, models: Sequence[str | FurtherModel]) -> list[str | ModelSpec]:
        return [model if isinstance(model, str) else self._spec(model) for model in models]

    def _spec(self, model: FurtherModel) -> ModelSpec:
        variable = model.key_variable
        return ModelSpec(
            model=model.model,
            name=model.name,
            base_url=model.base_url,
            api_key=None if variable is None else self._key(variable, f"{model.model} asks"),
            context_tokens=model.context_tokens,
        )

    def _key(self, variable: str, who: str) -> str:
        key = self._environ.get(variable, "")
        if not key:
            raise ConfigError(
                variable,
                key,
                f"{who} for a key: set this variable, to any word if yours asks for none",
            )
        return key


def _quiet() -> None:
    """Take the library's own hooks away: this process is the command's, which tells of retries by
    events and metrics of its own.
    """
    import_module("stamina.instrumentation").set_on_retry_hooks(())


def _check(model: str) -> None:
    provider, colon, name = model.partition(":")
    if provider != _PROVIDER or not colon or not name:
        remedy = f"write {_PROVIDER}:NAME, the name being the provider's"
        raise ConfigError("model", model, remedy)
