"""From the settings of agents to the agents themselves: what they name is imported."""

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
from pool.guard.answers_config import AnswerCache
from pool.guard.screen import Screen
from protocol.command.models import Models
from protocol.screening import ScreenSettings
from protocol.settings import AgentSettings

_SPEC: Final = ("description", "min", "max", "limit", "limit_initial", "max_steps", "max_tokens")


def load(agents: Mapping[str, AgentSettings], environ: Mapping[str, str]) -> dict[str, AgentSpec]:
    """The agents, in order; `ConfigError` says which one cannot be had, and why."""
    models = Models(environ)
    return {name: _spec(name, agent, models) for name, agent in agents.items()}


def _spec(name: str, settings: AgentSettings, models: Models) -> AgentSpec:
    agent: Any
    if settings.model is not None:
        agent = models.agent(name, settings.model, settings)
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
        return replace(spec, **given, **_cache(settings, spec.cache))
    except ConfigError as mistake:
        option = f"agents.{name}.{mistake.option}"
        raise ConfigError(option, mistake.value, mistake.remedy) from None


def _cache(settings: AgentSettings, own: AnswerCache | None) -> dict[str, AnswerCache]:
    options = {name: getattr(settings, f"cache_{name}") for name in AnswerCache.__struct_fields__}
    given = {name: value for name, value in options.items() if value is not None}
    if not given:
        return {}
    if own is None and "ttl_s" not in given:
        remedy = "say how long answers are kept, in seconds; without it none are"
        raise ConfigError("cache_ttl_s", None, remedy)
    try:
        return {"cache": AnswerCache(**given) if own is None else replace(own, **given)}
    except ConfigError as mistake:
        raise ConfigError(f"cache_{mistake.option}", mistake.value, mistake.remedy) from None


def screen_of(settings: ScreenSettings) -> Screen | None:
    """What looks at inputs, if something is to; `ConfigError` if its classifier cannot be had."""
    if settings.config is None:
        return None
    if settings.classifier is None:
        return Screen(settings.config)
    classifier = _target("screen.classifier", settings.classifier)
    if not callable(classifier):
        remedy = "name an async function of the text that says how suspicious it is, from 0 to 1"
        raise ConfigError("screen.classifier", settings.classifier, remedy)
    return Screen(settings.config, classifier=classifier)


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
