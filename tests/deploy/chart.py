"""The chart in ``deploy/helm``, rendered by helm."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from .engine import DEPLOY, ROOT

CHART = DEPLOY / "helm" / "cbw"
NAMESPACE = "shop"
_HELM = ROOT / "build" / "helm" / "helm"
Manifest = dict[str, Any]


def helm(*words: object, values: Mapping[str, Any] | None = None) -> subprocess.CompletedProcess[str]:
    """``helm WORDS`` to its end, with ``values`` over those of the chart."""
    program = str(_HELM) if _HELM.is_file() else shutil.which("helm")
    if program is None:
        pytest.skip("helm is not here: make build/helm/helm")
    command = [program, *map(str, words), *(("--values", "-") if values is not None else ())]
    return subprocess.run(
        command, input=json.dumps(values or {}), capture_output=True, text=True, timeout=60, check=False
    )


def template(values: Mapping[str, Any], release: str = "cbw", chart: Path = CHART) -> subprocess.CompletedProcess[str]:
    """What ``helm template`` prints with ``values``."""
    return helm("template", release, chart, "--namespace", NAMESPACE, values=values)


def rendered(values: Mapping[str, Any], release: str = "cbw") -> list[Manifest]:
    """The manifests of a release with ``values``."""
    done = template(values, release)
    assert done.returncode == 0, done.stderr
    return [manifest for manifest in yaml.safe_load_all(done.stdout) if manifest]


def one(manifests: list[Manifest], kind: str, name: str) -> Manifest:
    """The only one of this kind and name."""
    (found,) = [it for it in manifests if (it["kind"], it["metadata"]["name"]) == (kind, name)]
    return found


def pod_of(manifest: Manifest) -> Manifest:
    """The pod that it makes, or is."""
    pod: Manifest = manifest if manifest["kind"] == "Pod" else manifest["spec"]["template"]
    return pod


def pods(manifests: list[Manifest]) -> dict[str, Manifest]:
    """The pods that they make, by the names of those that make them."""
    kinds = ("StatefulSet", "Deployment", "Pod")
    return {it["metadata"]["name"]: pod_of(it) for it in manifests if it["kind"] in kinds}
