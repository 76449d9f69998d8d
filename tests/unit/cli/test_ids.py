"""The id of a role as the first argument of its command."""

from __future__ import annotations

import click
import pytest

from cbw.cli.connection import role_id
from cbw.errors import UsageError


@pytest.mark.parametrize("place", ["bro1:9999", "bro1:9999,bro2:9999", "[::1]:9999", "127.0.0.1:1,[fe80::1]:2"])
def test_the_place_of_a_broker_is_no_id(place: str) -> None:
    with pytest.raises(click.UsageError, match="stands in the place of an id"):
        role_id(place, "WOR", None)


def test_an_id_may_have_a_colon_and_a_number_where_the_broker_is_given_too() -> None:
    assert role_id("rack:3", "WOR", "bro1") == "rack:3"


def test_other_ids_are_as_they_are() -> None:
    assert role_id("W1", "WOR", None) == "W1"
    assert role_id("rack:left", "WOR", None) == "rack:left"
    assert role_id(None, "WOR", None).startswith("WOR_")
    with pytest.raises(UsageError):
        role_id("", "WOR", None)
