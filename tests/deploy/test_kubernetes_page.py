"""What ``docs/howto/kubernetes.md`` shows, as far as it goes without a cluster: helm takes it, and what it names is there."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from cbw.core.broker.snapshot import snapshot
from tests.unit.core.broker.system import CoreSystem

from .chart import CHART, helm, rendered
from .engine import ROOT
from .test_files import exists

PAGE = ROOT / "docs" / "howto" / "kubernetes.md"
BLOCKS = re.findall(r"^```(yaml|sh)\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
VALUES: list[dict[str, Any]] = [yaml.safe_load(text) for kind, text in BLOCKS if kind == "yaml"]
COMMANDS = [text for kind, text in BLOCKS if kind == "sh"]
HELM = [
    shlex.split(line)[1:] for text in COMMANDS for line in text.splitlines() if re.match("helm (install|upgrade)", line)
]


@pytest.mark.parametrize("values", VALUES, ids=lambda values: ",".join(values))
def test_its_values_are_taken(values: dict[str, Any]) -> None:
    assert rendered(values)


@pytest.mark.parametrize("words", HELM, ids=lambda words: words[0])
def test_its_commands_are_taken(words: list[str]) -> None:
    words = ["install" if word == "upgrade" else word for word in words if word != "--reuse-values"]
    done = helm(*(CHART if word == "deploy/helm/cbw" else word for word in words), "--dry-run=client")
    assert done.returncode == 0, done.stderr


def test_what_it_names_is_there() -> None:
    manifests = rendered({})
    made = {(it["kind"], it["metadata"]["name"]): it for it in manifests}
    shown = "".join(COMMANDS)
    for pod in re.findall(r"kubectl exec (\S+)-0 ", shown):
        assert ("StatefulSet", pod) in made
    assert {("Service", name) for name in re.findall(r"--broker (\S+):9998", shown)} == {("Service", "cbw-broker")}
    for line in shown.splitlines():
        for command in re.findall(r"(?:^|-- )(cbw [^|]+)", line.strip()):
            exists(shlex.split(command))
    logger = made["StatefulSet", "cbw-logger"]["spec"]["template"]["spec"]["containers"][0]
    assert "/var/log/cbw" in {mount["mountPath"] for mount in logger["volumeMounts"]} and "/var/log/cbw/logs" in shown


def test_what_a_pod_costs_is_what_its_worker_has_in_hand(tmp_path: Path) -> None:
    system = CoreSystem()
    system.client()
    system.worker("WOR_cbw-worker-pictures-a", concurrency=4)
    system.worker("WOR_cbw-worker-pictures-b")
    system.lose_worker("WOR_cbw-worker-pictures-b")
    system.worker("WOR_cbw-worker-pictures-c")
    system.ask(1, 2)
    (tmp_path / "status.json").write_text(json.dumps(snapshot(system.core, system.now)))
    kubectl = tmp_path / "kubectl"
    kubectl.write_text('#!/bin/sh\nif [ "$1" = get ]; then cat status.json; else echo "$@"; fi\n')  # the cluster's part
    kubectl.chmod(0o755)
    (script,) = [text for text in COMMANDS if "pod-deletion-cost" in text]
    environment = {"PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(
        ["bash", "-ec", script], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
    )
    told = dict(
        re.findall(r"annotate pod (\S+) --overwrite controller.kubernetes.io/pod-deletion-cost=(\d+)", done.stdout)
    )
    assert told == {"cbw-worker-pictures-a": "1", "cbw-worker-pictures-c": "1"}
