"""Settings dataclasses as command-line options: one definition, its help text included."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from functools import partial, wraps
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin, get_type_hints

import typer
from rich.markup import escape
from typer.models import CommandFunctionType

from cytosae.cli.help import HELP_ALL, first_options
from cytosae.console import say
from cytosae.errors import CytosaeError
from cytosae.settings import PRESETS, TrainConfig, readable, stored_names
from cytosae.settings.yaml_files import read_settings_file
from cytosae.storage import StoredPath, resolve_path

Source = Annotated[
    Path,
    typer.Argument(
        help="CSV, Excel or Parquet table with a column 'path', a folder of images, or "
        "synthetic:patients=60,cells=40,seed=0."
    ),
]
Column = Annotated[
    list[str],
    typer.Option(
        "--column",
        metavar="KNOWN=YOURS",
        help="Which column of the table is a known one, such as label=cell_type; label= if there is none. Can be repeated.",
    ),
]
Strict = Annotated[
    bool, typer.Option("--strict", help="Stop with an error at an unreadable image instead of leaving it out.")
]
DropMissing = Annotated[
    bool,
    typer.Option("--drop-missing", help="Continue without cells of the last run that are gone."),
]
Workers = Annotated[
    int | None,
    typer.Option(
        "--workers",
        help="Processes that decode images, for each replica; one a core if left out, none with several replicas.",
    ),
]
Track = Annotated[list[str], typer.Option("--track", help="Also log to: tensorboard, wandb. Can be repeated.")]
CheckpointSeconds = Annotated[float, typer.Option(help="Time between two checkpoints of the training, in seconds.")]
Restart = Annotated[
    bool,
    typer.Option(
        "--restart",
        help="Train again if the existing autoencoder has other settings or cells; the old one moves to former/.",
    ),
]
Device = Annotated[str, typer.Option("--device", help="Where the backbone runs: auto, cpu, cuda, ...")]
Weights = Annotated[
    Path | None,
    typer.Option(
        "--weights", help="File or folder of the backbone's weights, if they lie elsewhere than for the study."
    ),
]
SettingsFile = Annotated[
    Path | None,
    typer.Option("--settings", help="YAML file of settings, as `cytosae init` writes it; options override it."),
]
NoStore = Annotated[bool, typer.Option("--no-store", help="Keep no tokens on disk: make them whenever they are read.")]


Remembered = Callable[[Mapping[str, Any]], Mapping[type, Mapping[str, Any]]]
"""From the plain options of a command to settings by class and name."""


def with_settings(
    command: Callable[..., Any] | None = None,
    *,
    remembered: Remembered | None = None,
    preset: str = "paper",
    first: Sequence[str] = (),
) -> Callable[..., Any]:
    """Replace every parameter whose type is a settings dataclass by one option per field.

    ``TrainConfig.learning_rate`` becomes ``--learning-rate`` with the field's default and help text; the command gets
    the finished dataclass. Beside the options of `TrainConfig` stands ``--preset``, which says what those left out are.
    Options that are left out, and not set by a ``--preset`` either, are what `remembered` says of them; where it says
    nothing of a training, they are those of `preset`. A command with a parameter ``settings_file`` takes a file whose
    values go before all of these, and behind options that are given. A setting of which the
    command has a parameter of the same name stays at its default. If `first` names options, ``--help`` shows these
    alone, and ``--help-all`` every one. A command with a parameter ``quick`` takes ``--quick`` for the preset of that name.
    """
    if command is None:
        return partial(with_settings, remembered=remembered, preset=preset, first=first)
    hints = get_type_hints(command, include_extras=True)
    plain: list[inspect.Parameter] = []
    groups: dict[str, type] = {}
    for name, parameter in inspect.signature(command).parameters.items():
        if is_dataclass(hints[name]):
            groups[name] = hints[name]
        else:
            plain.append(parameter.replace(annotation=hints[name], kind=inspect.Parameter.KEYWORD_ONLY))
    own = {parameter.name for parameter in plain}
    options = [option for settings in groups.values() for option in _options(settings, PRESETS[preset])]
    expanded = [option for option in options if option.name not in own]
    earlier = {old: name for settings in groups.values() for name, old in stored_names(settings).items() if name != old}
    if TrainConfig in groups.values():
        expanded += _preset_options(preset)
    parameters = first_options(plain + expanded, first) if first else plain + expanded

    @wraps(command)
    def wrapped(**given: Any) -> Any:
        given.pop(HELP_ALL, None)
        context, asked = given.pop("context", None), given.pop("preset", "paper")
        quick = given.get("quick", False)
        if quick and not _is_default(context, "preset"):
            raise CytosaeError(f"--quick and --preset {asked}: give one of the two.")
        renamed = {earlier[old]: given.pop(old) for old in earlier if not _is_default(context, old)}
        for old, name in earlier.items():
            given.pop(old, None)
            if name in renamed:
                say(f"{_flag(old)} is now called {_flag(name)}; the earlier name goes with the next release")
        chosen = {
            name: {spec.name: given.pop(spec.name) for spec in fields(settings) if spec.name not in own}
            for name, settings in groups.items()
        }
        known = remembered(given) if remembered else {}
        file = given.pop("settings_file", None)
        named, written = read_settings_file(file, groups.values()) if file else (None, {})
        preset_given = quick or named is not None or not _is_default(context, "preset")
        if quick:
            asked = "quick"
        elif named is not None and _is_default(context, "preset"):
            asked = named
        base = _preset(asked) if preset_given or TrainConfig not in known else TrainConfig()
        for name, settings in groups.items():
            values = chosen[name]
            values |= {key: value for key, value in renamed.items() if key in values}
            left_out = [key for key in values if key not in renamed and _is_default(context, key)]
            if settings is TrainConfig:
                values |= {key: getattr(base, key) for key in left_out}
            if settings is not TrainConfig or not preset_given:
                values |= {key: value for key, value in known.get(settings, {}).items() if key in left_out}
            values |= {key: value for key, value in written.get(settings, {}).items() if key in left_out}
            given[name] = settings(**values)
            if isinstance(given[name], TrainConfig) and "images" not in left_out:
                _say_rounded(given[name])
        return command(**given)

    del wrapped.__wrapped__  # or inspect would look through to the original
    wrapped.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    wrapped.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return wrapped


def _say_rounded(config: TrainConfig) -> None:
    """Say how many images a training sees where those that were asked for are no whole batches."""
    seen = config.steps * config.batch_images
    if seen != config.images:
        say(f"--images {config.images}: rounded up to {seen}, whole batches of {config.batch_images} images")


def study_settings(given: Mapping[str, Any]) -> Mapping[type, Mapping[str, Any]]:
    """The settings of the last run of the study that a command is given."""
    from cytosae.remembered import read_settings

    return read_settings(given["study"]).configs


def _options(settings: type, training: TrainConfig) -> list[inspect.Parameter]:
    hints = get_type_hints(settings)
    panel = (settings.__doc__ or settings.__name__).splitlines()[0].rstrip(".")
    parameters = []
    for spec in fields(settings):
        choices = spec.metadata["choices"]
        text = spec.metadata["help"]
        if choices and not all(choice in text for choice in choices):
            text += f" ({', '.join(choices)})"
        flag = _flag(spec.name)
        names = (f"{flag}/--no-{flag[2:]}",) if hints[spec.name] is bool else (flag,)
        default = getattr(training, spec.name) if settings is TrainConfig else spec.default
        shown = readable(settings, spec.name, default)
        option = typer.Option(
            *names, help=escape(text), rich_help_panel=panel, show_default=True if shown == str(default) else shown
        )
        parameters.append(
            inspect.Parameter(
                spec.name,
                inspect.Parameter.KEYWORD_ONLY,
                default=default,
                annotation=Annotated[hints[spec.name], option],
            )
        )
        if (earlier := spec.metadata["stored"]) is not None:
            option = typer.Option(_flag(earlier), hidden=True)
            annotation: Any = Annotated[hints[spec.name], option]
            parameters.append(parameters[-1].replace(name=earlier, annotation=annotation))
    return parameters


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def _preset_options(default: str) -> list[inspect.Parameter]:
    text = "Settings of the training that you do not give: 'recommended' did better than 'paper', see Choices of a training."
    option = typer.Option("--preset", help=f"{text} One of {', '.join(PRESETS)}.")
    kind = inspect.Parameter.KEYWORD_ONLY
    return [
        inspect.Parameter("preset", kind, default=default, annotation=Annotated[str, option]),
        inspect.Parameter("context", kind, annotation=typer.Context),
    ]


def _preset(name: str) -> TrainConfig:
    if name not in PRESETS:
        raise CytosaeError(f"--preset {name}: unknown; choose one of {', '.join(PRESETS)}.")
    return PRESETS[name]


def _is_default(context: Any, key: str) -> bool:
    source = None if context is None else context.get_parameter_source(key)
    return source is not None and source.name == "DEFAULT"


def with_ending(path: Path, *endings: str) -> Path:
    """A file to write, unless its name says that it is to be of another kind.

    Raises
    ------
    CytosaeError
        It ends otherwise.
    """
    if path.suffix.lower() not in endings:
        raise CytosaeError(
            f"--output {path}: this command writes {' or '.join(endings)}. Give the file such an ending."
        )
    return path


def figure_name(path: Path) -> Path:
    """The name of a figure without the ending, which is given to each of its formats."""
    return path.with_suffix("") if path.suffix.lower() in {".png", ".svg"} else path


class Commands(typer.Typer):
    """Commands whose files and folders may be URLs; with ``urls=False`` a URL is refused."""

    def __init__(self, *, urls: bool = True, **options: Any) -> None:
        super().__init__(**options)
        self._read_path = resolve_path if urls else _local

    def command(self, name: str | None = None, **options: Any) -> Callable[[CommandFunctionType], CommandFunctionType]:
        """As typer's, but `cytosae.storage.resolve_path` reads the paths: typer would remove the second slash of a URL."""
        register = super().command(name, **options)

        def registered(command: CommandFunctionType) -> CommandFunctionType:
            register(_with_paths(command, self._read_path))
            return command

        return registered


def _local(name: str) -> Path:
    path = resolve_path(name)
    if isinstance(path, StoredPath):
        raise CytosaeError(f"{path}: this command takes no URL. Give a local file or folder.")
    return path


def _with_paths(command: Callable[..., Any], read: Callable[[str], Path]) -> Callable[..., Any]:
    """Take every path as text from typer, and give it to the command as `read` understands it."""
    hints = get_type_hints(command, include_extras=True)
    parameters, paths = [], []
    for name, parameter in inspect.signature(command).parameters.items():
        base, *about = get_args(hints[name]) if get_origin(hints[name]) is Annotated else (hints[name],)
        if Path in {base, *get_args(base)}:
            paths.append(name)
            base = {Path: str, Path | None: str | None, list[Path]: list[str]}[base]
        default = str(parameter.default) if isinstance(parameter.default, Path) else parameter.default
        parameters.append(parameter.replace(annotation=Annotated[base, *about] if about else base, default=default))

    @wraps(command)
    def wrapped(**given: Any) -> Any:
        for name in paths:
            value = given[name]
            if value in ("", [""]):
                raise CytosaeError(
                    f"{_flag(name)}: the name is empty, as that of a variable that is not set. Give a path."
                )
            if value is not None:
                given[name] = [read(one) for one in value] if isinstance(value, list | tuple) else read(value)
        return command(**given)

    del wrapped.__wrapped__  # or inspect would look through to the original
    wrapped.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    wrapped.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return wrapped
