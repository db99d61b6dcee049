"""What stands in deploy/, as far as it can be checked without a cluster: no chart is rendered, and no pod started."""

import json
import re
import tomllib
from collections.abc import Iterator
from importlib import import_module
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from typer.main import get_command

from resources.settings import PROJECT, Settings, load_settings
from serving.api.app import create_app
from serving.cli.app import app
from serving.cli.serve import DRAIN_SECONDS

DEPLOY = PROJECT / "deploy"
VALUES = yaml.safe_load((DEPLOY / "values.yaml").read_text())
SETTINGS, *CLAIMS = yaml.safe_load_all((DEPLOY / "settings.yaml").read_text())
STREAM = yaml.safe_load((DEPLOY / "stream.yaml").read_text())
API, SERVICE = yaml.safe_load_all((DEPLOY / "serve.yaml").read_text())
STREAM_POD, API_POD = (one["spec"]["template"]["spec"] for one in (STREAM, API))
GPU = json.loads((DEPLOY / "gpu-run.json").read_text())
README = (DEPLOY / "README.md").read_text()
PROJECT_FILE = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
PINS = dict(
    one.split("==")
    for one in [*PROJECT_FILE["dependencies"], *PROJECT_FILE["optional-dependencies"]["k8s"]]
    if "==" in one
)

CODE_SERVER = VALUES["dagster-user-deployments"]["deployments"][0]
LAUNCHER = VALUES["runLauncher"]["config"]["k8sRunLauncher"]
PARTS = {"webserver": VALUES["dagsterWebserver"], "daemon": VALUES["dagsterDaemon"], "code server": CODE_SERVER}
POSTGRES = VALUES["postgresql"]
# The names that the chart's own schema has, of what is set here: it refuses or, worse, passes over any other.
CHART = {
    "": "global generatePostgresqlPasswordSecret postgresql busybox rabbitmq redis flower telemetry dagsterWebserver "
    "dagsterDaemon dagster-user-deployments runLauncher computeLogManager additionalInstanceConfig",
    "global": "postgresqlSecretName dagsterHome",
    "postgresql": "enabled image postgresqlHost postgresqlUsername postgresqlDatabase postgresqlScheme service",
    "dagsterWebserver": "image envConfigMaps envSecrets volumes volumeMounts service podSecurityContext "
    "securityContext resources readinessProbe livenessProbe startupProbe",
    "dagsterDaemon": "image envConfigMaps envSecrets volumes volumeMounts podSecurityContext securityContext resources "
    "livenessProbe runCoordinator runMonitoring",
    "dagster-user-deployments": "enabled enableSubchart deployments",
    "dagster-user-deployments.deployments.0": "name image codeServerArgs port includeConfigInLaunchedRuns "
    "envConfigMaps envSecrets volumes volumeMounts podSecurityContext securityContext resources readinessProbe "
    "livenessProbe",
    "runLauncher": "type config",
    "runLauncher.config.k8sRunLauncher": "imagePullPolicy loadInclusterConfig envConfigMaps envSecrets envVars volumes "
    "volumeMounts resources securityContext runK8sConfig",
    "runLauncher.config.k8sRunLauncher.runK8sConfig": "podSpecConfig",
    "computeLogManager.config.s3ComputeLogManager": "bucket prefix localDir skipEmptyFiles",
}


def leaves(value: Any, *path: str) -> Iterator[tuple[tuple[str, ...], Any]]:
    if isinstance(value, dict | list):
        for name, one in value.items() if isinstance(value, dict) else enumerate(value):
            yield from leaves(one, *path, str(name))
    else:
        yield path, value


def instance_config() -> dict[str, Any]:
    """Return the dagster.yaml that the chart makes of the values, in its parts that the values decide."""
    postgres = {
        "postgres_db": {
            "username": POSTGRES["postgresqlUsername"],
            "password": {"env": "DAGSTER_PG_PASSWORD"},
            "hostname": POSTGRES["postgresqlHost"],
            "db_name": POSTGRES["postgresqlDatabase"],
            "port": POSTGRES["service"]["port"],
            "params": {},
            "scheme": POSTGRES["postgresqlScheme"],
        }
    }
    logs = VALUES["computeLogManager"]["config"]["s3ComputeLogManager"]
    return {
        "run_storage": {"module": "dagster_postgres", "class": "PostgresRunStorage", "config": postgres},
        "event_log_storage": {"module": "dagster_postgres", "class": "PostgresEventLogStorage", "config": postgres},
        "schedule_storage": {"module": "dagster_postgres", "class": "PostgresScheduleStorage", "config": postgres},
        "run_coordinator": {"module": "dagster._core.run_coordinator", "class": "QueuedRunCoordinator"},
        "compute_logs": {
            "module": "dagster_aws.s3.compute_log_manager",
            "class": "S3ComputeLogManager",
            "config": {
                "bucket": logs["bucket"],
                "prefix": logs["prefix"],
                "local_dir": logs["localDir"],
                "skip_empty_files": logs["skipEmptyFiles"],
            },
        },
        "run_launcher": {"module": "dagster_k8s", "class": "K8sRunLauncher", "config": launcher_config()},
        "telemetry": VALUES["telemetry"],
        **VALUES["additionalInstanceConfig"],
    }


def launcher_config() -> dict[str, Any]:
    return {
        "load_incluster_config": LAUNCHER["loadInclusterConfig"],
        "image_pull_policy": LAUNCHER["imagePullPolicy"],
        "job_namespace": "dagster",
        "service_account_name": "dagster",
        "dagster_home": VALUES["global"]["dagsterHome"],
        "instance_config_map": "dagster-instance",
        "postgres_password_secret": VALUES["global"]["postgresqlSecretName"],
        "env_config_maps": [one["name"] for one in LAUNCHER["envConfigMaps"]],
        "env_secrets": [one["name"] for one in LAUNCHER["envSecrets"]],
        "env_vars": LAUNCHER["envVars"],
        "volumes": LAUNCHER["volumes"],
        "volume_mounts": LAUNCHER["volumeMounts"],
        "resources": LAUNCHER["resources"],
        "security_context": LAUNCHER["securityContext"],
        "run_k8s_config": {"pod_spec_config": LAUNCHER["runK8sConfig"]["podSpecConfig"]},
    }


def pod_of_a_run(monkeypatch, tags: dict[str, Any]) -> dict[str, Any]:
    """Return the pod that Dagster's own launcher would ask Kubernetes for."""
    dagster_k8s = pytest.importorskip("dagster_k8s", reason="the extra k8s is not installed")
    from dagster import DagsterRun
    from dagster._config import process_config
    from dagster._utils.tags import normalize_tags
    from dagster_k8s.job import construct_dagster_k8s_job

    monkeypatch.setattr("dagster_k8s.launcher.load_kubernetes_config", lambda **_: None)
    checked = process_config(dagster_k8s.K8sRunLauncher.config_type(), launcher_config())
    assert checked.success, checked.errors
    launcher = dagster_k8s.K8sRunLauncher(
        **checked.value, k8s_client_batch_api=SimpleNamespace(), k8s_client_core_api=SimpleNamespace()
    )
    run = DagsterRun(job_name="__ASSET_JOB", tags=normalize_tags(tags))
    context = launcher.get_container_context_for_run(run)
    image = f"{CODE_SERVER['image']['repository']}:{CODE_SERVER['image']['tag']}"
    job = construct_dagster_k8s_job(
        job_config=context.get_k8s_job_config(job_image=image, run_launcher=launcher),
        args=["dagster", "api", "execute_run"],
        job_name="run",
        user_defined_k8s_config=context.run_k8s_config,
    )
    from kubernetes.client import ApiClient

    return ApiClient().sanitize_for_serialization(job)["spec"]["template"]["spec"]


@pytest.mark.parametrize("path", CHART)
def test_the_values_have_the_names_of_the_chart(path):
    part = VALUES
    for name in path.split(".") if path else []:
        part = part[int(name)] if isinstance(part, list) else part[name]
    assert {name for name in part if not name.startswith("x-")} == set(CHART[path].split())


def test_versions_are_those_of_the_project():
    assert re.findall(r"--version (\S+)", README) == [PINS["dagster"]] * README.count("--version")
    assert "--version" in README
    images = [part["image"] for part in PARTS.values()]
    assert {image["tag"] for image in images} == {PROJECT_FILE["version"]}
    repositories = {image["repository"] for image in images}
    pods = {pod["containers"][0]["image"] for pod in (STREAM_POD, API_POD)}
    assert {f"{one}:{PROJECT_FILE['version']}" for one in repositories} == pods
    assert f"{repositories.pop()}:{PROJECT_FILE['version']}" in README


def test_the_extra_is_pinned_and_locked_with_the_other_integrations():
    assert {PINS[name] for name in ("dagster-k8s", "dagster-postgres")} == {PINS["dagster-aws"]}
    locked = (PROJECT / "requirements.lock").read_text().splitlines()
    assert {f"{name}=={PINS[name]}" for name in ("dagster", "dagster-k8s", "dagster-postgres")} <= set(locked)
    assert "--extra k8s" in (PROJECT / "Makefile").read_text()


def test_the_image_has_the_extra_when_it_is_built_as_said():
    dockerfile = (PROJECT / "Dockerfile").read_text()
    assert re.search(r"^ARG EXTRA=$", dockerfile, re.MULTILINE)
    assert '${EXTRA:+--extra "$EXTRA"}' in dockerfile
    assert "--build-arg EXTRA=k8s" in README


def test_other_images_are_pinned():
    compose = yaml.safe_load((PROJECT / "compose.yaml").read_text())
    assert POSTGRES["image"]["tag"] == compose["services"]["postgres"]["image"].split(":")[1]
    assert re.fullmatch(r"\d+\.\d+\.\d+", VALUES["busybox"]["image"]["tag"])


def test_the_settings_are_settings_and_no_secret():
    fields = {name.upper(): field for name, field in Settings.model_fields.items()}
    assert set(SETTINGS["data"]) <= set(fields)
    assert [name for name in SETTINGS["data"] if "SecretStr" in str(fields[name].annotation)] == []
    made = Settings(_env_file=None, **{name.lower(): value for name, value in SETTINGS["data"].items()})
    assert made.lakehouse_uri.startswith("s3://")


def test_the_secret_has_every_secret_setting():
    told = re.search(r"create secret generic seamless-secrets(.*?)```", README, re.DOTALL)[1]
    names = re.findall(r"--from-literal=(\w+)=", told)
    secret = {name.upper() for name, field in Settings.model_fields.items() if "SecretStr" in str(field.annotation)}
    # A person has a key of one's own, and the platform has none.
    assert (secret | {"MLFLOW_TRACKING_URI"}) - {"SEAMLESS_KEY"} == set(names)
    assert all(f'={name}="${name}"' in told for name in names)


def test_what_must_not_be_local_to_a_pod_is_set():
    local = {
        "ACCESS_ANCHORS",
        "ACCESS_LOG",
        "API_KEYS",
        "DECISION_SPOOL",
        "LAKEHOUSE_URI",
        "MLFLOW_TRACKING_URI",
        "MLFLOW_ARTIFACTS",
        "SIGNAL_STORE",
        "KAFKA_BOOTSTRAP_SERVERS",
    }
    secret = set(re.findall(r"--from-literal=(\w+)=", README))
    assert local <= set(SETTINGS["data"]) | secret


def test_the_stream_worker_gets_settings_and_what_dagster_asks_for():
    (worker,) = STREAM_POD["containers"]
    assert worker["command"] == ["seamless", "stream"]
    assert {one["name"] for one in worker["env"]} == {"DAGSTER_HOME", "DAGSTER_PG_PASSWORD"}
    assert worker["env"][0]["value"] == VALUES["global"]["dagsterHome"]
    key = worker["env"][1]["valueFrom"]["secretKeyRef"]
    assert key == {"name": VALUES["global"]["postgresqlSecretName"], "key": "postgresql-password"}
    named = [one.get("configMapRef", one.get("secretRef"))["name"] for one in worker["envFrom"]]
    assert named == [SETTINGS["metadata"]["name"], "seamless-secrets"]
    assert STREAM["spec"]["selector"]["matchLabels"] == STREAM["spec"]["template"]["metadata"]["labels"]
    mounts = {mount["name"] for mount in worker["volumeMounts"]}
    assert mounts == {volume["name"] for volume in STREAM_POD["volumes"]}
    assert (
        f"helm upgrade --install {STREAM_POD['volumes'][-1]['configMap']['name'].removesuffix('-instance')} " in README
    )


def test_the_api_is_asked_where_it_listens_and_has_time_to_drain():
    (api,) = API_POD["containers"]
    command, listens = get_command(app), api["command"]
    serve, (port,) = command.commands[listens[1]], api["ports"]
    serve.make_context("serve", listens[2:]).close()
    assert listens[listens.index("--port") + 1] == str(port["containerPort"])
    paths = {*create_app(load_settings(_env_file=None)).openapi()["paths"]}
    probes = [api[f"{kind}Probe"]["httpGet"] for kind in ("startup", "readiness", "liveness")]
    assert {probe["path"] for probe in probes} <= paths
    assert {probe["port"] for probe in probes} == {port["name"]}
    assert [one["targetPort"] for one in SERVICE["spec"]["ports"]] == [port["name"]]
    labels = API["spec"]["template"]["metadata"]["labels"]
    assert API["spec"]["selector"]["matchLabels"] == SERVICE["spec"]["selector"] == labels
    pause = int(api["lifecycle"]["preStop"]["exec"]["command"][1])
    assert API_POD["terminationGracePeriodSeconds"] > pause + DRAIN_SECONDS


def test_the_api_and_the_runs_share_its_decisions():
    (api,) = API_POD["containers"]
    named = [one.get("configMapRef", one.get("secretRef"))["name"] for one in api["envFrom"]]
    assert named == [SETTINGS["metadata"]["name"], "seamless-secrets"]
    volumes = [API_POD["volumes"], LAUNCHER["volumes"], CODE_SERVER["volumes"]]
    assert all({volume["name"]: volume for volume in of}["decisions"] == API_POD["volumes"][-1] for of in volumes)
    for part in (api, LAUNCHER, CODE_SERVER):
        mounts = {mount["name"]: mount for mount in part["volumeMounts"]}
        assert mounts["decisions"] == {"name": "decisions", "mountPath": SETTINGS["data"]["DECISION_SPOOL"]}


@pytest.mark.parametrize("part", [*PARTS.values(), LAUNCHER], ids=[*PARTS, "run"])
def test_settings_and_secrets_are_referred_to_by_name(part):
    assert part["envConfigMaps"] == [{"name": SETTINGS["metadata"]["name"]}]
    assert part["envSecrets"] == [{"name": "seamless-secrets"}]
    assert {mount["name"] for mount in part["volumeMounts"]} == {volume["name"] for volume in part["volumes"]}
    claims = [one["persistentVolumeClaim"]["claimName"] for one in part["volumes"] if "persistentVolumeClaim" in one]
    assert claims in ([], [claim["metadata"]["name"] for claim in CLAIMS])


def test_no_password_is_written_down():
    for file in DEPLOY.iterdir():
        text = file.read_text()
        assert not re.search(r"AKIA[0-9A-Z]{16}|-----BEGIN|://[^/\s:]*:(?!\$)[^@\s/]+@", text), file
        assert "kind: Secret\n" not in text, file
    documents = [VALUES, SETTINGS, CLAIMS, STREAM, API, SERVICE, GPU]
    named = [
        path for path, value in leaves(documents) if re.search(r"(?i)password|token|access_key", path[-1]) and value
    ]
    assert [path[-1] for path in named] == []


USER, GROUP = (
    int(one) for one in re.findall(r"^USER (\d+):(\d+)$", (PROJECT / "Dockerfile").read_text(), re.MULTILINE)[0]
)
FOLDERS = ["/decisions", "/landing", "/state", "/tmp"]
CONTAINER = {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}}


@pytest.mark.parametrize("name", [*PARTS, "stream", "api"])
def test_every_pod_is_that_of_the_dockerfiles_user_and_confined(name):
    alone = API_POD if name == "api" else STREAM_POD
    part = PARTS.get(name) or {**alone["containers"][0], "podSecurityContext": alone["securityContext"]}
    pod = part["podSecurityContext"]
    assert pod["runAsNonRoot"]
    assert (pod["runAsUser"], pod["runAsGroup"], pod["fsGroup"]) == (USER, GROUP, GROUP)
    assert part["securityContext"] == CONTAINER
    assert {"cpu", "memory"} <= set(part["resources"]["requests"])
    assert "memory" in part["resources"]["limits"]
    assert {"/state", "/tmp"} <= {mount["mountPath"] for mount in part["volumeMounts"]}
    assert name == "stream" or part["livenessProbe"]


def test_the_webserver_is_asked_at_its_own_port():
    probes = [PARTS["webserver"][f"{kind}Probe"]["httpGet"] for kind in ("readiness", "liveness", "startup")]
    assert [probe["port"] for probe in probes] == [PARTS["webserver"]["service"]["port"]] * 3
    assert PARTS["webserver"]["service"]["port"] > 1023


def test_runs_are_limited_as_on_one_machine_and_those_on_a_gpu_by_their_tag():
    concurrency = VALUES["additionalInstanceConfig"]["concurrency"]
    (limit,) = concurrency["runs"].pop("tag_concurrency_limits")
    assert concurrency == yaml.safe_load((PROJECT / "dagster.yaml").read_text())["concurrency"]
    concurrency["runs"]["tag_concurrency_limits"] = [limit]
    assert GPU[limit["key"]] == limit["value"] == "gpu"
    assert limit["limit"] >= 1


def test_postgres_is_reached_with_the_driver_that_dagster_postgres_has():
    assert POSTGRES["postgresqlScheme"] == "postgresql+psycopg2"
    assert not POSTGRES["enabled"]
    assert not VALUES["generatePostgresqlPasswordSecret"]


def test_dagster_accepts_the_instance_and_reaches_postgres_by_psycopg2(tmp_path, monkeypatch):
    pytest.importorskip("dagster_postgres", reason="the extra k8s is not installed")
    from dagster._config import process_config
    from dagster._core.instance.config import dagster_instance_config
    from dagster_postgres.utils import pg_url_from_config
    from sqlalchemy import make_url

    monkeypatch.setenv("DAGSTER_PG_PASSWORD", "p@ss/word")
    (tmp_path / "dagster.yaml").write_text(yaml.safe_dump(instance_config()))
    dagster_instance_config(str(tmp_path))
    checked = {}
    for part, made in instance_config().items():
        if isinstance(made, dict) and "class" in made:
            kind = getattr(import_module(made["module"]), made["class"])
            result = process_config(kind.config_type(), made.get("config", {}))
            assert result.success, (part, result.errors)
            checked[part] = result.value
    url = make_url(pg_url_from_config(checked["run_storage"]))
    assert (url.username, url.password, url.host) == ("dagster", "p@ss/word", POSTGRES["postgresqlHost"])
    assert url.get_dialect().driver == "psycopg2"
    assert {"run_launcher", "compute_logs", "event_log_storage", "schedule_storage"} <= set(checked)


def test_a_run_is_confined_and_needs_no_gpu(monkeypatch):
    pod = pod_of_a_run(monkeypatch, {})
    (container,) = pod["containers"]
    assert (pod["securityContext"]["runAsUser"], pod["securityContext"]["fsGroup"]) == (USER, GROUP)
    assert container["securityContext"] == CONTAINER
    assert container["resources"] == LAUNCHER["resources"]
    assert sorted(mount["mountPath"] for mount in container["volumeMounts"]) == FOLDERS
    assert [one.get("configMapRef", one.get("secretRef"))["name"] for one in container["envFrom"]] == [
        SETTINGS["metadata"]["name"],
        "seamless-secrets",
    ]
    assert "nodeSelector" not in pod
    assert "tolerations" not in pod


def test_a_run_with_the_gpu_tags_goes_to_the_gpu_pool(monkeypatch):
    pod = pod_of_a_run(monkeypatch, GPU)
    (container,) = pod["containers"]
    assert container["resources"]["limits"] == {**LAUNCHER["resources"]["limits"], "nvidia.com/gpu": "1"}
    assert container["resources"]["requests"] == LAUNCHER["resources"]["requests"]
    assert pod["nodeSelector"] == {"nvidia.com/gpu.present": "true"}
    assert pod["tolerations"] == [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}]
    assert pod["securityContext"]["runAsUser"] == USER
