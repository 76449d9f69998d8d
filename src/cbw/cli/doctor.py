"""``cbw doctor``."""

from __future__ import annotations

import click

from cbw import settings
from cbw.addresses import address
from cbw.cli import output
from cbw.cli.option_types import port
from cbw.cli.options import keys_option, setting_options, status_token
from cbw.doctor import Finding, FindingState, StatusPage, examine
from cbw.journal_doctor import examine_journal
from cbw.language import translated

_MARKS = {FindingState.OK: ("ok", "green"), FindingState.NOTE: ("note", "yellow"), FindingState.WRONG: ("wrong", "red")}


@click.command("doctor", context_settings={"max_content_width": 110})
@click.argument("broker", default=None, metavar="[HOST[:PORT]]")
@click.option(
    "--worker-port", type=port, default=settings.WORKER_PORT, show_default=True, help="Port of the broker for workers."
)
@click.option(
    "--status-port",
    type=port,
    default=settings.STATUS_PORT,
    show_default=True,
    help="Port of the broker's status page.",
)
@click.option(
    "--send", "sends", is_flag=True, help="Also send a request to the nameless service, which one of its workers runs."
)
@click.option("--json", "is_json", is_flag=True, help="Print the findings as JSON.")
@click.option(
    "--journal",
    metavar="JOURNAL",
    help="Look at this journal on NATS servers, and at no broker: nats://HOST:PORT,.../NAME.",
)
@setting_options(settings.STATUS_TOKEN_FILE)
@keys_option
def command(
    broker: str | None,
    worker_port: int,
    status_port: int,
    sends: bool,
    is_json: bool,
    journal: str | None,
    status_token_file: str | None,
) -> None:
    """Find out why a client here does not reach the broker at HOST (default: BROKER_HOST, else this machine).

    One line for each thing on the way, and what to do where it fails: the name, the ports, the protocol, the version, workers.
    Exit code 1: something is wrong.

    \b
    cbw doctor tsr-123.example.org
    """
    if journal is not None:
        found = examine_journal(journal)
    else:
        host, client_port = address(broker, "client")
        page = StatusPage(status_port, status_token(status_token_file))
        found = examine(host, client_port, worker_port, page=page, sends=sends)
    findings: list[Finding] = []
    for finding in found:
        findings.append(finding)
        if not is_json:
            _print(finding)
    is_well = all(finding.state is not FindingState.WRONG for finding in findings)
    if is_json:
        output.json({"findings": findings, "ok": is_well})
    if not is_well:
        raise click.exceptions.Exit(1)


def _print(finding: Finding) -> None:
    word, colour = _MARKS[finding.state]
    output.line(output.Styled(f"{translated(word):<6}", fg=colour), f"{finding.check:<11}{translated(finding.text)}")
    if finding.advice:
        output.line(f"{'':<17}{translated(finding.advice)}")
