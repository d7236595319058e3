"""From the settings of agents to the agents themselves: modules are imported, models are made."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from importlib import import_module
from types import ModuleType
from typing import Any, Final

from msgspec.structs import replace

from pool.agents.adapt import adapt
from pool.config import AgentSpec
from pool.errors import ConfigError
from protocol.settings import AgentSettings

_SPEC: Final = ("description", "min", "max", "limit", "limit_initial", "max_steps", "max_tokens")
_PROVIDER: Final = "openai"


def load(agents: Mapping[str, AgentSettings], environ: Mapping[str, str]) -> dict[str, AgentSpec]:
    """The agents, in order; `ConfigError` says which one cannot be had, and why."""
    return {name: _spec(name, agent, environ) for name, agent in agents.items()}


def _spec(name: str, settings: AgentSettings, environ: Mapping[str, str]) -> AgentSpec:
    if settings.model is not None:
        agent = _model(settings.model, settings.instructions, environ)
    elif settings.target is not None:
        agent = _target(f"agent {name}", settings.target)
    else:
        raise ConfigError(f"agents.{name}.target", None, 'write "module:attribute", or a model')
    options = {option: getattr(settings, option) for option in _SPEC}
    given = {option: value for option, value in options.items() if value is not None}
    if settings.gate is not None:
        given["gate"] = _target(f"agents.{name}.gate", settings.gate)
    try:
        spec = agent if isinstance(agent, AgentSpec) else AgentSpec(agent=agent)
        adapt(spec.agent)
        return replace(spec, **given)
    except ConfigError as mistake:
        option = f"agents.{name}.{mistake.option}"
        raise ConfigError(option, mistake.value, mistake.remedy) from None


def _target(option: str, target: str) -> Any:
    """What `module:attribute` names; the attribute may go on with dots."""
    module_name, colon, attribute = target.partition(":")
    if not (module_name and colon and attribute):
        raise ConfigError(option, target, "write MODULE:ATTRIBUTE, as in app:agent")
    found: Any = _module(option, target, module_name)
    for part in attribute.split("."):
        try:
            found = getattr(found, part)
        except AttributeError:
            raise ConfigError(option, target, _no_attribute(found, part)) from None
    return found


def _module(option: str, target: str, name: str) -> ModuleType:
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and (name + ".").startswith(error.name + "."):
            remedy = f"there is no module {error.name}: run in its directory, or install it"
        else:
            remedy = f"module {name} needs {error.name}, which is not there: install it"
        raise ConfigError(option, target, remedy) from None
    except (Exception, SystemExit) as error:
        # by its type and place: its text may quote what the module read, a key say
        raise ConfigError(
            option,
            target,
            f"importing {name} failed with {type(error).__name__} at {_place(error)}: "
            f'python -c "import {name}" shows it whole',
        ) from None


def _place(error: BaseException) -> str:
    """The last line that ran: "module:line"."""
    at = error.__traceback__
    while at is not None and at.tb_next is not None:
        at = at.tb_next
    if isinstance(error, SyntaxError) and error.filename:
        return f"{error.filename.rpartition('/')[2]}:{error.lineno}"
    return f"{at.tb_frame.f_globals.get('__name__')}:{at.tb_lineno}" if at else "?"


def _no_attribute(found: Any, part: str) -> str:
    known = [name for name in dir(found) if not name.startswith("_")]
    close = get_close_matches(part, known, n=1)
    hint = f"did you mean {close[0]}?" if close else "it has " + (", ".join(known[:8]) or "none")
    return f"{getattr(found, '__name__', 'it')} has no attribute {part}: {hint}"


def _model(model: str, instructions: str, environ: Mapping[str, str]) -> Any:
    provider, colon, name = model.partition(":")
    if provider != _PROVIDER or not colon or not name:
        raise ConfigError("model", model, f"write {_PROVIDER}:NAME, the name being the provider's")
    key = environ.get("OPENAI_API_KEY", "")
    if not key:
        raise ConfigError(
            "OPENAI_API_KEY",
            key,
            "the model's provider asks for a key: set this variable, to any word if yours asks "
            "for none",
        )
    from pool.agents.chat import chat

    base_url = environ.get("OPENAI_BASE_URL") or None
    return chat(model=model, instructions=instructions, api_key=key, base_url=base_url)
