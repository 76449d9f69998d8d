"""The page on control names every service, and every field of what is asked and answered."""

from __future__ import annotations

from pathlib import Path

import pytest

from cbw.core.broker.schemas import QUERIES, SCHEMA, schema

PAGE = (Path(__file__).parents[2] / "docs" / "reference" / "control.md").read_text()


@pytest.mark.parametrize("service", [name for name in QUERIES if not name.startswith("cbw.dead.")])
def test_a_service_is_on_the_page_with_its_fields(service: str) -> None:
    (row,) = (line for line in PAGE.splitlines() if line.startswith(f"| `{service}` |"))
    told = schema()
    for side in ("asks", "answers"):
        name = told["services"][service][side].get("$ref", "").removeprefix("#/$defs/")
        for field in told["$defs"].get(name, {}).get("properties", ()):
            assert f"`{field}`" in row or f'"{field}": true' in row, f"{field} of {service}"
    assert f"`{SCHEMA}`" in PAGE
