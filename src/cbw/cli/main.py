"""The ``cbw`` command: its groups, and what becomes of errors."""

from __future__ import annotations

import contextlib
import difflib
import errno
import importlib
import io
import os
import signal
import sys
from typing import Any, NoReturn

import click
from click.shell_completion import CompletionItem

from cbw import service_links
from cbw.cli import output
from cbw.cli.config_file import take_settings_file, where_from
from cbw.cli.failures import as_json, for_people, wants_json
from cbw.cli.signals import ending_on_sigterm
from cbw.errors import CbwError, UsageError
from cbw.version import __version__

# Each command is imported when it is used: `cbw call` must not pay for `cbw up`.
_COMMANDS = {
    "broker": "The broker between clients and workers.",
    "worker": "A worker: your function, or the lab's demonstration.",
    "client": "The lab's demonstration client.",
    "logger": "The central log of all roles.",
    "logs": "Read, search and follow the central log.",
    "keys": "Make keys, and say whose are let in.",
    "journal": "Look into the journal of a broker.",
    "call": "Send one request and print its answer.",
    "services": "List what is served, with signatures.",
    "ps": "Show services and workers of a broker.",
    "top": "Watch a broker live, and steer it by keys.",
    "requests": "List the requests that have not ended.",
    "why": "Tell why a request has not ended.",
    "cancel": "End requests, wherever they are.",
    "purge": "End the requests of a service that wait.",
    "drain": "Give workers nothing more.",
    "undrain": "Give drained workers work again.",
    "pause": "Let the requests of services wait.",
    "resume": "Hand out requests of paused services again.",
    "dead": "List, requeue or drop requests that were given up.",
    "result": "Print the answer of a request that was started under a ticket.",
    "up": "Start a whole system on this machine.",
    "config": "Show what is set, and where.",
    "doctor": "Find out why a broker is not reached.",
    "bench": "Measure throughput, latency and CPU.",
    "verify": "Kill parts of a system and check its promises.",
}

_STOP_IN_ORDER = ("broker", "worker", "client", "logger", "up")
"""SIGTERM waits until these are ready for it (:func:`cbw.signals.handling`). It ends any other command as Ctrl-C does."""


class _Commands(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        command: click.Command = importlib.import_module(f"cbw.cli.{cmd_name}").command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        near = difflib.get_close_matches(args[0], _COMMANDS, 1)
        if args[0] not in _COMMANDS and near:
            ctx.fail(f"No such command '{args[0]}'. Did you mean '{near[0]}'?")
        return super().resolve_command(ctx, args)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        names = [CompletionItem(name, help=text) for name, text in _COMMANDS.items() if name.startswith(incomplete)]
        return [*names, *super(click.Group, self).shell_complete(ctx, incomplete)]

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(_COMMANDS.items()))


@click.group(
    cls=_Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110, "color": output.COLOUR},
)
@click.version_option(__version__, message="cbw %(version)s")
@click.pass_context
def cli(context: click.Context) -> None:
    """A fault-tolerant client-broker-worker system over ZeroMQ.

    \b
    See it work:      cbw up --scale cli=2 --scale wor=4
    See it survive:   cbw verify
    By hand:          cbw broker  |  cbw worker W1 HOST 9999  |  cbw client C1 10 HOST 9998
    With your code:   cbw worker --handler package.module:function  |  echo hi | cbw call

    Settings: options, else variables such as CBW_WORKER_CONCURRENCY, else cbw.toml or [tool.cbw] of pyproject.toml in the current
    folder, such as concurrency below [worker]. cbw config shows them.

    With --json an error is one JSON object, on standard error.

    Exit codes: 0 ok, 1 failed, 2 usage, 3 not ready, 4 promise broken, 5 journal broken, 6 journal taken over, 7 keys wrong,
    8 worker stuck.
    """
    if context.invoked_subcommand not in _STOP_IN_ORDER:
        context.with_resource(ending_on_sigterm())
    take_settings_file(context.invoked_subcommand or "")


def main(arguments: list[str] | None = None) -> Any:
    """Run the command line; errors of cbw become two lines on stderr and their exit code."""
    service_links.forget()
    given = sys.argv[1:] if arguments is None else arguments
    is_json = wants_json(given)
    _open_streams(is_role=given[:1] in ([name] for name in _STOP_IN_ORDER))
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # names of files and hosts may be no UTF-8
    try:
        if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])  # our images block it until there is a handler
        code = cli.main(arguments, prog_name="cbw", standalone_mode=False) or 0
        sys.stdout.flush()
        sys.exit(code)
    except click.ClickException as error:
        place = where_from(error.message)
        if is_json:
            as_json(UsageError(error.format_message(), advice=place))
        else:
            output.misuse(error)
            if place:
                output.line(place, err=True)
        sys.exit(UsageError.exit_code)  # click has another one for a file that cannot be opened
    except (click.Abort, KeyboardInterrupt):
        sys.exit(130)
    except CbwError as error:  # before OSError, which Expired is too, as a TimeoutError
        _fail(error, is_json=is_json)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(1)
    except OSError as error:  # a full disk under our output, most often
        with contextlib.suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python would try once more at the end
        _fail(_of_the_system(error), is_json=is_json)
    except UnicodeEncodeError as error:  # what Python makes of an argument or a variable that is no UTF-8
        wrong = UsageError(f"{error.object!r} is no UTF-8 text", advice="Check the arguments and the environment.")
        _fail(wrong, is_json=is_json)


def _open_streams(*, is_role: bool) -> None:
    """Put something in the place of streams that were closed by whoever started us, or sockets would get their numbers.

    A role works on without its output. That of any other command is its purpose, so that printing fails.
    """
    output_access = os.O_WRONLY if is_role else os.O_RDONLY
    for name, mode, access in (
        ("stdin", "r", os.O_RDONLY),
        ("stdout", "w", output_access),
        ("stderr", "w", os.O_WRONLY),
    ):
        if getattr(sys, name) is None:
            setattr(sys, name, io.open(os.open(os.devnull, access), mode))  # noqa: SIM115, UP020 - as long as we live


def _of_the_system(error: OSError) -> CbwError:
    if isinstance(error, FileNotFoundError) and error.filename is None:  # only os.getcwd() does not say which
        return UsageError("the current folder is not there any more", advice="Change to another one.")
    if error.errno == errno.EBADF:
        return CbwError("standard output is closed, so nothing can be printed")
    return CbwError(f"{error.strerror or error}{f': {error.filename}' if error.filename else ''}")


def _fail(error: CbwError, *, is_json: bool) -> NoReturn:
    (as_json if is_json else for_people)(error)
    sys.exit(error.exit_code)
