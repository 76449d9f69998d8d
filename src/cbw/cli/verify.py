"""``cbw verify``."""

from __future__ import annotations

import contextlib
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import click
from rich.table import Table

from cbw import settings
from cbw.addresses import address
from cbw.cli import output, tables
from cbw.cli.options import Number, keys_option, port
from cbw.errors import PromiseBroken, UsageError
from cbw.verify.checks import judge, report
from cbw.verify.scenario import ANSWER_TIMEOUT_S, Scenario, Target, merged
from cbw.verify.verdict import Verdict
from cbw.visible import visible

_COLOURS = {"kept": "green", "not tried": "yellow", "broken": "red"}


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
@keys_option
def command(
    more_traces: tuple[str, ...],
    broker: str | None,
    worker_port: int,
    traces: tuple[str, ...],
    compose_files: tuple[str, ...],
    project: str | None,
    stack: str | None,
    keep: str | None,
    timeout_s: float,
    is_json: bool,
) -> None:
    """Hurt a system and judge, from the trace that it leaves, whether it kept its promises.

    \b
    cbw verify                              a system of its own on this machine
    cbw verify --broker HOST:9998           a broker that runs, with own clients and own workers
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
    if compose_files or stack:
        verdicts = _run_deployment(compose_files, project, stack, keep, timeout_s)
    elif traces and broker is None:
        verdicts = judge(merged(traces))
    else:
        verdicts = _run(broker, worker_port, traces, keep, timeout_s)
    if is_json:
        output.json(report(verdicts))
    else:
        _print(verdicts)
    broken = [verdict for verdict in verdicts if not verdict.passed]
    if broken:
        advice = "\n     ".join(visible(line) for verdict in broken for line in verdict.evidence) if is_json else ""
        raise PromiseBroken(f"not kept: {', '.join(verdict.name for verdict in broken)}", advice=advice)


def _run(
    broker: str | None, worker_port: int, traces: tuple[str, ...], keep: str | None, timeout_s: float
) -> list[Verdict]:
    target = None
    if broker is not None:
        host, client_port = address(broker, "client")
        target = Target(host, client_port, worker_port, traces)
        for _ in merged(traces):  # better now than when all is done: can they be read?
            break
    with _folder(keep) as folder, Scenario(folder, target, _progress, timeout_s=timeout_s) as scenario:
        scenario.run()
        return judge(merged(scenario.traces()))


def _run_deployment(
    files: tuple[str, ...], project: str | None, stack: str | None, keep: str | None, timeout_s: float
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
        return judge(merged(trials.traces()))


@contextlib.contextmanager
def _folder(keep: str | None) -> Iterator[str]:
    """For the traces."""
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
            output.line(f"{verdict.result:<9}  {verdict.name:<21}  {verdict.summary}")
            for line in verdict.evidence:
                output.line(f"{'':<34}{line}")
        return
    table = Table(show_lines=True)
    table.add_column("check", no_wrap=True)
    table.add_column("result", no_wrap=True)
    table.add_column("figures and evidence")
    for verdict in verdicts:
        result = tables.cell(verdict.result, style=_COLOURS[verdict.result])
        table.add_row(verdict.name, result, tables.cell(verdict.summary, *verdict.evidence))
    tables.show(table)
