"""The chart for Kubernetes, without a cluster: what helm makes of it is valid, whatever the values, and says what it should."""

from __future__ import annotations

import importlib
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

import cbw

from .chart import CHART, NAMESPACE, Manifest, helm, one, pods, rendered, template
from .engine import DEPLOY
from .test_files import ENVIRONMENT, exists

KUBERNETES = ("1.27.0", "1.37.0")
"""The oldest version that Chart.yaml takes, and the newest of which there are schemas."""
OF_OPERATORS = {
    "PodMonitor": "cloudcoil.models.prometheus_operator.v1",
    "PrometheusRule": "cloudcoil.models.prometheus_operator.v1",
    "ScaledObject": "cloudcoil.models.keda.v1alpha1",
    "TriggerAuthentication": "cloudcoil.models.keda.v1alpha1",
}
"""Kinds that are no part of Kubernetes, and where their models are. To import them takes seconds, so only who needs them does."""
NATS: dict[str, Any] = {
    "replicas": 3,
    "journal": {"type": "nats", "nats": {"servers": ["n1:4222", "n2:4222", "n3"], "name": "shop"}},
}
SECRET = {"existingSecret": "nats-user", "credentials": "nats.creds", "ca": "ca.pem"}
KEYS = {"keys": {"existingSecret": "cbw-keys"}}
SCALED = {"workers": [{"name": "thumbs", "concurrency": 4, "scale": {"service": "thumb.small", "min": 0, "max": 9}}]}
VALUES: dict[str, dict[str, Any]] = {
    "defaults": {},
    "keys": KEYS,
    "no journal": {"broker": {"journal": {"type": "none"}}},
    "a file": {"broker": {"journal": {"file": {"size": "20Gi", "storageClass": "fast"}}, "env": {"CBW_VERBOSE": True}}},
    "nats": {"broker": NATS},
    "nats with files": {
        "broker": {**NATS, "journal": {**NATS["journal"], "nats": {**NATS["journal"]["nats"], **SECRET}}},
        **KEYS,
    },
    "exposed": {"broker": {"expose": {"type": "LoadBalancer", "annotations": {"a/b": "c"}}}},
    "alone": {"workers": [], "logger": {"enabled": False}, "networkPolicy": {"enabled": False}},
    "nobody reads status": {"networkPolicy": {"status": [], "clients": [], "workers": [{"podSelector": {}}]}},
    "monitored": {
        "monitoring": {"podMonitor": True, "rules": True, "labels": {"release": "p"}, "dashboard": True},
        **KEYS,
    },
    "scaled by the status page": {**SCALED, **KEYS},
    "scaled by Prometheus": {**SCALED, "broker": NATS, "keda": {"prometheus": "http://prometheus:9090"}},
    "all that a group may have": {
        "imagePullSecrets": [{"name": "registry"}],
        "workers": [
            {
                "name": "a",
                "replicas": 0,
                "image": "shop:7",
                "args": ["--handler", "price=shop:price"],
                "concurrency": 8,
                "graceSeconds": 300,
                "env": {"SHOP": 1},
                "envFrom": [{"secretRef": {"name": "shop"}}],
                "resources": {"limits": {"memory": "1Gi"}},
                "annotations": {"controller.kubernetes.io/pod-deletion-cost": "5"},
                "nodeSelector": {"disk": "ssd"},
                "tolerations": [{"key": "gpu", "operator": "Exists"}],
                "existingSecret": "own-key",
            },
            {"name": "b"},
        ],
        **KEYS,
    },
}

pytestmark = pytest.mark.slow  # each of them calls helm


@pytest.mark.parametrize("values", VALUES.values(), ids=VALUES)
def test_every_manifest_is_valid_for_each_version_of_kubernetes(values: dict[str, Any]) -> None:
    import kubernetes_validate  # type: ignore[import-untyped]  # here: it takes a second, of every process that runs tests

    assert (done := helm("lint", "--strict", CHART, values=values)).returncode == 0, done.stdout
    manifests = rendered(values)
    names = [(it["kind"], it["metadata"]["name"]) for it in manifests]
    assert len(names) == len(set(names))
    for manifest in manifests:
        if (kind := manifest["kind"]) in OF_OPERATORS:
            model = getattr(importlib.import_module(OF_OPERATORS[kind]), kind)
            known = model.model_validate(manifest).model_dump(by_alias=True, exclude_unset=True, mode="json")
            assert known == manifest, "a field that nobody knows is passed over"
            continue
        for version in KUBERNETES:
            kubernetes_validate.validate(manifest, version, strict=True)


@pytest.mark.parametrize("values", VALUES.values(), ids=VALUES)
def test_every_pod_keeps_the_rules(values: dict[str, Any]) -> None:
    for name, pod in pods(rendered(values)).items():
        spec = pod["spec"]
        (container,) = spec["containers"]
        assert spec["securityContext"]["runAsNonRoot"] and spec["securityContext"]["runAsUser"] == 10001
        assert not spec["automountServiceAccountToken"] and not spec["enableServiceLinks"]
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        exists(container["args"])
        assert container["resources"]["limits"]["memory"]
        settings = {variable["name"]: variable["value"] for variable in container.get("env", [])}
        assert {name for name in settings if name.startswith(("CBW_", "BROKER_", "LOGGER_"))} <= ENVIRONMENT
        mounted = {mount["name"] for mount in container["volumeMounts"]}
        claimed = {"journal", "log"} & mounted
        assert mounted - claimed == {volume["name"] for volume in spec["volumes"]}, name
        if not name.endswith("-verify"):
            grace = [float(text) for variable, text in settings.items() if variable.endswith("_GRACE_S")]
            assert all(spec["terminationGracePeriodSeconds"] >= seconds + 5 for seconds in grace)
            assert container["livenessProbe"] and container["readinessProbe"]


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"broker": {"replicas": 2}}, "several brokers need one journal"),
        ({"broker": {"journal": {"type": "nats"}}}, "name the NATS servers"),
        ({"broker": {"journal": {"type": "nats", "nats": {"servers": ["n"], "ca": "c"}}}}, "name the Secret"),
        ({**SCALED, "broker": NATS}, "keda.prometheus"),
        ({"broker": {"journal": {"type": "redis"}}}, "journal/type"),
        ({"borker": {}}, "borker"),
        ({"workers": [{"replicas": 1}]}, "name"),
        ({"workers": [{"name": "a", "replicas": 1, "scale": SCALED["workers"][0]["scale"]}]}, "not"),
        ({"workers": [{"name": "a", "scale": {"service": 'a"b', "min": 0, "max": 1}}]}, "service"),
    ],
)
def test_values_that_make_no_sense_are_refused(values: dict[str, Any], said: str) -> None:
    done = template(values)
    assert done.returncode != 0 and said in done.stderr, done.stderr


def test_the_version_is_that_of_cbw_and_the_alerts_are_those_of_prometheus() -> None:
    assert yaml.safe_load((CHART / "Chart.yaml").read_text())["appVersion"] == cbw.__version__
    rules = (DEPLOY / "observability" / "rules.yml").read_text()
    assert (CHART / "files" / "rules.yml").read_text() == rules, "copy the rules into the chart"
    made = one(rendered(VALUES["monitored"]), "PrometheusRule", "cbw")
    assert made["spec"] == yaml.safe_load(rules)
    assert made["metadata"]["labels"]["release"] == "p"
    dashboard = (DEPLOY / "observability" / "dashboard.json").read_text()
    assert (CHART / "files" / "dashboard.json").read_text() == dashboard, "copy the dashboard into the chart"
    kept = one(rendered(VALUES["monitored"]), "ConfigMap", "cbw-dashboard")
    assert kept["data"] == {"cbw.json": dashboard} and kept["metadata"]["labels"]["grafana_dashboard"] == "1"


def test_the_alerts_of_the_chart_are_taken_by_prometheus(tmp_path: Path) -> None:
    if (promtool := shutil.which("promtool")) is None:
        pytest.skip("prometheus is not installed")
    file = tmp_path / "rules.yml"
    file.write_text(yaml.safe_dump(one(rendered(VALUES["monitored"]), "PrometheusRule", "cbw")["spec"]))
    subprocess.run([promtool, "check", "rules", file], check=True, capture_output=True)


def test_services_and_policies_find_their_pods() -> None:
    manifests = rendered({})
    made = pods(manifests)
    labels = {name: pod["metadata"]["labels"] for name, pod in made.items()}

    def found(selector: dict[str, str]) -> set[str]:
        return {name for name, its in labels.items() if selector.items() <= its.items()}

    assert found(one(manifests, "Service", "cbw-broker")["spec"]["selector"]) == {"cbw-broker"}
    assert found(one(manifests, "Service", "cbw-logger")["spec"]["selector"]) == {"cbw-logger"}
    broker = one(manifests, "NetworkPolicy", "cbw-broker")["spec"]
    assert found(broker["podSelector"]["matchLabels"]) == {"cbw-broker"}
    clients, workers, status = broker["ingress"]
    assert [rule["ports"] for rule in (clients, workers, status)] == [[{"port": port}] for port in (9998, 9999, 9997)]
    serving = [found(peer["podSelector"]["matchLabels"]) for peer in workers["from"]]
    assert serving == [{"cbw-worker-demo"}, {"cbw-verify"}]
    logger = one(manifests, "NetworkPolicy", "cbw-logger")["spec"]["ingress"][0]
    assert found(logger["from"][0]["podSelector"]["matchLabels"]) == made.keys()


def test_two_releases_of_one_namespace_do_not_meet() -> None:
    def selectors(release: str) -> list[Manifest]:
        kinds = ("Deployment", "StatefulSet")
        return [it["spec"]["selector"]["matchLabels"] for it in rendered({}, release) if it["kind"] in kinds]

    assert not [one for one in selectors("shop") if one in selectors("blog")]
    names = {it["metadata"]["name"] for it in rendered({}, "shop")}
    assert "shop-cbw-broker" in names and not names & {it["metadata"]["name"] for it in rendered({}, "blog")}


def test_brokers_that_stand_by() -> None:
    manifests = rendered(VALUES["nats with files"])
    broker = one(manifests, "StatefulSet", "cbw-broker")["spec"]
    assert (broker["replicas"], broker["podManagementPolicy"]) == (3, "Parallel")
    assert "volumeClaimTemplates" not in broker
    pod = broker["template"]["spec"]
    assert pod["affinity"]["podAntiAffinity"]
    environment = {it["name"]: it["value"] for it in pod["containers"][0]["env"]}
    files = "credentials=/run/cbw/nats/nats.creds&ca=/run/cbw/nats/ca.pem"
    assert environment["CBW_BROKER_JOURNAL"] == f"nats://n1:4222,n2:4222,n3/shop?{files}"
    assert one(manifests, "Service", "cbw-broker")["spec"]["clusterIP"] == "None"
    assert one(manifests, "PodDisruptionBudget", "cbw-broker")["spec"]["maxUnavailable"] == 1


def test_brokers_that_serve_each_with_a_journal() -> None:
    nats = {"type": "nats", "nats": {"servers": ["n1:4222"], "name": "shop-1,shop-2"}}
    manifests = rendered({"broker": {"replicas": 3, "journal": nats}})
    (container,) = one(manifests, "StatefulSet", "cbw-broker")["spec"]["template"]["spec"]["containers"]
    environment = {it["name"]: it["value"] for it in container["env"]}
    assert environment["CBW_BROKER_JOURNAL"] == "nats://n1:4222/shop-1,shop-2"


def test_who_starts_workers_goes_by_the_workers_wanted() -> None:
    manifests = rendered(VALUES["scaled by the status page"])
    assert "replicas" not in one(manifests, "Deployment", "cbw-worker-thumbs")["spec"]
    spec = one(manifests, "ScaledObject", "cbw-worker-thumbs")["spec"]
    assert (spec["minReplicaCount"], spec["maxReplicaCount"]) == (0, 9)
    (trigger,) = spec["triggers"]
    assert (trigger["type"], trigger["metricType"]) == ("metrics-api", "AverageValue")
    assert trigger["metadata"] == {
        "url": f"http://cbw-broker.{NAMESPACE}.svc:9997/status.json",
        "valueLocation": 'workers_wanted.#(service=="thumb.small").wanted',
        "targetValue": "1",
        "authMode": "bearer",
    }
    token = one(manifests, "TriggerAuthentication", trigger["authenticationRef"]["name"])["spec"]["secretTargetRef"]
    assert token == [{"parameter": "token", "name": "cbw-keys-client", "key": "status.token"}]
    (trigger,) = one(rendered(VALUES["scaled by Prometheus"]), "ScaledObject", "cbw-worker-thumbs")["spec"]["triggers"]
    query = f'sum(cbw_workers_wanted{{namespace="{NAMESPACE}",service="thumb.small"}}) or vector(0)'
    assert (trigger["type"], trigger["metadata"]["query"], trigger["metadata"]["threshold"]) == (
        "prometheus",
        query,
        "1",
    )


def test_the_monitor_scrapes_the_port_of_every_pod() -> None:
    manifests = rendered(VALUES["monitored"])
    (endpoint,) = one(manifests, "PodMonitor", "cbw")["spec"]["podMetricsEndpoints"]
    for name, pod in pods(manifests).items():
        ports = {port["name"]: port["containerPort"] for port in pod["spec"]["containers"][0].get("ports", [])}
        assert name.endswith("-verify") or ports[endpoint["port"]] == 9997
    assert endpoint["authorization"]["credentials"] == {"name": "cbw-keys-client", "key": "status.token"}


def test_the_notes_say_where_the_broker_is_and_what_is_missing() -> None:
    def notes(values: dict[str, Any]) -> str:
        done = helm("install", "shop", CHART, "--namespace", NAMESPACE, "--dry-run=client", values=values)
        assert done.returncode == 0, done.stderr
        return done.stdout.partition("NOTES:")[2]

    said = notes({})
    assert f"echo hello | cbw call --broker shop-cbw-broker.{NAMESPACE}:9998" in said
    assert "shop-cbw-logger-0 -- cbw logs /var/log/cbw/logs --follow" in said
    assert "Nothing is encrypted" in said and "Nothing is encrypted" not in notes(KEYS)
