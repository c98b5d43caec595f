"""Short and full help: ``--help`` shows what you need first, ``--help-all`` every option."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Iterator, Sequence
from typing import Annotated, Any, get_args

import typer
from typer.models import OptionInfo

HELP_ALL = "help_all"
"""Name of the parameter; the command itself does not get it."""


def first_options(parameters: Sequence[inspect.Parameter], first: Sequence[str]) -> list[inspect.Parameter]:
    """The same parameters, of which ``--help`` shows the options named in `first`, in that order, and no others.

    The rest is hidden until ``--help-all``, which is added. Arguments stay as they are.
    """
    shown, rest = dict[str, inspect.Parameter](), list[inspect.Parameter]()
    for parameter in parameters:
        about = _option(parameter)
        if about is None:
            shown[parameter.name] = parameter
        elif parameter.name in first:
            shown[parameter.name] = _changed(parameter, about, rich_help_panel=None)
        else:
            rest.append(_changed(parameter, about, hidden=True))
    unknown = [name for name in first if name not in shown]
    if unknown:
        raise ValueError(f"no options of these names: {', '.join(unknown)}")
    arguments = [parameter for name, parameter in shown.items() if name not in first]
    option = typer.Option("--help-all", is_eager=True, callback=_print_all, help="Show every option and exit.")
    every = inspect.Parameter(
        HELP_ALL, inspect.Parameter.KEYWORD_ONLY, default=False, annotation=Annotated[bool, option]
    )
    return [*arguments, *(shown[name] for name in first), every, *rest]


def show_all(command: Any) -> None:
    """Let the help of a command, and of all below it, show every option that has a help text."""
    for one in _every(command):
        for parameter in one.params:
            if getattr(parameter, "help", None):  # earlier names of options have none, and stay hidden
                parameter.hidden = False


def _every(command: Any) -> Iterator[Any]:
    yield command
    for below in getattr(command, "commands", {}).values():
        yield from _every(below)


def _print_all(context: typer.Context, asked: bool) -> None:
    if asked:
        show_all(context.command)
        print(context.get_help())
        raise typer.Exit


def _option(parameter: inspect.Parameter) -> OptionInfo | None:
    return next((about for about in get_args(parameter.annotation)[1:] if isinstance(about, OptionInfo)), None)


def _changed(parameter: inspect.Parameter, about: OptionInfo, **changes: Any) -> inspect.Parameter:
    changed = copy.copy(about)
    for name, value in changes.items():
        setattr(changed, name, value)
    return parameter.replace(annotation=Annotated[get_args(parameter.annotation)[0], changed])
