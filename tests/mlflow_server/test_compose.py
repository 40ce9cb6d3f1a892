"""mlflow/compose.yaml: valid, pinned, closed to the outside, without passwords of its own, running serve.sh."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from typing import Any

import pytest
import yaml

from tests.mlflow_server.programs import REPOSITORY
from tests.waiting import run

FOLDER = REPOSITORY / "mlflow"
TEXT = (FOLDER / "compose.yaml").read_text(encoding="utf-8")
DOCKERFILE = (FOLDER / "Dockerfile").read_text(encoding="utf-8")
EXAMPLE = (FOLDER / ".env.example").read_text(encoding="utf-8")
SERVICES: dict[str, dict[str, Any]] = yaml.safe_load(TEXT)["services"]
PINS = dict(re.findall(r"^([\w-]+)==(\S+)$", (REPOSITORY / "constraints.txt").read_text(), re.MULTILINE))
SECRETS = {"MLFLOW_AUTH_ADMIN_PASSWORD", "POSTGRES_PASSWORD", "S3_SECRET_KEY"}


@pytest.mark.parametrize(("secrets", "accepted"), [(SECRETS, True), (SECRETS - {"S3_SECRET_KEY"}, False)])
def test_compose_takes_the_file_with_all_secrets_and_refuses_it_without(secrets: set[str], accepted: bool) -> None:
    command = compose()
    environment = {k: v for k, v in os.environ.items() if k not in SECRETS} | dict.fromkeys(secrets, "x")
    options = ["--file", str(FOLDER / "compose.yaml"), "--env-file", os.devnull, "config", "--quiet"]
    done = run([*command, *options], env=environment)
    assert (done.returncode == 0) is accepted, done.stderr
    assert accepted or "required variable S3_SECRET_KEY is missing a value: set it in mlflow/.env" in done.stderr


def compose() -> list[str]:
    """Docker Compose, as a plugin or by itself; it needs no running Docker to check a file."""
    for command in (["docker", "compose"], ["docker-compose"]):
        if shutil.which(command[0]) and subprocess.run([*command, "version"], capture_output=True).returncode == 0:
            return command
    pytest.skip("Docker Compose is not there; the file is checked by the other tests alone")


@pytest.mark.parametrize("service", SERVICES)
def test_every_image_is_pinned_by_version(service: str) -> None:
    assert re.fullmatch(r"[\w/.-]+:\d+\.\d+(\.\d+)?(-[a-z]+)?", SERVICES[service]["image"])


def test_the_image_has_the_versions_the_tests_ran_with() -> None:
    assert SERVICES["mlflow"]["image"] == SERVICES["bucket"]["image"] == f"nullspace-mlflow:{PINS['mlflow']}"
    assert re.search(r"^FROM python:3\.11\.\d+-slim-\w+$", DOCKERFILE, re.MULTILINE)
    (names,) = re.findall(r"--constraint /tmp/constraints.txt (.+)$", DOCKERFILE, re.MULTILINE)
    assert [name for name in names.replace('"', "").split() if name.partition("[")[0] not in PINS] == []


def test_the_container_runs_the_script_with_settings_the_script_knows() -> None:
    assert "COPY --chmod=755 mlflow/serve.sh /srv/mlflow/serve.sh" in DOCKERFILE
    assert 'CMD ["/srv/mlflow/serve.sh"]' in DOCKERFILE
    assert "command" not in SERVICES["mlflow"] and "entrypoint" not in SERVICES["mlflow"]
    script = (FOLDER / "serve.sh").read_text()
    others = {"MLFLOW_AUTH_ADMIN_PASSWORD", "MLFLOW_S3_ENDPOINT_URL"}  # read by MLflow itself
    ours = {name for name in SERVICES["mlflow"]["environment"] if name.startswith("MLFLOW_")}
    assert [name for name in ours - others if name not in script] == []


def test_secrets_are_asked_for_and_have_no_default() -> None:
    assert set(re.findall(r"\$\{(\w+):\?", TEXT)) == SECRETS
    assert not SECRETS & set(re.findall(r"\$\{(\w+):-", TEXT))
    environment = {
        (name, key): value for name, service in SERVICES.items() for key, value in service["environment"].items()
    }
    given = {where: value for where, value in environment.items() if re.search(r"PASSWORD|SECRET", where[1])}
    assert given and all(re.fullmatch(r"\$\{\w+:\?[^}]+\}", value) for value in given.values()), given
    assert not re.search(r"://[^/\s]*:[^/\s@]*@", TEXT), "a password in an address"


def test_only_mlflow_is_open_and_to_this_machine_alone() -> None:
    assert {name for name, service in SERVICES.items() if service.get("ports")} == {"mlflow"}
    (port,) = SERVICES["mlflow"]["ports"]
    assert port == "${MLFLOW_HOST:-127.0.0.1}:${MLFLOW_PORT:-5000}:${MLFLOW_PORT:-5000}"
    assert all("network_mode" not in service and "privileged" not in service for service in SERVICES.values())
    assert SERVICES["mlflow"]["environment"]["MLFLOW_SERVER_ALLOWED_HOSTS"].endswith(":-127.0.0.1,localhost}")
    assert SERVICES["mlflow"]["environment"]["MLFLOW_LOGIN"] == "true"


def test_what_keeps_data_has_a_volume_and_what_serves_has_a_health_check() -> None:
    assert set(yaml.safe_load(TEXT)["volumes"]) == {"mlflow", "postgres", "s3"}
    for name in ("mlflow", "postgres", "s3"):
        assert SERVICES[name]["volumes"][0].startswith(f"{name}:/")
        assert "healthcheck" in SERVICES[name] or "HEALTHCHECK" in DOCKERFILE
    waited = [item for service in SERVICES.values() for item in service.get("depends_on", {}).items()]
    assert {name: how["condition"] for name, how in waited} == {
        "postgres": "service_healthy",
        "s3": "service_healthy",
        "bucket": "service_completed_successfully",
    }


def test_every_variable_is_explained_in_the_example_and_no_secret_is_filled_in() -> None:
    explained = dict(re.findall(r"^#?([A-Z0-9_]+)=(.*)$", EXAMPLE, re.MULTILINE))
    assert set(re.findall(r"\$\{(\w+)", TEXT)) <= set(explained)
    assert {explained[name] for name in SECRETS | {"PGPASSWORD", "MLFLOW_FLASK_SERVER_SECRET_KEY"}} == {""}


def test_the_build_sends_two_files() -> None:
    assert (FOLDER / "Dockerfile.dockerignore").read_text().split() == ["*", "!constraints.txt", "!mlflow/serve.sh"]
