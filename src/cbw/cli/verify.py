"""``cbw verify``."""

from __future__ import annotations

import contextlib
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import click
import msgspec
from rich.console import Console
from rich.table import Table

from cbw import settings
from cbw.cli.options import port
from cbw.errors import PromiseBroken
from cbw.settings import address
from cbw.verify.checks import Verdict, judge, report
from cbw.verify.scenario import Scenario, Target, merged


@click.command("verify", context_settings={"max_content_width": 110})
@click.option("--broker", metavar="HOST:PORT", help="Verify this broker, with own clients and own workers.")
@click.option("--worker-port", type=port, default=settings.WORKER_PORT, show_default=True, help="Of that broker.")
@click.option("--trace", "traces", multiple=True, metavar="FILE", help="Judge this trace. May be repeated.")
@click.option("--keep", metavar="DIR", type=click.Path(file_okay=False), help="Leave the traces in DIR.")
@click.option("--json", "is_json", is_flag=True, help="Print the verdicts as JSON.")
def command(broker: str | None, worker_port: int, traces: tuple[str, ...], keep: str | None, is_json: bool) -> None:
    """Hurt a system and judge, from the trace that it leaves, whether it kept its promises.

    \b
    cbw verify                              a system of its own on this machine
    cbw verify --broker HOST:9998           a broker that runs, with own clients and own workers
    cbw verify --trace a.jsonl --trace b    traces of any earlier run

    It shows that clients get their own replies only, that no worker is free while requests wait, and that requests
    survive a killed and a frozen worker. Exit code 4: a promise is broken.
    """
    if traces and not broker:
        verdicts = judge(merged(traces))
    else:
        verdicts = _run(broker, worker_port, traces, keep, is_quiet=is_json)
    if is_json:
        sys.stdout.write(msgspec.json.encode(report(verdicts)).decode() + "\n")
    else:
        _print(verdicts)
    broken = [verdict.name for verdict in verdicts if not verdict.passed]
    if broken:
        raise PromiseBroken(f"not kept: {', '.join(broken)}")


def _run(
    broker: str | None, worker_port: int, traces: Sequence[str], keep: str | None, *, is_quiet: bool
) -> list[Verdict]:
    target = None
    if broker:
        host, client_port = address(broker, "client")
        target = Target(host, client_port, worker_port, traces[0] if traces else None)
    with contextlib.ExitStack() as stack:
        folder = keep or stack.enter_context(tempfile.TemporaryDirectory(prefix="cbw-verify-"))
        Path(folder).mkdir(parents=True, exist_ok=True)
        scenario = stack.enter_context(Scenario(folder, target, lambda text: click.echo(text, err=True)))
        scenario.run()
        return judge(merged(scenario.traces()))


def _print(verdicts: Sequence[Verdict]) -> None:
    console = Console(width=None if sys.stdout.isatty() else 140)
    table = Table(show_lines=True)
    table.add_column("check")
    table.add_column("result")
    table.add_column("evidence")
    for verdict in verdicts:
        judged = bool(verdict.figures.get("judged"))
        result = ("[green]kept[/]" if judged else "[yellow]not tried[/]") if verdict.passed else "[red]broken[/]"
        table.add_row(verdict.name, result, "\n".join(verdict.evidence))
    console.print(table)
