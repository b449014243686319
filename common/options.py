"""The one way to declare, parse and explain options: typed dataclasses whose attributes have docstrings.

    @dataclass(frozen=True)
    class Decoding:
        '''Decoding.'''                                 # the first line is the group's title in the help

        beams: Annotated[int, Range(1)] = 1
        '''Hypotheses kept side by side; 1 is greedy.'''

    command = Command("evaluate.py", "Scores models.", Decoding, run, config=("evaluate",))
    main(command)                                       # parses, runs, exits

A field becomes the option `--beams`, the key `beams` of a configuration, a line of the help and a check, all from the
same declaration. A field without a default is required; see `Option` for positionals and the like.

How a value is written follows from its type: `list[str]` takes several words, `tuple[str, str]` two, `bool` none,
`Literal["a", "b"]` one of them, a `dict` one word of YAML. A trailing underscore is no part of the option's name: the
field `lambda_` is `--lambda`.

Configurations are read from left to right, then the command line: later values win, key by key.
"""

from __future__ import annotations

import argparse
import dataclasses
import inspect
import json
import os
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import MISSING, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NoReturn, get_args, get_origin, get_type_hints

import docstring_parser
from jsonargparse import ArgumentParser, Namespace

from common.configs import find_config, read_yaml
from common.errors import UserError, nearest, run_script
from common.option_types import REQUIRED, bare, fits_range, items, metavar, mistake, shown
from common.printing import show, warn


@dataclass(frozen=True)
class Option:
    """One option, as its declaration has it.

    Attributes:
        name: without dashes, with `_` between words.
        hint: its type; with `Any`, the command line gives a list of words that the command reads itself.
        default: its value where none is given, or REQUIRED.
        text: what it is.
        group: the title above it in the help.
        positional: given without its name.
        metavar: what stands for the value in the help.
        shown_default: what the help says of the default, where the value does not.
        in_config: whether a configuration may set it.
        join: separator that joins the values of several configurations; without it, the last one wins.
    """

    name: str
    hint: Any
    default: Any
    text: str = ""
    group: str = "options"
    positional: bool = False
    metavar: str | None = None
    shown_default: str | None = None
    in_config: bool = True
    join: str | None = None


@dataclass(frozen=True)
class Command:
    """A command as the user types it, with its options or subcommands.

    Attributes:
        name: the command's last word, such as `evaluate.py` or `ties`; `python -m scoring` for a module.
        text: what it does, such as a script's docstring; its first line is the summary in the help of the command above
            it, its last paragraph examples if that begins with `python`.
        options: a dataclass, of which `run` gets an instance; or single options, of which it gets a dictionary.
        run: what it does with them; returns an exit code, or None for 0.
        examples: lines for the end of the help, where they are no part of the text.
        config: the folders of `configs/` in which `--config` looks a name up; empty for commands without `--config`.
        commands: subcommands, in the help's order.
        extend: adds classes to the parser, whose arguments are then options below the class's name: `--data.workers`.
    """

    name: str
    text: str
    options: type | Sequence[Option] = ()
    run: Callable[[Any], int | None] | None = None
    examples: str = ""
    config: tuple[str, ...] = ()
    commands: Sequence[Command] = ()
    extend: Callable[[Parser], None] | None = None


@dataclass(frozen=True)
class Parsed:
    """The result of parsing a command line.

    Attributes:
        command: the command or subcommand that is meant.
        options: an instance of its dataclass, or a dictionary; for an extended command a namespace, of which `parser`
            makes instances and YAML.
        given: the values that the command line itself gave, by name; empty for an extended command.
        parser: the command's.
    """

    command: Command
    options: Any
    given: Mapping[str, Any]
    parser: Parser


def option(default: Any = REQUIRED, **more: Any) -> Any:
    """Declare a field that is more than a plain option: `more` are attributes of `Option`."""
    if isinstance(default, list | dict):
        return field(default_factory=lambda: type(default)(default), metadata=more)
    return field(default=default, metadata=more)


def options_of(kind: type, group: str = "") -> list[Option]:
    """Return the options that a dataclass's fields declare.

    Args:
        kind: the dataclass; its fields' docstrings say what they are.
        group: the title above them; if empty, the first line of the docstring of the class in which a field stands.
    """
    hints, texts, groups = get_type_hints(kind, include_extras=True), {}, {}
    for one in reversed(kind.__mro__[:-1]):
        if fields := inspect.get_annotations(one):
            groups |= dict.fromkeys(fields, group or (inspect.getdoc(one) or "").partition("\n")[0].rstrip("."))
            described = docstring_parser.parse_from_object(one).params
            texts |= {found.arg_name: " ".join((found.description or "").split()) for found in described}
    return [
        Option(
            item.name.rstrip("_"),
            hints[item.name],
            item.default if item.default_factory is MISSING else item.default_factory(),
            texts.get(item.name, ""),
            groups[item.name],
            **item.metadata,
        )
        for item in dataclasses.fields(kind)
    ]


def parse(command: Command, words: Sequence[str] | None = None) -> Parsed:
    """Read a command line, and the configurations that it names.

    Raises:
        UserError: naming the option or the configuration's key, what was found, what was expected, the nearest name.
        SystemExit: after the help.
    """
    words = list(sys.argv[1:] if words is None else words)
    if words[-2:-1] == ["--print-completion"]:
        _print_completion(command, words[-1])
    command, words, parser = _subcommand(command, words)
    configs, words = _split_configs(words) if command.config else ([], words)
    found, earlier, joined = Namespace(), [], {}
    for name in configs:
        path = find_config(name, command.config)
        content = read_yaml(path)
        if {os.environ.get("RANK", "0"), os.environ.get("LOCAL_RANK", "0")} == {"0"}:
            warn(f"config: {path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path}")
        try:
            parser.check_content(content)
            for one in parser.declared.values():
                if one.join and one.name in content:
                    joined.setdefault(one.name, []).append(str(content[one.name]))
                    content[one.name] = one.join.join(joined[one.name])
            if command.extend:  # parts of classes can only be merged within one call
                values = _flat(content, parser.names())
                earlier += [
                    f"--{key}={one if isinstance(one, str) else json.dumps(one, default=str)}" for key, one in values
                ]
                parser.parse_args(earlier)
            else:
                found = parser.parse_object(content, found, defaults=False)
        except UserError as error:
            raise UserError(f"{path}: {error}") from None
    if command.extend:
        return Parsed(command, parser.parse_args([*earlier, *words]), {}, parser)
    given = vars(parser.parse_args(words, defaults=False))
    given = {name: value for name, value in given.items() if value is not None and value != []}
    return Parsed(command, _result(command, parser, {**vars(found), **given}), given, parser)


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
    """jsonargparse's parser with our help and messages; jsonargparse also makes one for each class that is named."""

    def __init__(self, *arguments: Any, **keywords: Any) -> None:
        """Take what `ArgumentParser` takes."""
        super().__init__(*arguments, **keywords, formatter_class=Help, allow_abbrev=False)
        self.declared: dict[str, Option] = {}
        self.of_class = ""

    def add_class_arguments(self, theclass: type, nested_key: str | None = None, **keywords: Any) -> list[str]:
        """Add a class's arguments, with our messages.

        Args:
            theclass: the class whose constructor's parameters become options.
            nested_key: the part of the configuration in which they stand.
            keywords: what jsonargparse's method of this name takes besides.
        """
        added = super().add_class_arguments(theclass, nested_key, **keywords)
        self.of_class = "" if nested_key else theclass.__name__
        self.check_types()
        return added

    def check_types(self) -> None:
        """Make every option report a wrong value with our message; to be called after adding options."""
        for action in self._actions:
            if hasattr(action, "_typehint") and not hasattr(action, "is_checked"):
                action._check_type_, action.is_checked = partial(_check, action, action._check_type_), True

    def names(self) -> set[str]:
        """Return every option's dotted name."""
        return {action.dest for action in self._actions if action.dest not in self.groups}

    def hide(self, names: Iterable[str]) -> None:
        """Leave options out of the help."""
        for action in self._actions:
            if action.dest in names:
                action.help = argparse.SUPPRESS

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Raise instead of printing the usage.

        Raises:
            UserError: always.
        """
        raise _cause(ex) or UserError(message) from None

    def parse_args(self, args: Sequence[str], *more: Any, **keywords: Any) -> Namespace:
        """Parse words after checking each option's name; `-` and `_` within a name are the same.

        Args:
            args: the command line's words.
            more: what jsonargparse's method of this name takes besides.
            keywords: likewise.
        """
        flags = {flag.replace("-", "_"): flag for action in self._actions for flag in action.option_strings}
        known = []
        for word in args:
            name, equals, value = word.partition("=")
            if name.startswith("--") and len(name) > 2:
                self._check_name(name.rstrip("+"), "--")
                word = flags.get(name.replace("-", "_"), name) + equals + value
            known.append(word)
        return super().parse_args(known, *more, **keywords)

    def parse_object(self, cfg_obj: Any, *more: Any, **keywords: Any) -> Namespace:
        """Parse values after checking each one's name."""
        self.check_content(cfg_obj)
        return super().parse_object(cfg_obj, *more, **keywords)

    def check_content(self, content: Any) -> None:
        """Refuse unknown names, and values that jsonargparse accepts but a configuration may not give to our options.

        Raises:
            UserError: naming the key, what was found and what was expected.
        """
        for name, value in _flat(content, self.names()):
            self._check_name(name)
            one = self.declared.get(name)
            if name in self.groups:
                raise UserError(f"{name} is {value!r}, expected a mapping of its options")
            if one and not one.in_config:
                raise UserError(f"{name} is given on the command line, not in a configuration")
            if one and not _is_of_kind(one.hint, value):
                raise UserError(mistake(name, value, one.hint))

    def instantiate_classes(self, cfg: Any, **keywords: Any) -> Any:
        """Make the classes' instances.

        Raises:
            UserError: from a constructor, as it was raised there.
        """
        try:
            return super().instantiate_classes(cfg, **keywords)
        except ValueError as error:
            raise _cause(error) or error from None

    def _check_name(self, name: str, dashes: str = "") -> None:
        """Refuse a name that is neither an option nor a part of an option's value."""
        known, plain = self.names(), name.removeprefix("--")
        parts = (plain.replace("-", "_") if dashes else plain).split(".")
        found = known.intersection(".".join(parts[:end]) for end in range(1, len(parts) + 1))
        if not found and self.of_class:
            raise UserError(f"{self.of_class} has no option {parts[0]!r}{nearest(parts[0], known)}")
        if not found and (dashes or name not in self.groups):
            joint = "-" if dashes and not self.groups else "_"
            near = [dashes + one.replace("_", joint) for one in known | set(self.groups) - {plain}]
            raise UserError(f"no option {name!r}{nearest(name, near) or '.'} See {self.prog} --help")
        if dashes and any(self.declared[one].positional for one in found & self.declared.keys()):
            raise UserError(f"{plain} is given without its name; see {self.prog} --help")


def build(command: Command, prog: str | None = None) -> Parser:
    """Make a command's parser."""
    prog = prog or command.name
    declared = options_of(command.options) if isinstance(command.options, type) else command.options
    places = [_shown_positional(one) for one in declared if one.positional]
    usage = " ".join([prog, *places, *["COMMAND ..."] * bool(command.commands and not places), "[--OPTION VALUE ...]"])
    text, _, commands = command.text.partition("\n\npython ")  # at the end of a docstring
    examples = inspect.cleandoc(command.examples or (commands and f"python {commands}")).replace("\n", "\n  ")
    epilog = f"examples:\n  {examples}" if examples else None
    parser = Parser(prog=prog, description=text, epilog=epilog, usage=usage, add_help=False)
    groups = {one.group: parser.add_argument_group(one.group) for one in declared}
    for one in declared:
        _add(groups[one.group], one, "_" if command.extend else "-")
        parser.declared[one.name] = one
    if command.extend:
        command.extend(parser)
    parser.check_types()
    own = parser.add_argument_group("this program")
    if command.config:
        where = " and ".join(f"configs/{name}/" for name in command.config)
        text = f"a configuration, by path or by its name in {where}; repeatable, later ones win"
        own.add_argument("-c", "--config", default=argparse.SUPPRESS, metavar="NAME", help=text)
    own.add_argument("-h", "--help", action="help", help="show this help and exit")
    text = "show an error's traceback, not its message"
    own.add_argument("--debug", action="store_true", default=argparse.SUPPRESS, help=text)
    text = "print what makes a shell (bash, zsh, fish, tcsh) complete this program's options"
    own.add_argument("--print-completion", default=argparse.SUPPRESS, metavar="SHELL", help=text)
    for action in parser._actions:
        _explain(action, parser.declared.get(action.dest))
    return parser


def build_tree(command: Command, prog: str | None = None, parser: Parser | None = None) -> Parser:
    """Make a command's parser with those of its subcommands below it, for the help and for completion."""
    prog, parser = prog or command.name, parser or build(command, prog)
    if command.commands:
        commands = parser.add_subcommands(required=False, title="commands", description="", metavar="COMMAND")
        for sub in command.commands:  # jsonargparse needs a complete level before the next one
            child = build(sub, f"{prog} {sub.name}")
            commands.add_subcommand(sub.name, child, help=sub.text.partition("\n")[0])
            build_tree(sub, f"{prog} {sub.name}", child)
    return parser


class Help(argparse.RawDescriptionHelpFormatter):
    """Examples as they were written, options in columns as wide as the terminal allows, up to 120."""

    def __init__(self, prog: str, **_: Any) -> None:
        super().__init__(prog, max_help_position=32, width=min(120, max(60, shutil.get_terminal_size().columns)))

    def add_argument(self, action: argparse.Action) -> None:
        """Show the parts of a dataclass below it."""
        super().add_argument(action)
        kind = bare(getattr(action, "_typehint", None))
        if dataclasses.is_dataclass(kind) and action.help != argparse.SUPPRESS:
            for one in options_of(kind):
                flags = [f"--{action.dest}.{one.name}"]
                part = argparse.Action(flags, one.name, metavar=metavar(one.hint), help=one.text)
                _explain(part, one)
                super().add_argument(part)

    def _format_action_invocation(self, action: argparse.Action) -> str:
        if not action.option_strings or action.nargs == 0:
            return super()._format_action_invocation(action)
        flags = ", ".join(flag for flag in action.option_strings if not flag.endswith("+"))
        return f"{flags} {self._format_args(action, action.dest.upper())}"


def _subcommand(command: Command, words: list[str]) -> tuple[Command, list[str], Parser]:
    """The command that the first words mean, the other words, and its parser."""
    path = command.name
    while command.commands:
        names, word = {sub.name: sub for sub in command.commands}, words[0] if words else "nothing"
        if word not in names:
            if word.startswith("-") and {"-h", "--help"} & set(words):
                build_tree(command, path).parse_args(["--help"])
            if command.options:
                break
            raise UserError(
                f"{path}: expected a command, found {word}{nearest(word, names)}; there are: {', '.join(names)}"
            )
        command, words, path = names[word], words[1:], f"{path} {word}"
    return command, words, build(command, path)


def _split_configs(words: list[str]) -> tuple[list[str], list[str]]:
    """The configurations that a command line names, and its other words."""
    split = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    split.add_argument("-c", "--config", action="append", default=[])
    try:
        found, others = split.parse_known_args(words)
    except argparse.ArgumentError:
        raise UserError("--config takes a configuration's name or path") from None
    return found.config, others


def _add(group: Any, one: Option, joint: str) -> None:
    hint = bare(one.hint)
    keywords: dict[str, Any] = {"help": one.text or " "}
    if joint == "-" or one.default is REQUIRED:
        keywords["default"] = argparse.SUPPRESS
    else:
        keywords["default"] = one.default
    if hint is bool and joint == "_":
        keywords |= {"type": bool, "nargs": "?", "const": True}
    elif hint is bool:
        keywords["action"] = "store_true"
    elif one.hint is Any:
        keywords["nargs"] = "+"
    elif items(hint) and joint == "-":
        count = len(get_args(hint)) if get_origin(hint) is tuple and Ellipsis not in get_args(hint) else "+"
        keywords |= {"type": items(hint), "nargs": "*" if one.positional else count}
    else:
        keywords |= {"type": one.hint} | ({"nargs": "?"} if one.positional else {})
    name = one.name if one.positional else f"--{one.name.replace('_', joint)}"
    action = group.add_argument(name, **keywords)
    action.whole_hint = one.hint


def _explain(action: argparse.Action, one: Option | None = None) -> None:
    """Complete an option's line of the help: what stands for its value, and its default."""
    if action.help == argparse.SUPPRESS or action.dest.endswith(".help"):
        action.help = argparse.SUPPRESS
        return
    one = one or Option(
        action.dest, getattr(action, "_typehint", str), getattr(action, "_typehint", None) and action.default
    )
    default = one.shown_default or shown(one.default)
    if action.nargs == 0:
        default = ""
    elif not action.metavar and not action.choices:
        action.metavar = one.metavar or metavar(one.hint)
    default = f" (default: {default})" if default else ""
    if one.default is REQUIRED and not one.positional:
        default = " (required)"
    action.help = f"{(action.help or '').replace('`', '').rstrip('.')}{default}".replace("%", "%%")


def _check(action: Any, inner: Callable[..., Any], value: Any, **keywords: Any) -> Any:
    """An option's own check, with a message that names it, what was found and what was expected."""
    hint, name = action._typehint, action.dest
    try:
        found = inner(value, **keywords)
    except (TypeError, ValueError, RecursionError, OverflowError) as error:
        if cause := _cause(error):  # of a part of the value
            raise UserError(f"{name}: {cause}") from None
        if type(value).__name__ == "NestedArg":  # jsonargparse's, of `--name.part value`
            name, value = f"{name}.{value.key}", value.val
        raise UserError(mistake(name, value, getattr(action, "whole_hint", hint))) from None
    if not fits_range(hint, found):
        raise UserError(mistake(name, found, hint))
    return found


def _cause(error: BaseException | None) -> UserError | None:
    """The message of ours that jsonargparse wrapped into its own."""
    while error is not None and not isinstance(error, UserError):
        error = error.__cause__ or error.__context__
    return error


def _flat(content: Any, names: set[str], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """A configuration's values by dotted name, down to the options."""
    for key, value in content.items():
        name = f"{prefix}{key}"
        if name not in names and isinstance(value, Mapping) and any(one.startswith(f"{name}.") for one in names):
            yield from _flat(value, names, f"{name}.")
        else:
            yield name, value


def _is_of_kind(hint: Any, value: Any) -> bool:
    """Whether a configuration's value is null, a list or a boolean only where the type of its option is."""
    if hint is Any:
        return True
    if value is None:
        return type(None) in get_args(hint)
    if bare(hint) is str:
        return isinstance(value, str | int | float) and not isinstance(value, bool)
    return isinstance(value, bool if bare(hint) is bool else list if items(hint) else object)


def _result(command: Command, parser: Parser, values: Mapping[str, Any]) -> Any:
    """The options' dataclass, or a dictionary, with defaults where nothing was given."""
    complete = {}
    for name, one in parser.declared.items():
        complete[name] = values.get(name, one.default)
        if complete[name] is REQUIRED:
            what = one.metavar or one.name.upper() if one.positional else f"--{one.name.replace('_', '-')}"
            raise UserError(f"{what} is missing: {one.text.rstrip('.')}; see {parser.prog} --help")
        if get_origin(bare(one.hint)) is tuple and isinstance(complete[name], list):
            complete[name] = tuple(complete[name])
    if isinstance(command.options, type):
        fields = [item.name for item in dataclasses.fields(command.options)]
        return command.options(**{name: complete[name.rstrip("_")] for name in fields})
    return complete


def _print_completion(command: Command, shell: str) -> NoReturn:
    try:
        show(*build_tree(command).get_completion_script(f"shtab-{shell}").split("\n"))
    except ValueError as error:
        raise UserError(f"--print-completion {shell}: {error} Install it by pip install -e '.[completion]'") from None
    sys.exit(0)


def _shown_positional(one: Option) -> str:
    name = one.metavar or one.name.upper()
    name = f"{name} ..." if items(one.hint) else name
    return name if one.default is REQUIRED else f"[{name}]"
