"""The one way to declare, parse and explain options: typed dataclasses whose attributes have docstrings.

    @dataclass(frozen=True)
    class Decoding:
        '''Decoding.'''                                 # the first line is the group's title in the help

        beams: Annotated[int, Range(1)] = 1
        '''Hypotheses kept side by side; 1 is greedy.'''

    command = Command("evaluate.py", "Scores models.", Decoding, run, config=("evaluate",))
    main(command)                                       # parses, runs, exits

A field becomes the option `--beams`, the key `beams` of a configuration, a line of the help and a check, all from the
same declaration. A field without a default is required; see `option` for positionals and the like.

How a value is written follows from its type: `list[str]` takes several words, `tuple[str, str]` two, `bool` none,
`Literal["a", "b"]` one of them, a `dict` one word of YAML. `Annotated[float, Range(0, 1)]` bounds numbers, also inside
lists. A trailing underscore is no part of the option's name: the field `lambda_` is `--lambda`.

Configurations are read from left to right, then the command line: later values win, key by key.
"""

from __future__ import annotations

import argparse
import dataclasses
import difflib
import inspect
import math
import os
import shutil
import sys
import types
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import MISSING, dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, NoReturn, Union, get_args, get_origin, get_type_hints

import docstring_parser
import yaml
from jsonargparse import ArgumentParser, Namespace

from common.configs import find_config, read_yaml
from common.errors import UserError, nearest, run_script

REQUIRED: Any = MISSING
_SHELLS = ("bash", "zsh", "tcsh")
_OF_CLASSES = ("class_path", "init_args", "dict_kwargs")


@dataclass(frozen=True)
class Range:
    """The bounds of a number, both inclusive; `without` names values in between or at the ends that are excluded."""

    low: float = -math.inf
    high: float = math.inf
    without: tuple[float, ...] = ()

    def __contains__(self, value: float) -> bool:
        return abs(value) < math.inf and self.low <= value <= self.high and value not in self.without

    def __str__(self) -> str:
        if self.high == math.inf:
            if self.low == -math.inf:
                return ""
            return f"above {self.low:g}" if self.low in self.without else f"of {self.low:g} or more"
        left, right = "(" if self.low in self.without else "[", ")" if self.high in self.without else "]"
        return f"in {left}{self.low:g}, {self.high:g}{right}"


Count = Annotated[int, Range(1)]
"""A whole number of 1 or more."""


@dataclass(frozen=True)
class Option:
    """One option, as its declaration has it.

    `read` turns the command line's words for it into a value, and `check` a configuration's or the words' value into
    the one that is used; both raise `UserError`. Without them, the type decides.
    """

    name: str
    hint: Any
    default: Any = REQUIRED
    text: str = ""
    group: str = ""
    positional: bool = False
    repeat: bool = False
    metavar: str | None = None
    shown_default: str | None = None
    in_config: bool = True
    read: Callable[[list[str]], Any] | None = None
    check: Callable[[Any], Any] | None = None


@dataclass(frozen=True)
class Command:
    """What is typed, with its options or its subcommands.

    Args:
        name: the command's last word, such as `evaluate.py` or `ties`; `python -m scoring` for a module.
        text: what it does; its first line is the summary in the help of the command above it.
        options: a dataclass, of which `run` gets an instance; or single options, of which it gets a dictionary.
        run: what it does with them; returns an exit code, or None for 0.
        examples: lines for the end of the help.
        config: the folders of `configs/` in which `--config` looks a name up; empty for commands without `--config`.
        commands: subcommands, in the help's order.
        passes_on: every word behind the first positional is left as it is, in `Parsed.rest`.
    """

    name: str
    text: str
    options: type | Sequence[Option] = ()
    run: Callable[[Any], int | None] | None = None
    examples: str = ""
    config: tuple[str, ...] = ()
    commands: Sequence[Command] = ()
    passes_on: bool = False


@dataclass(frozen=True)
class Parsed:
    """What a command line comes to: `given` has the values that the command line itself gave, by name."""

    command: Command
    options: Any
    given: Mapping[str, Any]
    rest: Sequence[str] = ()


def option(
    default: Any = REQUIRED,
    *,
    positional: bool = False,
    repeat: bool = False,
    metavar: str | None = None,
    shown_default: str | None = None,
    in_config: bool = True,
) -> Any:
    """Declares a field that is more than a plain option.

    Args:
        default: its value where none is given; lists and dictionaries are copied.
        positional: given without its name.
        repeat: a list whose option is given once for each item.
        metavar: what stands for the value in the help.
        shown_default: what the help says of the default, where the value does not.
        in_config: whether a configuration may set it.
    """
    metadata = {"positional": positional, "repeat": repeat, "metavar": metavar}
    metadata |= {"shown_default": shown_default, "in_config": in_config}
    if isinstance(default, list | dict):
        return field(default_factory=lambda: type(default)(default), metadata=metadata)
    return field(default=default, metadata=metadata)


def options_of(source: Any, group: str = "") -> list[Option]:
    """Return the options that a dataclass's fields or a function's keyword-only parameters declare.

    A dataclass's group is the first line of the docstring of the class in which the field stands; a parameter's text is
    that of the function's `Args:`.
    """
    hints = get_type_hints(source, include_extras=True)
    if not isinstance(source, type):
        texts = {found.arg_name: found.description for found in docstring_parser.parse(source.__doc__ or "").params}
        parameters = [p for p in inspect.signature(source).parameters.values() if p.kind is p.KEYWORD_ONLY]
        return [
            Option(p.name.rstrip("_"), hints[p.name], _default(p.default), _line(texts.get(p.name)), group)
            for p in parameters
        ]
    texts, groups = {}, {}
    for kind in reversed(source.__mro__[:-1]):
        title = group or (inspect.getdoc(kind) or "").partition("\n")[0].rstrip(".")
        groups |= dict.fromkeys(vars(kind).get("__annotations__", {}), title)
        if "__annotations__" in vars(kind):
            texts |= {p.arg_name: p.description for p in docstring_parser.parse_from_object(kind).params}
    found = []
    for item in dataclasses.fields(source):
        default = item.default_factory() if item.default_factory is not MISSING else item.default
        name, text = item.name.rstrip("_"), _line(texts.get(item.name))
        found.append(Option(name, hints[item.name], default, text, groups[item.name], **item.metadata))
    return found


def parse(command: Command, words: Sequence[str] | None = None) -> Parsed:
    """Read a command line, and the configurations that it names.

    Raises:
        UserError: naming the option or the configuration's key, what was found, what was expected, the nearest name.
        SystemExit: behind the help.
    """
    words = list(sys.argv[1:] if words is None else words)
    top, path = command, [command.name]
    if "--print-completion" in words:
        _print_completion(command, words)
    while command.commands:
        names = {sub.name: sub for sub in command.commands}
        if not words or words[0].startswith("-"):
            if {"-h", "--help"} & set(words):
                build(command, " ".join(path)).parse_args(["--help"])
            if command.run is None:
                word = words[0] if words else "nothing"
                raise UserError(f"expected a command, found {word}; there are: {', '.join(names)}")
            break
        if words[0] not in names:
            if command.run is not None:
                break
            close = nearest(words[0], names)
            raise UserError(f"{' '.join(path)} has no command {words[0]!r}{close}; there are: {', '.join(names)}")
        command = names[words[0]]
        path.append(words.pop(0))
    del top
    parser = build(command, " ".join(path))
    rest: list[str] = []
    if command.passes_on and not {"-h", "--help"} & set(words[:1]):
        words, rest = words[:1], words[1:]
    names, words = parser.split_configs(words)
    found = Namespace()
    for name in names:
        found = parser.add_config(find_config(name, command.config), found)
    given = parser.read_words(words)
    return Parsed(command, _result(command, parser, {**vars(found), **parser.unparsed, **given}), given, rest)


def main(command: Command, words: Sequence[str] | None = None) -> NoReturn:
    """Parse the command line, runs the command, and exits as `run_script` says."""

    def run() -> int | None:
        parsed = parse(command, words)
        return parsed.command.run(parsed.options) if parsed.command.run else None

    run_script(run)


class Parser(ArgumentParser):
    """jsonargparse's parser with our help, our messages, and configurations by name."""

    def __init__(self, *arguments: Any, declared: Sequence[Option] = (), **keywords: Any) -> None:
        """Takes what `ArgumentParser` takes; `declared` become its options."""
        super().__init__(*arguments, formatter_class=Help, allow_abbrev=False, print_config=None, **keywords)
        self.declared = {one.name.replace("-", "_"): one for one in declared}
        self.unparsed: dict[str, Any] = {}
        groups: dict[str, Any] = {}
        for one in declared:
            title = one.group or "options"
            groups[title] = groups.get(title) or self.add_argument_group(title)
            _add(groups[title], one)
        self.check_types()

    def check_types(self) -> None:
        """Makes every option say in our words what is wrong with its value; call it once more after adding some."""
        for action in self._actions:
            if hasattr(action, "_typehint") and not hasattr(action, "_is_checked"):
                action._check_type_ = _checked(action, action._check_type_)
                action._is_checked = True

    def names(self) -> dict[str, Any]:
        """Every option's dotted name, with its type."""
        return {
            action.dest: getattr(action, "_typehint", None)
            for action in self._actions
            if not action.dest.endswith("help") and action.dest not in ("debug", "print_completion")
        }

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Raises instead of printing the usage.

        Raises:
            UserError: always.
        """
        raise _cause(ex) or UserError(message) from None

    def split_configs(self, words: Sequence[str]) -> tuple[list[str], list[str]]:
        """The configurations that a command line names, and its other words."""
        configs, others, words = [], [], list(words)
        if "config" not in self.names():
            return [], words
        while words:
            word = words.pop(0)
            if word in ("-c", "--config"):
                if not words:
                    raise UserError(f"{word} takes a configuration's name or path")
                configs.append(words.pop(0))
            elif word.startswith("--config="):
                configs.append(word.partition("=")[2])
            else:
                others.append(word)
        return configs, others

    def add_config(self, path: Path, found: Namespace) -> Namespace:
        """Read a configuration over what was found so far, and says so.

        Raises:
            UserError: naming the file, the key and what is wrong.
        """
        content = read_yaml(path)
        if os.environ.get("RANK", "0") == "0" and os.environ.get("LOCAL_RANK", "0") == "0":
            shown_path = path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
            print(f"config: {shown_path}", file=sys.stderr)
        try:
            for name in _dotted(content, self.names()):
                self.check_name(name)
            for name, value in content.items():
                one = self.declared.get(name)
                if one and not one.in_config:
                    raise UserError(f"{name} is given on the command line, not in a configuration")
                if one and one.check:
                    content[name] = one.check(value)
                elif one and _is_flag(one.hint) and not isinstance(value, bool):
                    raise UserError(f"{name} is {value!r}, expected true or false")
                elif one and (one.repeat or _items(one.hint)) and not isinstance(value, list):
                    raise UserError(f"{name} is {value!r}, expected {expected(one.hint)}")
            # What has a reader of its own has a type that only its check knows.
            self.unparsed |= {
                name: content.pop(name) for name, one in self.declared.items() if one.read and name in content
            }
            return self.parse_object(content, found, defaults=False)
        except UserError as error:
            raise UserError(f"{path}: {error}") from None

    def read_words(self, words: Sequence[str]) -> dict[str, Any]:
        """The values that a command line gives, by name."""
        found = vars(self.parse_args(self.known(words), defaults=False))
        given = {name: value for name, value in found.items() if value is not None and value != []}
        for name, one in self.declared.items():
            if name in given and (one.read or one.check):
                value = one.read(given[name]) if one.read else given[name]
                given[name] = one.check(value) if one.check else value
        return given

    def known(self, words: Sequence[str]) -> list[str]:
        """The words, once each option's name is known; `-` and `_` within a name are the same.

        Raises:
            UserError: with the nearest right name.
        """
        flags = {flag.lstrip("-").replace("-", "_"): flag for action in self._actions for flag in action.option_strings}
        result = []
        for place, word in enumerate(words):
            if word == "--":
                return [*result, *words[place:]]
            name, equals, value = word.partition("=")
            if name.startswith("--"):
                dotted = name[2:].rstrip("+").replace("-", "_")
                if dotted not in flags:
                    self.check_name(dotted, "--")
                word = flags.get(dotted, f"--{dotted}") + "+" * name.endswith("+") + equals + value
            result.append(word)
        return result

    def check_name(self, name: str, dashes: str = "") -> None:
        """Refuse a dotted name that is no option, and no part of one whose value has named parts.

        Raises:
            UserError: with the nearest right name.
        """
        options = self.names()
        parts = name.split(".")
        for cut in range(len(parts), 0, -1):
            prefix = ".".join(parts[:cut])
            if prefix in options:
                rest = [part for part in parts[cut:] if part not in _OF_CLASSES]
                inside = _parts(options[prefix])
                if rest and inside is not None and rest[0] not in inside:
                    raise UserError(f"{prefix} has no option {rest[0]!r}{nearest(rest[0], inside)}")
                if dashes and self.declared.get(prefix) and self.declared[prefix].positional:
                    raise UserError(f"{prefix} is given without its name; see {self.prog} --help")
                return
        group = next((parts[0] for option in options if option.startswith(f"{parts[0]}.")), None)
        if group and not dashes:
            inside = [option.partition(".")[2] for option in options if option.startswith(f"{group}.")]
            raise UserError(f"{group} has no option {parts[1]!r}{nearest('.'.join(parts[1:]), inside)}")
        near = {option: option for option in options} | {option.partition(".")[0]: option for option in options}
        shown = [option.replace("_", "-") if dashes and option in self.declared else option for option in near]
        written = name.replace("_", "-") if dashes and "." not in name and self.declared else name
        close = difflib.get_close_matches(written, shown, n=1, cutoff=0.6)
        hint = f", did you mean {dashes}{close[0]}?" if close else ""
        raise UserError(f"no option {dashes}{written}{hint} See {self.prog} --help")


def build(command: Command, prog: str | None = None, *, nested: bool = True) -> Parser:
    """Makes a command's parser, with those of its subcommands."""
    prog = prog or command.name
    declared = command.options if isinstance(command.options, Sequence) else options_of(command.options)
    places = [_shown_positional(one) for one in declared if one.positional]
    usage = " ".join([prog, *places, *["COMMAND ..."] * bool(command.commands and not places), "[--OPTION VALUE ...]"])
    examples = f"examples:\n{inspect.cleandoc(command.examples)}" if command.examples else None
    examples = examples and "\n".join(line if line == "examples:" else f"  {line}" for line in examples.splitlines())
    parser = Parser(prog=prog, description=command.text, epilog=examples, usage=usage, declared=declared)
    own = parser.add_argument_group("this program")
    if command.config:
        where = " and ".join(f"configs/{name}/" for name in command.config)
        own.add_argument(
            "-c", "--config", action="append", default=argparse.SUPPRESS, metavar="NAME",
            help=f"a configuration, by path or by its name in {where}; repeatable, later ones win",
        )  # fmt: skip
    own.add_argument(
        "--debug", action="store_true", default=argparse.SUPPRESS, help="show an error's traceback, not its message"
    )
    own.add_argument(
        "--print-completion", choices=_SHELLS, default=argparse.SUPPRESS,
        help="print what makes a shell complete this program's options",
    )  # fmt: skip
    if nested:
        _nest(parser, command, prog)
    return parser


def _nest(parser: Parser, command: Command, prog: str) -> None:
    """Add the subcommands, and theirs only then: jsonargparse takes them level by level."""
    if not command.commands:
        return
    commands = parser.add_subcommands(required=False, title="commands", description="", metavar="COMMAND")
    subs = {sub.name: build(sub, f"{prog} {sub.name}", nested=False) for sub in command.commands}
    for sub in command.commands:
        commands.add_subcommand(sub.name, subs[sub.name], help=sub.text.partition("\n")[0])
    for sub in command.commands:
        _nest(subs[sub.name], sub, f"{prog} {sub.name}")


class Help(argparse.RawDescriptionHelpFormatter):
    """Examples as they were written, options in columns as wide as the terminal allows, up to 120."""

    def __init__(self, prog: str, **_: Any) -> None:
        super().__init__(prog, max_help_position=32, width=min(120, max(60, shutil.get_terminal_size().columns)))

    def _get_default_metavar_for_optional(self, action: argparse.Action) -> str:
        return short(getattr(action, "_typehint", str))

    def _format_action_invocation(self, action: argparse.Action) -> str:
        if len(action.option_strings) > 1 and action.nargs != 0:  # `-c, --config NAME`: the value once
            return f"{', '.join(action.option_strings)} {self._format_args(action, action.dest.upper())}"
        return super()._format_action_invocation(action)

    def _expand_help(self, action: argparse.Action) -> str:
        if "%(" in (action.help or ""):
            return super()._expand_help(action)
        text = (action.help or "").replace("`", "").rstrip(".")
        default = getattr(action, "shown_default", None)
        if default is None and hasattr(action, "_typehint") and action.default is not argparse.SUPPRESS:
            default = shown(action.default)
        return f"{text} (default: {default})" if default else text


def short(hint: Any) -> str:
    """What stands for a value of this type in the help, such as `N` or `a|b`."""
    hint = _bare(hint)
    if get_origin(hint) is Literal:
        return "|".join(map(str, get_args(hint)))
    if _is_union(hint):
        return "|".join(dict.fromkeys(short(one) for one in get_args(hint) if one is not type(None)))
    names = {int: "N", float: "X", str: "TEXT", bool: "true|false", Path: "PATH", dict: "MAPPING"}
    kind = get_origin(hint) or hint
    if kind in (list, tuple, Sequence):
        return short(get_args(hint)[0]) if get_args(hint) else "LIST"
    return names.get(kind, getattr(kind, "__name__", str(kind)).upper())


def shown(value: Any) -> str:
    """A default in the help, written as on the command line; empty for none."""
    if value is None or value is REQUIRED or value == [] or value == {} or value is False:
        return ""
    if isinstance(value, list | tuple) and all(isinstance(one, str | int | float | Path) for one in value):
        return " ".join(map(str, value))
    if isinstance(value, str | Path):
        return str(value)
    return yaml.safe_dump(value, default_flow_style=True, width=10_000).split("\n")[0]


def expected(hint: Any) -> str:
    """A type in words, for messages."""
    bounds = next((one for one in getattr(hint, "__metadata__", ()) if isinstance(one, Range)), Range())
    hint = _bare(hint)
    if get_origin(hint) is Literal:
        return f"one of {', '.join(map(str, get_args(hint)))}"
    if _is_union(hint):
        return " or ".join(expected(one) for one in get_args(hint))
    kind, inside = get_origin(hint) or hint, get_args(hint)
    if kind in (list, Sequence, tuple):
        if kind is tuple and inside and Ellipsis not in inside:
            return f"{len(inside)} values: {', '.join(map(expected, inside))}"
        return f"a list of {expected(inside[0])}" if inside else "a list"
    if kind in (dict, Mapping):
        return f"a mapping of {expected(inside[0])} to {expected(inside[1])}" if inside else "a mapping"
    words = {int: "a whole number", float: "a number", str: "text", bool: "true or false", Path: "a path"}
    words |= {type(None): "null", Any: "any value"}
    return f"{words.get(kind, getattr(kind, '__name__', str(kind)))} {bounds}".rstrip()


def _add(group: Any, one: Option) -> None:
    keywords: dict[str, Any] = {"help": one.text or " ", "default": argparse.SUPPRESS}
    items = _items(one.hint)
    if one.read:
        keywords |= {"type": str, "nargs": "+"}
    elif _is_flag(one.hint) and one.default is not True:
        keywords |= {"action": "store_true"}
    elif items:
        fixed = get_origin(_bare(one.hint)) is tuple and Ellipsis not in get_args(_bare(one.hint))
        count = len(get_args(_bare(one.hint))) if fixed else "+"
        keywords |= {"type": items} | ({"action": "append"} if one.repeat else {"nargs": count})
    else:
        keywords |= {"type": one.hint}
    if one.metavar and "type" in keywords:
        keywords["metavar"] = (
            (one.metavar,) * keywords["nargs"] if isinstance(keywords.get("nargs"), int) else one.metavar
        )
    if one.positional:
        keywords |= {"nargs": "*" if items else "?"}
        keywords.setdefault("metavar", one.name.upper())
        action = group.add_argument(one.name, **keywords)
    else:
        action = group.add_argument(f"--{one.name.replace('_', '-')}", **keywords)
    action.shown_default = shown(one.default) if one.shown_default is None else one.shown_default
    if one.default is REQUIRED and not one.positional:
        action.shown_default, action.help = None, f"{one.text} (required)"


def _checked(action: Any, inner: Callable[..., Any]) -> Callable[..., Any]:
    """An option's own check, with a message that names it, what was found and what was expected."""

    def check(value: Any, **keywords: Any) -> Any:
        hint, name = action._typehint, action.dest
        try:
            found = inner(value, **keywords)
        except (TypeError, ValueError, RecursionError, OverflowError) as error:
            raise _cause(error) or UserError(_wrong(name, value, hint)) from error
        for number in _numbers(hint, found):
            raise UserError(_wrong(name, number, hint))
        return found

    return check


def _wrong(name: str, value: Any, hint: Any) -> str:
    if type(value).__name__ == "NestedArg":  # jsonargparse's, of `--name.part value`
        return f"{name}.{value.key} is {value.val!r}, which is no value for it"
    found = repr(value) if len(repr(value)) < 200 else f"{repr(value)[:200]}..."
    choices = [str(word) for one in (hint, *get_args(hint)) if get_origin(one) is Literal for word in get_args(one)]
    return f"{name} is {found}, expected {expected(hint)}{nearest(str(value), choices)}"


def _numbers(hint: Any, value: Any) -> Iterator[Any]:
    """The numbers of a value that are out of range."""
    bounds = next((one for one in getattr(hint, "__metadata__", ()) if isinstance(one, Range)), None)
    if isinstance(value, list | tuple):
        inside = get_args(_bare(hint))
        for place, one in enumerate(value):
            part = inside[min(place, len(inside) - 1)] if inside and not bounds else hint
            yield from _numbers(part if part is not Ellipsis else inside[0], one)
    elif _is_union(_bare(hint)):
        if isinstance(value, int | float) and not isinstance(value, bool):
            kinds = [one for one in get_args(_bare(hint)) if _bare(one) in (int, float)]
            if kinds and all(any(True for _ in _numbers(kind, value)) for kind in kinds):
                yield value
    elif isinstance(value, int | float) and (value != value or (bounds and value not in bounds)):
        yield value


def _cause(error: BaseException | None) -> UserError | None:
    """The message of ours that jsonargparse wrapped into its own."""
    while error is not None and not isinstance(error, UserError):
        error = error.__cause__ or error.__context__
    return error


def _dotted(content: Mapping[Any, Any], options: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """The dotted names of a configuration's keys, down to the options and the named parts of their values."""
    for key, value in content.items():
        name = f"{prefix}{key}"
        if name in options:
            inside = _parts(options[name]) is not None and isinstance(value, Mapping)
            parts = value.get("init_args") or {} if inside and "class_path" in value else value
            yield from (f"{name}.{part}" for part in parts) if inside and isinstance(parts, Mapping) else [name]
        elif isinstance(value, Mapping) and any(option.startswith(f"{name}.") for option in options):
            yield from _dotted(value, options, f"{name}.")
        else:
            yield name


def _parts(hint: Any) -> set[str] | None:
    """The names that a value's parts may have: of the classes in its type and of those derived from them."""
    found: set[str] = set()
    for kind in get_args(_bare(hint)) if _is_union(_bare(hint)) else (_bare(hint),):
        if get_origin(kind) is not None or kind in (dict, list, Any):
            return None
        if inspect.isclass(kind) and kind.__module__ not in ("builtins", "pathlib"):
            found |= {name for one in _derived(kind) for name in inspect.signature(one).parameters}
    return found or None


def _derived(kind: type) -> Iterable[type]:
    yield kind
    for one in kind.__subclasses__():
        yield from _derived(one)


def _result(command: Command, parser: Parser, values: Mapping[str, Any]) -> Any:
    """The options' dataclass, or a dictionary, with defaults where nothing was given."""
    complete = {}
    for name, one in parser.declared.items():
        complete[name] = values.get(name, one.default)
        if complete[name] is REQUIRED:
            what = one.metavar or one.name.upper() if one.positional else f"--{one.name.replace('_', '-')}"
            raise UserError(f"{what} is missing: {one.text.rstrip('.')}; see {parser.prog} --help")
        if get_origin(_bare(one.hint)) is tuple and isinstance(complete[name], list):
            complete[name] = tuple(complete[name])
    if isinstance(command.options, type):
        fields = [item.name for item in dataclasses.fields(command.options)]
        return command.options(**{name: complete[name.rstrip("_")] for name in fields})
    return complete


def _print_completion(command: Command, words: Sequence[str]) -> NoReturn:
    try:
        import shtab
    except ImportError as error:
        raise UserError(f"completion needs shtab ({error}): pip install -e '.[completion]'") from None
    shell = words[words.index("--print-completion") + 1 :][:1]
    if not shell or shell[0] not in _SHELLS:
        raise UserError(f"--print-completion takes one of {', '.join(_SHELLS)}")
    print(shtab.complete(build(command), shell[0]))
    sys.exit(0)


def finish(parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
    """Adds what every script has to a parser that is not made here."""
    group = parser.add_argument_group("this program")
    group.add_argument(
        "--debug", action="store_true", default=argparse.SUPPRESS, help="show an error's traceback, not its message"
    )
    group.add_argument(
        "--print-completion", action=_Completion, choices=_SHELLS, default=argparse.SUPPRESS, help="print completion"
    )
    return parser


class _Completion(argparse.Action):
    def __call__(self, parser: argparse.ArgumentParser, namespace: Any, values: Any, option_string: Any = None) -> None:
        import shtab

        print(shtab.complete(parser, str(values)))
        parser.exit(0)


def _default(value: Any) -> Any:
    return REQUIRED if value is inspect.Parameter.empty else value


def _line(text: str | None) -> str:
    return " ".join((text or "").split())


def _bare(hint: Any) -> Any:
    """A type without its annotations, and without `| None`."""
    while get_origin(hint) is Annotated:
        hint = get_args(hint)[0]
    if _is_union(hint):
        others = [one for one in get_args(hint) if one is not type(None)]
        if len(others) == 1:
            return _bare(others[0])
    return hint


def _is_union(hint: Any) -> bool:
    return get_origin(hint) in (Union, types.UnionType)


def _is_flag(hint: Any) -> bool:
    return _bare(hint) is bool


def _items(hint: Any) -> Any:
    """The type of a list's items; None for what is no list."""
    hint = _bare(hint)
    return get_args(hint)[0] if get_origin(hint) in (list, tuple) else None


def _shown_positional(one: Option) -> str:
    shown = one.metavar or one.name.upper()
    shown = f"{shown} ..." if _items(one.hint) else shown
    return shown if one.default is REQUIRED else f"[{shown}]"
