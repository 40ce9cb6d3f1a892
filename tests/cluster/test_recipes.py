"""Cluster descriptions and the image, as far as they can be checked where none of these platforms is."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from pipelines.configs.reading import load_config
from tests.cluster.head import REPOSITORY

CLUSTER = REPOSITORY / "cluster"
KUBERNETES = "1.33"
# The fields of RayJobSpec and its parts in KubeRay 1.5's ray.io/v1 that such a manifest may use.
RAY_JOB = {
    *("entrypoint", "runtimeEnvYAML", "metadata", "backoffLimit", "activeDeadlineSeconds", "submissionMode", "suspend"),
    *("shutdownAfterJobFinishes", "ttlSecondsAfterFinished", "rayClusterSpec", "submitterConfig", "entrypointNumCpus"),
}
RAY_CLUSTER = {"rayVersion", "authOptions", "headGroupSpec", "workerGroupSpecs", "enableInTreeAutoscaling"}
HEAD_GROUP = {"serviceType", "enableIngress", "rayStartParams", "template"}
WORKER_GROUP = {"groupName", "replicas", "minReplicas", "maxReplicas", "rayStartParams", "template"}


def pinned(package: str) -> str:
    """The version in constraints.txt."""
    text = (REPOSITORY / "constraints.txt").read_text(encoding="utf-8")
    return re.findall(rf"^{package}==(\S+)$", text, re.MULTILINE)[0]


@pytest.mark.parametrize("name", ["ray-aws.yaml", "ray-on-premise.yaml"])
def test_ray_takes_its_cluster_descriptions(name: str) -> None:
    from ray.autoscaler._private.util import prepare_config, validate_config

    described = yaml.safe_load((CLUSTER / name).read_text(encoding="utf-8"))
    validate_config(prepare_config(described))
    heads = " ".join(described["head_start_ray_commands"])
    assert "RAY_AUTH_MODE=token" in heads and "RAY_AUTH_MODE=token" in described["worker_start_ray_commands"][-1]
    assert "--dashboard-host=127.0.0.1" in heads or "start-node.sh head" in heads  # which says so itself


def test_ray_refuses_a_description_with_a_wrong_key() -> None:
    from jsonschema import ValidationError
    from ray.autoscaler._private.util import prepare_config, validate_config

    described = yaml.safe_load((CLUSTER / "ray-aws.yaml").read_text(encoding="utf-8"))
    with pytest.raises(ValidationError, match="max_wokers"):
        validate_config(prepare_config(described | {"max_wokers": 3}))


@pytest.fixture(scope="module")
def manifest() -> dict[str, dict[str, Any]]:
    """The documents of rayjob.yaml by kind."""
    text = (CLUSTER / "rayjob.yaml").read_text(encoding="utf-8")
    return {found["kind"]: found for found in yaml.safe_load_all(text)}


def pods(manifest: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    cluster = manifest["RayJob"]["spec"]["rayClusterSpec"]
    groups = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
    return [group["template"]["spec"] for group in groups]


def test_kubernetes_takes_the_config_map_and_the_pods(manifest: dict[str, dict[str, Any]]) -> None:
    kubernetes_validate.validate(manifest["ConfigMap"], KUBERNETES, strict=True)
    for spec in pods(manifest):
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "nullspace"}, "spec": spec}
        kubernetes_validate.validate(pod, KUBERNETES, strict=True)
        pod["spec"] = spec | {"containres": []}
        with pytest.raises(kubernetes_validate.ValidationError):
            kubernetes_validate.validate(pod, KUBERNETES, strict=True)


def test_the_ray_job_has_known_fields_and_this_ray(manifest: dict[str, dict[str, Any]]) -> None:
    job = manifest["RayJob"]
    cluster = job["spec"]["rayClusterSpec"]
    assert (job["apiVersion"], set(job)) == ("ray.io/v1", {"apiVersion", "kind", "metadata", "spec"})
    assert set(job["spec"]) <= RAY_JOB and set(cluster) <= RAY_CLUSTER
    assert set(cluster["headGroupSpec"]) <= HEAD_GROUP
    for group in cluster["workerGroupSpecs"]:
        assert set(group) <= WORKER_GROUP
        assert group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]
    for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        assert all(isinstance(value, str) for value in group["rayStartParams"].values())
    assert cluster["rayVersion"] == pinned("ray")


def test_the_manifest_keeps_secrets_and_doors_shut(manifest: dict[str, dict[str, Any]]) -> None:
    cluster = manifest["RayJob"]["spec"]["rayClusterSpec"]
    head = cluster["headGroupSpec"]
    assert cluster["authOptions"] == {"mode": "token"}
    assert head["serviceType"] == "ClusterIP" and head["enableIngress"] is False
    for spec in pods(manifest):
        assert spec["securityContext"]["runAsNonRoot"] is True and spec["automountServiceAccountToken"] is False
        (container,) = spec["containers"]
        assert container["securityContext"]["allowPrivilegeEscalation"] is False
        secret = {env["name"]: env for env in container["env"] if re.search("PASSWORD|USERNAME|TOKEN|KEY", env["name"])}
        assert len(secret) == 2
        assert all("value" not in env and "secretKeyRef" in env["valueFrom"] for env in secret.values())
        assert {mount["name"] for mount in container["volumeMounts"]} == {volume["name"] for volume in spec["volumes"]}


def test_the_config_in_the_manifest_is_one(manifest: dict[str, dict[str, Any]], tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(manifest["ConfigMap"]["data"]["config.yaml"], encoding="utf-8")
    settings = load_config(config)
    job = manifest["RayJob"]["spec"]
    assert job["entrypoint"] == f"nullspace run /etc/nullspace/config.yaml --workdir /shared/runs/{settings.name}"
    assert yaml.safe_load(job["runtimeEnvYAML"]) == {"env_vars": {"RAY_JOB_STOP_WAIT_TIME_S": "300"}}


@pytest.fixture(scope="module")
def dockerfile() -> list[tuple[str, str]]:
    """(instruction, the rest) of the Dockerfile, continued lines joined."""
    text = (CLUSTER / "Dockerfile").read_text(encoding="utf-8")
    lines = re.sub(r"\\\n\s*", "", re.sub(r"^#.*\n", "", text, flags=re.MULTILINE)).splitlines()
    return [(line.split(maxsplit=1)[0], line.split(maxsplit=1)[1]) for line in lines if line]


def test_the_image_is_made_of_fixed_versions(dockerfile: list[tuple[str, str]]) -> None:
    base = dict(dockerfile)["FROM"]
    assert re.fullmatch(r"python:3\.1[123]\.\d+-slim-[a-z]+", base)
    installs = [rest for word, rest in dockerfile if word == "RUN" and "pip install" in rest]
    assert all("--constraint constraints.txt" in rest or "--no-deps" in rest for rest in installs) and installs
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert f"nullspace:{project['version']}" in (CLUSTER / "Dockerfile").read_text(encoding="utf-8")
    for name in ("rayjob.yaml", "ray-aws.yaml"):
        assert f"/nullspace:{project['version']}\n" in (CLUSTER / name).read_text(encoding="utf-8")


def test_the_image_installs_every_dependency(dockerfile: list[tuple[str, str]]) -> None:
    (listing,) = re.findall(r"python -c '(.*?)'", " ".join(rest for _, rest in dockerfile))
    done = subprocess.run([sys.executable, "-c", listing], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert done.stdout.splitlines() == project["dependencies"]


@pytest.mark.skipif(shutil.which("hadolint") is None, reason="hadolint is not installed")
def test_the_dockerfile_is_good_style() -> None:
    done = subprocess.run(["hadolint", str(CLUSTER / "Dockerfile")], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_the_image_copies_what_is_there_and_no_more(dockerfile: list[tuple[str, str]]) -> None:
    sources = {source for word, rest in dockerfile if word == "COPY" for source in rest.split()[:-1]}
    assert all((REPOSITORY / source).exists() for source in sources)
    ignore = (REPOSITORY / ".dockerignore").read_text(encoding="utf-8").splitlines()
    rules = [line for line in ignore if line and not line.startswith("#")]
    assert rules[0] == "*" and {rule[1:] for rule in rules if rule.startswith("!")} == sources
    assert {"nullspace", "pipelines", "cluster", "pyproject.toml", "constraints.txt", "README.md", "LICENSE"} == sources


def test_the_image_does_not_run_as_root(dockerfile: list[tuple[str, str]]) -> None:
    words = [word for word, _ in dockerfile]
    assert dict(dockerfile)["USER"] == "1000:1000" and words.index("USER") > max(
        number for number, word in enumerate(words) if word in ("RUN", "COPY")
    )
    assert ("ARG", "NULLSPACE_GIT_COMMIT") in dockerfile
    assert ("ENV", "NULLSPACE_GIT_COMMIT=${NULLSPACE_GIT_COMMIT}") in dockerfile
