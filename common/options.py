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
import contextlib
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
from functools import partial, reduce
from pathlib import Path
from typing import Annotated, Any, Literal, NoReturn, Union, get_args, get_origin, get_type_hints

import docstring_parser
import yaml
from jsonargparse import ArgumentParser, Namespace, get_loader, set_loader

from common.configs import find_config, load_yaml, read_yaml
from common.errors import UserError, nearest, run_script

REQUIRED: Any = MISSING
_SHELLS = ("bash", "zsh", "tcsh")
_OF_CLASSES = ("class_path", "init_args", "dict_kwargs")
_THEIR_LOADER = get_loader("yaml")


def _load_value(text: str) -> Any:
    """Read a value of the command line, or a file that a configuration names; aliases are counted before."""
    if "*" in text:
        load_yaml(text)
    return _THEIR_LOADER(text)


set_loader("yaml", _load_value, (yaml.YAMLError, ValueError, RecursionError))


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
            return f"above {self.low:.12g}" if self.low in self.without else f"of {self.low:.12g} or more"
        left, right = "(" if self.low in self.without else "[", ")" if self.high in self.without else "]"
        return f"in {left}{self.low:.12g}, {self.high:.12g}{right}"


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
    join: str | None = None
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
        classes: classes whose arguments are options, too, each below its name: `--data.workers`.
        plain: those of the classes that no instance is made of.
        linked: options whose value is also that of arguments of classes.
        shown_of: the arguments of a class that the help shows, where `--help_all` alone shows the others.
        first: configurations that are read before those of the command line.
    """

    name: str
    text: str
    options: type | Sequence[Option] = ()
    run: Callable[[Any], int | None] | None = None
    examples: str = ""
    config: tuple[str, ...] = ()
    commands: Sequence[Command] = ()
    passes_on: bool = False
    classes: Mapping[str, type] = field(default_factory=dict)
    plain: Sequence[str] = ()
    linked: Mapping[str, Sequence[str]] = field(default_factory=dict)
    shown_of: Mapping[str, Sequence[str]] = field(default_factory=dict)
    first: Sequence[str] = ()


@dataclass(frozen=True)
class Parsed:
    """What a command line comes to.

    `options` is an instance of the command's dataclass, a dictionary, or for a command with classes a namespace, of
    which `parser` makes instances and YAML. `given` has the values that the command line itself gave, by name.
    """

    command: Command
    options: Any
    given: Mapping[str, Any]
    rest: Sequence[str]
    parser: Parser


def option(
    default: Any = REQUIRED,
    *,
    positional: bool = False,
    repeat: bool = False,
    metavar: str | None = None,
    shown_default: str | None = None,
    in_config: bool = True,
    join: str | None = None,
    read: Callable[[list[str]], Any] | None = None,
    check: Callable[[Any], Any] | None = None,
) -> Any:
    """Declares a field that is more than a plain option.

    Args:
        default: its value where none is given; lists and dictionaries are copied.
        positional: given without its name.
        repeat: a list whose option is given once for each item.
        metavar: what stands for the value in the help.
        shown_default: what the help says of the default, where the value does not.
        in_config: whether a configuration may set it.
        join: what stands between the values of several configurations, of which otherwise the last one wins.
        read: turns the command line's words into the value.
        check: turns a value, also a configuration's, into the one that is used, or raises `UserError`.
    """
    metadata = {"positional": positional, "repeat": repeat, "metavar": metavar}
    metadata |= {"shown_default": shown_default, "in_config": in_config, "join": join, "read": read}
    metadata["check"] = check
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
    """Reads a command line, and the configurations that it names.

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
                build_tree(command, " ".join(path)).parse_args(["--help"])
            if not command.options:
                word = words[0] if words else "nothing"
                raise UserError(f"expected a command, found {word}; there are: {', '.join(names)}")
            break
        if words[0] not in names:
            if command.options:
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
    if command.classes:  # links need their sources from the beginning
        found = Namespace({key: one.default for key, one in parser.declared.items() if not one.join})
    for name in names:
        found = parser.add_config(find_config(name, command.config), found)
    if command.classes:
        return Parsed(command, parser.read_over(words, found), {}, rest, parser)
    given = parser.read_words(words)
    return Parsed(command, _result(command, parser, {**vars(found), **given}), given, rest, parser)


def run(command: Command, words: Sequence[str] | None = None) -> int:
    """Parse a command line and run what it means; return the exit code.

    Raises:
        UserError: as `parse`, and from the command itself.
    """
    parsed = parse(command, words)
    return (parsed.command.run(parsed.options) if parsed.command.run else None) or 0


def main(command: Command) -> NoReturn:
    """Run this process's command line, and exit as `run_script` says."""
    run_script(partial(run, command))


class Parser(ArgumentParser):
    """jsonargparse's parser with our help, our messages, and configurations by name."""

    def __init__(self, *arguments: Any, declared: Sequence[Option] = (), joint: str = "-", **keywords: Any) -> None:
        """Takes what `ArgumentParser` takes; `declared` become its options, `joint` joins the words of their names."""
        keywords |= {"formatter_class": Help, "allow_abbrev": False, "print_config": None}
        super().__init__(*arguments, **keywords)
        self.declared = {one.name.replace("-", "_"): one for one in declared}
        groups: dict[str, Any] = {}
        for one in declared:
            title = one.group or "options"
            groups[title] = groups.get(title) or self.add_argument_group(title)
            _add(groups[title], one, joint)
        self.check_types()

    def check_types(self) -> None:
        """Makes every option say in our words what is wrong with its value; call it once more after adding some."""
        for action in self._actions:
            if hasattr(action, "_typehint") and not hasattr(action, "_is_checked"):
                action._check_type_ = _checked(action, action._check_type_)
                action._is_checked = True

    def add_class_arguments(self, *arguments: Any, **keywords: Any) -> list[str]:
        """Adds a class's arguments, with our messages; also those of a class that an option's value names."""
        added = super().add_class_arguments(*arguments, **keywords)
        self.check_types()
        return added

    def names(self) -> dict[str, Any]:
        """Every option's dotted name, with its type."""
        without = {"help", "help_all", "debug", "print_completion", *self.groups}
        return {
            action.dest: getattr(action, "_typehint", None)
            for action in self._actions
            if action.dest not in without and not action.dest.endswith(".help")
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
        """Reads a configuration over what was found so far, and says so.

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
                if name in self.groups and not isinstance(value, Mapping | str):
                    raise UserError(f"{name} is {value!r}, expected a mapping of its options")
                if one and not one.in_config:
                    raise UserError(f"{name} is given on the command line, not in a configuration")
                if one and one.join and name in found and isinstance(value, str):
                    content[name] = f"{found[name]}{one.join}{value}"
                elif one and one.check:
                    content[name] = one.check(value)
                elif one and _is_flag(one.hint) and not isinstance(value, bool):
                    raise UserError(f"{name} is {value!r}, expected true or false")
                elif one and value is None and type(None) not in get_args(one.hint):
                    raise UserError(f"{name} is null, expected {expected(one.hint)}")
                elif one and (one.repeat or _items(one.hint)) and not isinstance(value, list):
                    raise UserError(f"{name} is {value!r}, expected {expected(one.hint)}")
            return self.parse_object(content, found, defaults=False)
        except UserError as error:
            raise UserError(f"{path}: {error}") from None

    def read_over(self, words: Sequence[str], found: Namespace) -> Namespace:
        """Everything that the options come to: the command line over the configurations over the defaults."""
        for name, one in self.declared.items():
            if name not in found and one.default is not REQUIRED:
                found[name] = one.default
        whole = self.parse_args(self.known(words), found)
        for name, one in self.declared.items():
            if one.read and whole[name] is not found[name]:
                whole[name] = one.read(whole[name])
            if one.check:
                whole[name] = one.check(whole[name])
        return whole

    def instantiate_classes(self, cfg: Any, **keywords: Any) -> Any:
        """Makes the classes' instances.

        Raises:
            UserError: from a constructor, as it was raised there.
        """
        try:
            return super().instantiate_classes(cfg, **keywords)
        except ValueError as error:
            raise _cause(error) or error from None

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
                dotted = name[2:].rstrip("+")
                if dotted.replace("-", "_") in flags:
                    word = flags[dotted.replace("-", "_")] + "+" * name.endswith("+") + equals + value
                else:
                    self.check_name(dotted, "--")
            result.append(word)
        return result

    def check_name(self, name: str, dashes: str = "") -> None:
        """Refuses a dotted name that is no option, and no part of one whose value has named parts.

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
        if group == name:
            return  # of a wrong kind, as its check will say
        if group and not dashes:
            inside = [option.partition(".")[2] for option in options if option.startswith(f"{group}.")]
            raise UserError(f"{group} has no option {parts[1]!r}{nearest('.'.join(parts[1:]), inside)}")
        near = {option: option for option in options} | {option.partition(".")[0]: option for option in options}
        shown = [option.replace("_", "-") if dashes and option in self.declared else option for option in near]
        written = name.replace("_", "-") if dashes and "." not in name and self.declared else name
        close = difflib.get_close_matches(written, shown, n=1, cutoff=0.6)
        hint = f", did you mean '{dashes}{close[0]}'?" if close else "."
        raise UserError(f"no option '{dashes}{written}'{hint} See {self.prog} --help")


def build(command: Command, prog: str | None = None) -> Parser:
    """Make a command's parser."""
    prog = prog or command.name
    declared = command.options if isinstance(command.options, Sequence) else options_of(command.options)
    places = [_shown_positional(one) for one in declared if one.positional]
    usage = " ".join([prog, *places, *["COMMAND ..."] * bool(command.commands and not places), "[--OPTION VALUE ...]"])
    examples = f"examples:\n{inspect.cleandoc(command.examples)}" if command.examples else None
    examples = examples and "\n".join(line if line == "examples:" else f"  {line}" for line in examples.splitlines())
    joint = "_" if command.classes else "-"
    keywords = {"description": command.text, "epilog": examples, "usage": usage}
    parser = Parser(prog=prog, add_help=False, declared=declared, joint=joint, **keywords)
    if command.classes:
        _add_classes(parser, command)
    own = parser.add_argument_group("this program")
    if command.config:
        where = " and ".join(f"configs/{name}/" for name in command.config)
        own.add_argument(
            "-c", "--config", action="append", default=argparse.SUPPRESS, metavar="NAME",
            help=f"a configuration, by path or by its name in {where}; repeatable, later ones win",
        )  # fmt: skip
    own.add_argument("-h", "--help", action="help", help="show this help and exit")
    if command.shown_of:
        own.add_argument("--help_all", action="help", help=f"also every option of the {', '.join(command.shown_of)}")
    own.add_argument(
        "--debug", action="store_true", default=argparse.SUPPRESS, help="show an error's traceback, not its message"
    )
    own.add_argument(
        "--print-completion", choices=_SHELLS, default=argparse.SUPPRESS,
        help="print what makes a shell complete this program's options",
    )  # fmt: skip
    return parser


def build_tree(command: Command, prog: str | None = None, parser: Parser | None = None) -> Parser:
    """Make a command's parser with those of its subcommands below it, for the help and for completion."""
    prog, parser = prog or command.name, parser or build(command, prog)
    if command.commands:
        commands = parser.add_subcommands(required=False, title="commands", description="", metavar="COMMAND")
        for sub in command.commands:  # jsonargparse wants a level whole before the next one
            child = build(sub, f"{prog} {sub.name}")
            commands.add_subcommand(sub.name, child, help=sub.text.partition("\n")[0])
            build_tree(sub, f"{prog} {sub.name}", child)
    return parser


def _add_classes(parser: Parser, command: Command) -> None:
    """Adds the options that are arguments of classes, with the first configurations' values as their defaults."""
    for name, kind in command.classes.items():
        plain = name in command.plain
        parser.add_class_arguments(kind, name, instantiate=not plain, fail_untyped=False, sub_configs=True)
    for source, targets in command.linked.items():
        for target in targets:
            parser.link_arguments(source, target)
    for file in command.first:
        content = read_yaml(Path(file))
        for name in _dotted(content, parser.names()):
            if name not in parser.declared:
                parser.set_defaults({name: reduce(lambda inner, part: inner[part], name.split("."), content)})
    for group in parser._action_groups:
        for action in group._group_actions:
            of, _, name = action.dest.partition(".")
            hidden = of in command.shown_of and name not in command.shown_of[of] and "--help_all" not in sys.argv
            linked = any(action.dest.endswith(target) for targets in command.linked.values() for target in targets)
            action.is_hidden = hidden or linked or action.dest in command.classes or name.endswith("help")
            if of in command.classes and group.title != of:
                group.title, group.description = of, group.title


class Help(argparse.RawDescriptionHelpFormatter):
    """Examples as they were written, options in columns as wide as the terminal allows, up to 120."""

    def __init__(self, prog: str, **_: Any) -> None:
        super().__init__(prog, max_help_position=32, width=min(120, max(60, shutil.get_terminal_size().columns)))

    def add_argument(self, action: argparse.Action) -> None:
        """Leaves out what is hidden, and shows the parts of a dataclass below it."""
        if getattr(action, "is_hidden", False):
            return
        super().add_argument(action)
        kind = _bare(getattr(action, "_typehint", None))
        if dataclasses.is_dataclass(kind):
            for one in options_of(kind):
                part = argparse.Action(
                    [f"--{action.dest}.{one.name}"], one.name, metavar=short(one.hint), help=one.text
                )
                part.shown_default = _yaml(one.default)
                super().add_argument(part)

    def _get_default_metavar_for_optional(self, action: argparse.Action) -> str:
        return short(getattr(action, "_typehint", str))

    def _format_action_invocation(self, action: argparse.Action) -> str:
        if not action.option_strings or action.nargs == 0:
            return super()._format_action_invocation(action)
        flags = ", ".join(flag for flag in action.option_strings if not flag.endswith("+"))
        metavar = self._get_default_metavar_for_optional(action)
        return f"{flags} {self._format_args(action, metavar)}"

    def _expand_help(self, action: argparse.Action) -> str:
        text = (action.help or "").replace("`", "").rstrip(".")
        default = getattr(action, "shown_default", None)
        if default is None and hasattr(action, "_typehint") and action.default is not argparse.SUPPRESS:
            default = _yaml(action.default)
        return f"{text} (default: {default})" if default else text


def short(hint: Any) -> str:
    """What stands for a value of this type in the help, such as `N` or `a|b`."""
    hint = _bare(hint)
    if get_origin(hint) is Literal:
        return "|".join(map(str, get_args(hint)))
    if _is_union(hint):
        several = "|".join(dict.fromkeys(short(one) for one in get_args(hint) if one is not type(None)))
        return several if len(several) < 40 else "CHOICE"
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
    return _yaml(value)


def _yaml(value: Any) -> str:
    """A value as in a configuration; empty for none."""
    if value is None or value is REQUIRED or value in ([], {}):
        return ""
    try:
        return yaml.safe_dump(value, default_flow_style=True, width=10_000).split("\n")[0].replace("1.0e-", "1e-")
    except yaml.YAMLError:
        return str(value)


def expected(hint: Any) -> str:
    """A type in words, for messages."""
    bounds = _range(hint) or Range()
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
    if names := _named_classes(hint):
        return f"one of {', '.join(names)}"
    words = {int: "a whole number", float: "a number", str: "text", bool: "true or false", Path: "a path"}
    words |= {type(None): "null", Any: "any value"}
    return f"{words.get(kind, getattr(kind, '__name__', str(kind)))} {bounds}".rstrip()


def _add(group: Any, one: Option, joint: str) -> None:
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
        action = group.add_argument(f"--{one.name.replace('_', joint)}", **keywords)
    action.whole_hint, action.has_own_check = one.hint, one.read is not None
    action.shown_default = shown(one.default) if one.shown_default is None else one.shown_default
    if one.default is REQUIRED and not one.positional:
        action.shown_default, action.help = None, f"{one.text.rstrip('.')} (required)"


def _checked(action: Any, inner: Callable[..., Any]) -> Callable[..., Any]:
    """An option's own check, with a message that names it, what was found and what was expected."""

    def check(value: Any, **keywords: Any) -> Any:
        hint, name = action._typehint, action.dest
        if getattr(action, "has_own_check", False):
            return value
        try:
            found = inner(value, **keywords)
        except (TypeError, ValueError, RecursionError, OverflowError) as error:
            if cause := _cause(error):  # of a part of the value
                raise UserError(f"{name}: {cause}") from None
            raise UserError(_wrong(name, value, getattr(action, "whole_hint", hint))) from None
        for number in _numbers(hint, found):
            raise UserError(_wrong(name, number, hint))
        return found

    return check


def _wrong(name: str, value: Any, hint: Any) -> str:
    if type(value).__name__ == "NestedArg":  # jsonargparse's, of `--name.part value`
        name, value = f"{name}.{value.key}", value.val
    found = repr(value) if len(repr(value)) < 200 else f"{repr(value)[:200]}..."
    choices = [str(word) for one in (hint, *get_args(hint)) if get_origin(one) is Literal for word in get_args(one)]
    choices += _named_classes(_bare(hint))
    return f"{name} is {found}, expected {expected(hint)}{nearest(str(value), choices)}"


def _numbers(hint: Any, value: Any) -> Iterator[Any]:
    """The numbers of a value that are out of range."""
    bounds = _range(hint)
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
            with contextlib.suppress(ValueError):  # a class in C tells none
                found |= {name for one in _derived(kind) for name in inspect.signature(one).parameters}
    return found or None


def _derived(kind: type) -> Iterable[type]:
    yield kind
    for one in kind.__subclasses__():
        yield from _derived(one)


def _named_classes(kind: Any) -> list[str]:
    """The names of the classes that an option can be, of an abstract one's; none for other types."""
    return (
        sorted(one.__name__ for one in _derived(kind) if not inspect.isabstract(one))
        if inspect.isabstract(kind)
        else []
    )


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
    parser = build_tree(command)
    parser._actions[:] = [action for action in parser._actions if not action.dest.endswith(".help")]
    print(shtab.complete(parser, shell[0]))
    sys.exit(0)


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


def _range(hint: Any) -> Range | None:
    """The bounds that a type's annotation sets, also within `| None`."""
    if _is_union(hint):
        others = [one for one in get_args(hint) if one is not type(None)]
        hint = others[0] if len(others) == 1 else hint
    return next((one for one in getattr(hint, "__metadata__", ()) if isinstance(one, Range)), None)


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
