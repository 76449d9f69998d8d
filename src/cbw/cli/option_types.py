"""The types of the values of options: importing them takes no time, as every command does."""

from __future__ import annotations

import math
from typing import Any

import click

from cbw.settings import Setting


class Integer(click.IntRange):
    """A whole number within bounds."""

    name = "integer"


class Number(click.FloatRange):
    """A number within bounds, which ``nan`` is not."""

    name = "number"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        number = super().convert(value, param, ctx)
        if math.isnan(number):
            self.fail(f"{value!r} is not a valid {self.name}.", param, ctx)
        return number


port = Integer(0, 65535)
logger_port = Integer(0, 65534)
"""Of a logger, whose records have the next one up."""


def setting_type(setting: Setting) -> Any:
    """What takes the values of ``setting`` on the command line."""
    if setting.choices:
        return click.Choice(setting.choices)
    if setting.type is int:
        low = None if setting.minimum is None else int(setting.minimum)
        high = None if setting.maximum is None else int(setting.maximum)
        return Integer(low, high)
    if setting.type is float:
        return Number(setting.minimum, setting.maximum)
    return click.STRING
