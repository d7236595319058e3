"""What the settings of an agent say about its models: flat, with names of variables for keys."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

from msgspec import NODEFAULT, Meta, Struct
from msgspec.structs import fields

from pool.agents.calls import CallRules
from pool.agents.routing import Route
from pool.errors import ConfigError

Text = Annotated[str, Meta(min_length=1)]


class FurtherModel(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A further model of an agent; see `pool.agents.model_spec.ModelSpec`.

    `key_variable`: the variable of the environment that has its key.
    """

    model: str
    name: Text | None = None
    base_url: str | None = None
    key_variable: Text | None = None
    context_tokens: Annotated[int, Meta(ge=1)] | None = None


class ModelSettings(CallRules, frozen=True, kw_only=True):
    """The models of an agent and how they are called; see `pool.agents.chat.chat`."""

    model: str | None = None
    instructions: str = ""
    fallbacks: tuple[str | FurtherModel, ...] = ()
    others: tuple[str | FurtherModel, ...] = ()
    routes: tuple[Route, ...] = ()
    plans: Mapping[str, str] = {}
    last_resort: Text | None = None

    def __post_init__(self) -> None:
        CallRules.__post_init__(self)
        for option in fields(ModelSettings):
            # what is made anew for each is empty
            unset = {} if option.default is NODEFAULT else option.default
            if self.model is None and getattr(self, option.name) != unset:
                remedy = "they are for a model: name one (--model)"
                raise ConfigError(option.name, "...", remedy)

    @property
    def rules(self) -> CallRules:
        """How the models are called."""
        names = [option.name for option in fields(CallRules)]
        return CallRules(**{name: getattr(self, name) for name in names})
