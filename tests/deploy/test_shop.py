"""``examples/shop`` as containers: its own image, and its Compose file, used as its README says."""

from __future__ import annotations

import json
import shutil
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.live.program import wait_until
from tests.ports import free_port

from .engine import LABEL, ROOT, Project, docker, must, service_override

pytestmark = pytest.mark.timeout(500)
SHOP = ROOT / "examples" / "shop"


@pytest.fixture(scope="module")
def shop_image(images: dict[str, str], tag: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Made of this checkout's base, and otherwise as its Dockerfile says."""
    copy = tmp_path_factory.mktemp("shop") / "shop"
    shutil.copytree(SHOP, copy, ignore=shutil.ignore_patterns("__pycache__", ".pytest_cache"))
    file = copy / "Dockerfile"
    file.write_text(file.read_text().replace("FROM tsr-zmq\n", f"FROM {images['tsr-zmq']}\n"))
    name = f"imshop:{tag}"
    must("build", "--quiet", "--label", f"{LABEL}=1", "-t", name, copy, within_s=400)
    yield name
    docker("image", "rm", "--force", name)


class Shop:
    """The project, and its web server."""

    def __init__(self, project: Project, port: int) -> None:
        self.project = project
        self.url = f"http://127.0.0.1:{port}"

    def ask(self, path: str, method: str = "GET") -> tuple[int, Any]:
        """The status and the body, which is JSON."""
        request = urllib.request.Request(self.url + path, method=method)
        try:
            with urllib.request.urlopen(request, timeout=20) as response:
                return response.status, json.load(response)
        except urllib.error.HTTPError as error:
            return error.code, json.load(error)


@pytest.fixture
def shop(images: dict[str, str], shop_image: str, tmp_path: Path) -> Iterator[Shop]:
    override, port = tmp_path / "images.yml", free_port()
    own = dict.fromkeys(("stock", "adviser", "web"), shop_image)
    override.write_text(service_override({"bro": images["tsr-zmq"], **own}))
    project = Project(SHOP / "docker-compose.yml", override, {"WEB_PUBLISHED": str(port)})
    yield Shop(project, port)
    project.down()


def test_the_shop_in_containers(shop: Shop) -> None:
    shop.project.must("up", "--detach", "--no-build", "--wait", within_s=200)
    assert shop.ask("/articles/tea?count=3") == (200, {"article": "tea", "cents": 1470})
    assert shop.ask("/articles/tea/orders?count=10", "POST") == (200, {"article": "tea", "left": 2})
    status, said = shop.ask("/articles/tea/orders?count=10", "POST")
    assert (status, said["code"]) == (409, "not_enough")
    with urllib.request.urlopen(f"{shop.url}/articles/tea/description", timeout=30) as words:
        assert words.readline() == b"event: word\n" and words.readline() == b'data: "Green"\n'
    with urllib.request.urlopen(shop.url, timeout=20) as page:
        assert b"<html" in page.read()
    for container in shop.project.containers():
        assert container["HostConfig"]["ReadonlyRootfs"] and container["Config"]["User"] == "cbw"

    shop.project.must("stop", "stock")
    assert [one["State"]["ExitCode"] for one in shop.project.containers("stock")] == [0]
    wait_until(lambda: shop.ask("/articles/tea/orders", "POST")[1]["code"] == "no_worker", "nobody serves the stock")
    shop.project.must("start", "stock")
    wait_until(lambda: shop.ask("/articles/tea?count=1")[0] == 200, "the stock is back")

    shop.project.must("stop", within_s=60)
    codes = {one["Name"]: one["State"]["ExitCode"] for one in shop.project.containers()}
    assert set(codes.values()) == {0}, codes
