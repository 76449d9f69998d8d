"""``cbw logger``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from cbw import settings
from cbw.cli.option_types import logger_port
from cbw.cli.options import (
    ServeStatus,
    announce,
    keys_option,
    setting_options,
    status_options,
    times_option,
    warn_if_open,
)
from cbw.logger.logger import Logger
from cbw.signals import reopening, stopping


@click.command("logger", context_settings={"max_content_width": 110})
@click.argument("text_port", type=logger_port, default=settings.LOG_PORT, metavar="[PORT]")
@click.argument("file", type=click.Path(path_type=Path), default=None, metavar="[FILE]")
@setting_options(settings.LOGGER_DIR, *settings.LOGGER)
@keys_option
@times_option
@status_options
def command(text_port: int, file: Path | None, logger_dir: str, serve_status: ServeStatus, **options: Any) -> None:
    """The central logger: writes what all roles send into FILE (default: "logs" in LOGGER_DIR).

    \b
    cbw logger 9995 cbw-logs/logs

    PORT (9995) accepts lines of text from any PUSH socket. The next port up accepts records from the other roles and
    acknowledges them. Read the file with cbw logs. On SIGHUP the logger opens it anew, as logrotate needs.
    """
    file = file or Path(logger_dir) / "logs"
    logger = Logger(text_port, file, **options)
    warn_if_open(logger.listen, has_keys=logger.guard is not None)
    with stopping(logger), reopening(logger.reopen), serve_status(logger.inquiry.ask):
        announce(
            f"{logger.core.name} logs to {file}: text on port {logger.text_port}, records on port {logger.record_port}"
        )
        logger.run()
