"""`evofool study`: the studies there are, each with its question; and a command for each, made from its own options.

A study is imported when its command is asked for, so that the list costs nothing.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from dataclasses import MISSING, fields
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_args, get_origin, get_type_hints

from typer import Argument, Context, Exit, Option, Typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command

from evofool.base.registry import STUDIES, known
from evofool.cli import options, output
from evofool.cli.options import app, file_path
from evofool.errors import ConfigError

if TYPE_CHECKING:
    from evofool.studies.study import Outcome, Study

__all__ = ["SUBJECTS", "chosen", "own_options", "parameter", "print_outcome", "refuse_spec"]

FIGURES = ("figure", "value", "95 % interval", "n")
LISTED = 40  # rows of the table on the screen; the file has all
NETWORKS = ("--to", "--target")  # options of studies whose values are specs
SUBJECTS = {
    "run": options.RunPath,
    "runs": options.RunPaths,
    "network": Annotated[str, Argument(metavar="TARGET", help="As target.spec, e.g. efficientnet-lite:0.")],
    "pictures": Annotated[
        list[Path], Argument(metavar="IMAGES...", help="Pictures, or folders of them.", parser=file_path)
    ],
    "paper": Annotated[str, Argument(metavar="PAPER", help="mnist or imagenet, whose experiments are meant.")],
}
OUT = "Folder to write to; by default studies/{}{}."
LIMIT = "Only the first N {}, into files of their own; {} take under 20 seconds."
POOL = "inline or ray; of runs their own evaluation.pool by default, else inline."


class _Listed(TyperCommand):
    """A study in a list of commands."""

    def get_short_help_str(self, limit: int = 45) -> str:
        """The question, whole."""
        return self.help or ""


class _Studies(TyperGroup):
    """The studies of the registry, as commands."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Their names."""
        return list(STUDIES)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """A study as it stands in lists."""
        return _Listed(cmd_name, help=STUDIES[cmd_name][0]) if cmd_name in STUDIES else None

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """The command that was asked for, with its options."""
        if args[0] not in STUDIES:
            raise ConfigError(f"there is no study {args[0]!r}; {known(args[0], STUDIES)}")
        for option, value in pairwise(args[1:]):
            if option in NETWORKS:
                refuse_spec(value, option, "--allow-code" in args)
        return args[0], _command(args[0]), args[1:]


def refuse_spec(text: str, option: str, allow_code: bool) -> None:
    """Say what is wrong with a spec, which need not wait for the study, which loads torch."""
    from evofool.config.sections import TargetConfig
    from evofool.targets.specs import check_section, section_named

    check_section(TargetConfig.model_validate(section_named(text, option)), allow_code=allow_code, key=option)


study_app = Typer(help="Questions asked of runs and of pictures.", cls=_Studies, rich_markup_mode=None)
app.add_typer(study_app, name="study")


@study_app.callback(invoke_without_command=True)
def _list(context: Context) -> None:
    if context.invoked_subcommand is None:
        output.table(["study", "its question"], [[name, question] for name, (question, _) in STUDIES.items()])
        print("\nevofool study NAME --help shows what a study is asked of, and its options.")


def _command(name: str) -> Any:
    """The command of a study, with its own options and those that all have."""
    from evofool.studies.study import load_study

    study, question = load_study(name)
    own = list(own_options(study.options))

    def ask(**given: Any) -> None:
        from evofool.studies.study import conduct

        subject, as_json = given["subject"], given["as_json"]
        wanted = study.options(**chosen(own, given))
        outcome = conduct(
            name,
            subject if isinstance(subject, list) else [subject],
            wanted,
            out=given.get("out"),
            limit=given["limit"],
            pool=given.get("pool"),
            address=options.cluster(given.get("address"), given.get("insecure_cluster", False)),
            allow_code=given.get("allow_code", False),
            tell=output.tell,
        )
        print_outcome(study.asked(wanted)[1], outcome, as_json)
        if outcome.left_out:
            output.tell(f"{len(outcome.left_out)} left out")
            raise Exit(2)

    parameters = [
        inspect.Parameter("subject", inspect.Parameter.KEYWORD_ONLY, annotation=SUBJECTS[study.subject]),
        *own,
        *_common_options(name, study),
    ]
    ask.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    ask.__annotations__ = {p.name: p.annotation for p in parameters}
    ask.__doc__ = question
    single = Typer(rich_markup_mode=None, add_completion=False)
    single.command(name)(ask)
    return get_command(single)


def own_options(options: type) -> Iterator[inspect.Parameter]:
    """The options of a study's own, as parameters; one that is not given is None, and keeps its default."""
    hints = get_type_hints(options, include_extras=True)
    for field in fields(options):
        kind, text = get_args(hints[field.name])[:2]
        flag = f"--{field.name.replace('_', '-')}"
        required = field.default is MISSING and field.default_factory is MISSING
        if get_origin(kind) is tuple:
            kind = list[str]
        elif not required and field.default not in ("", None, False):
            text = f"{text} [default: {field.default}]"
        option = Option(flag, help=text, show_default=False)
        kind = kind if required else kind | None
        yield parameter(field.name, Annotated[kind, option], inspect.Parameter.empty if required else None)


def _common_options(name: str, study: Study) -> Any:
    if study.subject != "run":
        more = {"runs": ", and RUN/_studies of one run", "paper": "/PAPER"}
        text = OUT.format(name, more.get(study.subject, ""))
        yield parameter("out", Annotated[Path | None, Option(help=text, parser=file_path)], None)
    of = " of --budget none" if study.subject == "paper" else ""
    text = LIMIT.format(study.things, f"{study.smoke}{of}")
    yield parameter("limit", Annotated[int | None, Option(metavar="N", help=text, min=1)], None)
    if study.evaluates:
        yield parameter("pool", Annotated[str | None, Option(help=POOL)], None)
        yield parameter("address", options.Address, None)
        yield parameter("insecure_cluster", options.Insecure, False)
        yield parameter("allow_code", options.AllowCode, False)
    yield parameter("as_json", options.Json, False)


def chosen(own: Sequence[inspect.Parameter], given: dict[str, Any]) -> dict[str, Any]:
    """Those of a study's own options that were given."""
    values = {p.name: given[p.name] for p in own if given[p.name] is not None}
    return {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}


def parameter(name: str, annotation: Any, default: Any) -> inspect.Parameter:
    """A parameter of a command that is made."""
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, annotation=annotation, default=default)


def print_outcome(study: Study, outcome: Outcome, as_json: bool) -> None:
    """The first rows where a study shows some, the summary, the sentence, the files."""
    names = [output.plain(str(path)) for path in outcome.files]
    if as_json:
        facts = {"question": outcome.question, "sentence": outcome.sentence, "summary": outcome.summary}
        output.print_json({**facts, "rows": len(outcome.frame), "left_out": outcome.left_out, "files": names})
        return
    if study.shown:
        columns, rows = list(study.shown), outcome.frame[:LISTED].to_dict("records")
        numeric = [column for column in columns if any(isinstance(row[column], float | int) for row in rows)]
        output.table(columns, [[output.figure(row[column]) for column in columns] for row in rows], numeric)
        more = len(outcome.frame) - len(rows)
        print(f"{more} more rows in the table\n" if more else "")
    shown = dict.fromkeys(key for row in outcome.summary for key, value in row.items() if value is not None)
    heads = [key for key in shown if key not in (*FIGURES, "low", "high") and not key.endswith("_fingerprint")]
    keys = {key for row in outcome.summary for key in list(row)[: list(row).index("figure")]}
    before = [key for key in heads if key in keys]
    told = [*before, *FIGURES, *(key for key in heads if key not in before)]
    lines = [[_cell(row, column) for column in told] for row in outcome.summary]
    output.table(told, _without_repeats(lines, len(before)), FIGURES[1:])
    print(f"\n{output.plain(outcome.sentence)}\n")
    print("\n".join(names))


def _without_repeats(lines: list[list[str]], columns: int) -> list[list[str]]:
    """The lines with what tells them apart, the first few columns, only where it changes."""
    heads = [[], *(line[:columns] for line in lines)]
    blank = [""] * columns
    return [(blank if head == line[:columns] else line[:columns]) + line[columns:] for head, line in zip(heads, lines)]


def _cell(row: dict[str, Any], column: str) -> str:
    if column == "95 % interval":
        low, high = row.get("low"), row.get("high")
        return "" if low is None or high is None else f"{output.number(low)} to {output.number(high)}"
    value = row.get(column)
    if isinstance(value, float):
        return output.number(value)
    return "-" if value is None and column == "value" else "" if value is None else str(value)
