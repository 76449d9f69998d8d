"""``cbw verify``."""

from __future__ import annotations

import contextlib
import shlex
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import click
from rich.table import Table

from cbw import settings
from cbw.addresses import address
from cbw.cli import output, tables
from cbw.cli.option_types import Number, port
from cbw.cli.options import keys_option
from cbw.errors import PromiseBroken, UsageError
from cbw.language import translated, word
from cbw.verify.checks import judge, summary_of
from cbw.verify.lab_scenario import UNSEEN, LabScenario
from cbw.verify.report import Report, html, markdown
from cbw.verify.scenario import ANSWER_TIMEOUT_S, Scenario, Target, merged
from cbw.verify.timeline import Timeline
from cbw.verify.verdict import Verdict
from cbw.visible import visible

VERDICT_COLUMNS = ("check", "result", "figures and evidence")
RESULT_CELLS = 9
"""Width of a result in a line, in cells; Spanish ones fit too."""
_COLOURS = {"kept": "green", "not tried": "yellow", "broken": "red"}
_FORMATS = {".html": html, ".htm": html, ".md": markdown}


@click.command("verify", context_settings={"max_content_width": 110})
@click.argument("more_traces", nargs=-1, metavar="[FILE...]")
@click.option(
    "--broker",
    metavar="HOST:PORT",
    help="Verify this running broker, with clients and workers of the verification's own.",
)
@click.option(
    "--worker-port",
    type=port,
    default=settings.WORKER_PORT,
    show_default=True,
    help="Port for workers of the broker given with --broker.",
)
@click.option(
    "--dialect",
    type=click.Choice(["cbw", "lab"]),
    default="cbw",
    show_default=True,
    help="What the clients and workers of the verification speak with the broker given with --broker: CBW/1, or as the "
    "REQ programs of the lab do.",
)
@click.option(
    "--bad-frames",
    is_flag=True,
    help="With --dialect lab: at the end, also send messages that no program of the lab sends. They may end the broker.",
)
@click.option(
    "--trace",
    "traces",
    multiple=True,
    metavar="FILE...",
    help="Judge these traces of an earlier run; with --broker: the trace of that broker, to be judged too.",
)
@click.option(
    "--compose",
    "compose_files",
    multiple=True,
    metavar="FILE",
    help="Verify the containers of this Compose file: services bro, wor and, if there is one, log. May be repeated.",
)
@click.option("--project", metavar="NAME", help="The name under which that project runs, as docker compose -p has it.")
@click.option(
    "--swarm",
    "stack",
    metavar="STACK",
    help="Verify the containers of this stack of a Docker Swarm that run on this machine, a manager of it.",
)
@click.option("--keep", metavar="DIR", type=click.Path(file_okay=False), help="Leave the traces in DIR.")
@click.option(
    "--timeout",
    "timeout_s",
    type=Number(1.0),
    default=ANSWER_TIMEOUT_S,
    show_default=True,
    help="Seconds to wait for an answer: at least the broker's --liveness and 2 s.",
)
@click.option("--json", "is_json", is_flag=True, help="Print the verdicts as JSON.")
@click.option(
    "--report",
    "report_file",
    metavar="FILE.html|FILE.md",
    help="Write what was done and seen, with a picture of each harm, into FILE: one self-contained page, or Markdown.",
)
@keys_option
def command(
    more_traces: tuple[str, ...],
    broker: str | None,
    worker_port: int,
    dialect: str,
    bad_frames: bool,
    traces: tuple[str, ...],
    compose_files: tuple[str, ...],
    project: str | None,
    stack: str | None,
    keep: str | None,
    timeout_s: float,
    is_json: bool,
    report_file: str | None,
) -> None:
    """Hurt a system and judge, from the trace that it leaves, whether it kept its promises.

    \b
    cbw verify                              a system of its own on this machine
    cbw verify --broker HOST:9998           a broker that runs, with own clients and own workers
    cbw verify --broker HOST --dialect lab  a broker of the lab, of whatever make, with REQ clients and REQ workers
    cbw verify --compose FILE               a deployment with Docker Compose: its containers come to harm, and are restored
    cbw verify --swarm STACK                a stack of a Docker Swarm, as far as it runs on this machine
    cbw verify --trace traces/*.jsonl       the traces of any earlier run, again

    It shows that clients get their own replies only, that no worker is free while requests wait, and that requests
    survive a killed and a frozen worker. Exit code 4: a promise is broken.
    """
    if more_traces and not traces:
        raise UsageError(f"what is {more_traces[0]}?", advice="Traces are given with --trace FILE...")
    traces += more_traces
    if project and not compose_files:
        raise UsageError("--project goes with --compose FILE")
    if (compose_files or stack) and (broker is not None or traces):
        raise UsageError(f"{'--compose' if compose_files else '--swarm'} goes without --broker and --trace")
    if compose_files and stack:
        raise UsageError("--compose goes without --swarm")
    if dialect == "lab" and (broker is None or traces):
        raise UsageError("--dialect lab goes with --broker, and without --trace")
    if bad_frames and dialect != "lab":
        raise UsageError("--bad-frames goes with --dialect lab")
    report = _ReportFile(report_file) if report_file else None
    timeline = report.timeline if report else None
    unseen: Sequence[str] = ()
    if compose_files or stack:
        verdicts = _run_deployment(compose_files, project, stack, keep, timeout_s, timeline)
        subject = f"the stack {stack}" if stack else f"the deployment of {', '.join(compose_files)}"
    elif traces and broker is None:
        verdicts = _judged(traces, timeline)
        subject = f"an earlier run, by {len(traces)} of its traces"
    elif broker is not None and dialect == "lab":
        verdicts = _run_lab(broker, worker_port, keep, timeout_s, timeline, sends_bad_frames=bad_frames)
        subject, unseen = f"the broker of the lab's dialect at {broker}", UNSEEN
    else:
        verdicts = _run(broker, worker_port, traces, keep, timeout_s, timeline)
        subject = f"the broker at {broker}" if broker else "a system of cbw, started for this on one machine"
    _tell(subject, verdicts, unseen, report, is_json=is_json)


def _tell(
    subject: str, verdicts: Sequence[Verdict], unseen: Sequence[str], report: _ReportFile | None, *, is_json: bool
) -> None:
    """Print what was found, and write the report, if one is wanted.

    Raises:
        PromiseBroken: a check found that.
    """
    if report:
        report.write(subject, verdicts, unseen)
    if is_json:
        output.json(summary_of(verdicts, unseen))
    else:
        _print(verdicts)
        for sentence in unseen:
            output.line(f"{word('not seen', 'result'):<{RESULT_CELLS}}  {translated(sentence)}")
    broken = [verdict for verdict in verdicts if not verdict.passed]
    if broken:
        advice = "\n     ".join(visible(line) for verdict in broken for line in verdict.evidence) if is_json else ""
        raise PromiseBroken(f"not kept: {', '.join(verdict.name for verdict in broken)}", advice=advice)


def _run(
    broker: str | None,
    worker_port: int,
    traces: tuple[str, ...],
    keep: str | None,
    timeout_s: float,
    timeline: Timeline | None,
) -> list[Verdict]:
    target = None
    if broker is not None:
        host, client_port = address(broker, "client")
        target = Target(host, client_port, worker_port, traces)
        for _ in merged(traces):  # better now than when all is done: can they be read?
            break
    with _folder(keep) as folder, Scenario(folder, target, _progress, timeout_s=timeout_s) as scenario:
        scenario.run()
        return _judged(scenario.traces(), timeline)


def _run_lab(
    broker: str,
    worker_port: int,
    keep: str | None,
    timeout_s: float,
    timeline: Timeline | None,
    *,
    sends_bad_frames: bool,
) -> list[Verdict]:
    host, client_port = address(broker, "client")
    target = Target(host, client_port, worker_port)
    with (
        _folder(keep) as folder,
        LabScenario(folder, target, _progress, timeout_s=timeout_s, sends_bad_frames=sends_bad_frames) as scenario,
    ):
        scenario.run()
        return _judged(scenario.traces(), timeline)


def _run_deployment(
    files: tuple[str, ...],
    project: str | None,
    stack: str | None,
    keep: str | None,
    timeout_s: float,
    timeline: Timeline | None,
) -> list[Verdict]:
    try:  # here: the Docker SDK is an extra
        from cbw.verify.compose import ComposeProject
        from cbw.verify.swarm import SwarmStack
        from cbw.verify.trials import Trials
    except ModuleNotFoundError as error:
        raise UsageError(
            f"the Docker SDK is not installed: {error}", advice="In a checkout of cbw: pip install '.[docker]'"
        ) from None

    with _folder(keep) as folder:
        found = SwarmStack(stack, _announce) if stack else ComposeProject(files, project, _announce)
        with found as deployment, Trials(folder, deployment, _progress, timeout_s=timeout_s) as trials:
            trials.run()
        return _judged(trials.traces(), timeline)


def _judged(paths: Iterable[str], timeline: Timeline | None) -> list[Verdict]:
    """The verdicts on these traces, and their scenes in ``timeline``, if it is wanted."""
    records = merged(paths)
    return judge(timeline.watching(records) if timeline else records)


class _ReportFile:
    """Where the report goes, and what it will tell.

    Raises:
        UsageError: it has no known ending, or cannot be written. Better now than when all is done.
    """

    def __init__(self, path: str) -> None:
        self._path = Path(path)
        self._format = _FORMATS.get(self._path.suffix.lower())
        if self._format is None:
            raise UsageError(f"--report {path}: no known format", advice="End its name with .html or .md.")
        self.timeline = Timeline()
        self._write("")

    def write(self, subject: str, verdicts: Sequence[Verdict], unseen: Sequence[str]) -> None:
        """Write what was found about ``subject``, and what could not be seen."""
        assert self._format is not None
        command = shlex.join(["cbw", *sys.argv[1:]])
        self._write(self._format(Report(subject, command, verdicts, self.timeline, unseen, time.time())))

    def _write(self, text: str) -> None:
        try:
            self._path.write_text(text, encoding="utf-8")
        except OSError as error:
            raise UsageError(f"cannot write {self._path}: {error.strerror}", advice="Check --report.") from None


@contextlib.contextmanager
def _folder(keep: str | None) -> Iterator[str]:
    """A folder for the traces."""
    with contextlib.ExitStack() as stack:
        folder = keep or stack.enter_context(tempfile.TemporaryDirectory(prefix="cbw-verify-"))
        try:
            Path(folder).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UsageError(f"cannot make the folder {folder}: {error.strerror}", advice="Check --keep.") from None
        yield folder


def _progress(text: str) -> None:
    """How far it is, for whoever watches."""
    if sys.stderr.isatty():
        output.line(output.Styled(f"  {text}", dim=True), err=True)


def _announce(text: str) -> None:
    """What is done to a deployment, for everybody."""
    output.line(output.Styled(f"  {text}", dim=sys.stderr.isatty()), err=True)


def _print(verdicts: Sequence[Verdict]) -> None:
    """A table on a terminal; else lines, as long as they are."""
    if not sys.stdout.isatty():
        for verdict in verdicts:
            said_result = word(verdict.result, "result")
            output.line(f"{said_result:<{RESULT_CELLS}}  {verdict.name:<21}  {translated(verdict.summary)}")
            for line in verdict.evidence:
                output.line(f"{'':<{RESULT_CELLS + 25}}{translated(line)}")
        return
    table = Table(show_lines=True)
    for name in VERDICT_COLUMNS:
        table.add_column(word(name, "table"), no_wrap=name != VERDICT_COLUMNS[-1])
    for verdict in verdicts:
        result = tables.cell(word(verdict.result, "result"), style=_COLOURS[verdict.result])
        table.add_row(
            verdict.name, result, tables.cell(translated(verdict.summary), *map(translated, verdict.evidence))
        )
    tables.show(table)
