"""The container files, as far as they can be checked without building: that needs an engine."""

import json
import re
import shutil
import subprocess
import sys
import tomllib
from fnmatch import fnmatch
from pathlib import Path

import pytest
import yaml

from resources.settings import PROJECT

DOCKERFILE = (PROJECT / "Dockerfile").read_text()
COMPOSE = yaml.safe_load((PROJECT / "compose.yaml").read_text())
# Instruction and arguments, continued lines joined, of every stage.
LINES = [
    line.split(maxsplit=1)
    for line in re.sub(r"\\\n\s*", "", DOCKERFILE).splitlines()
    if line and not line.startswith("#")
]
FINAL = LINES[max(at for at, line in enumerate(LINES) if line[0] == "FROM") :]
SECRET = re.compile(
    r"AKIA[0-9A-Z]{16}|-----BEGIN|://[^/\s:]+:[^@\s]+@"
    r"|(?i:password|passwd|secret|token|access_key|api_?key)\w*[\"']?[ \t]*[=:][ \t]*[\"']?(?!\$\{\w+\})[^\s#]"
)


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
    packages = tomllib.loads((PROJECT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    wanted = [
        *(package.replace(".", "/") for package in packages),
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


@pytest.mark.parametrize("name", ["Dockerfile", "compose.yaml", ".dockerignore"])
def test_no_secret_is_written_down(name):
    assert SECRET.search((PROJECT / name).read_text()) is None


@pytest.mark.parametrize(
    "line",
    [
        "ENV DB_PASSWORD=hunter2",
        "AWS_SECRET_ACCESS_KEY: ${AWS_SECRET_ACCESS_KEY:-minio}",
        'API_KEY: "abc"',
        "postgresql://dagster:dagster@db/dagster",
    ],
)
def test_a_secret_would_be_found(line):
    assert SECRET.search(line)


def test_each_service_is_confined_and_watched():
    assert set(COMPOSE["services"]) == {"webserver", "daemon"}
    for service in COMPOSE["services"].values():
        assert service["read_only"]
        assert service["cap_drop"] == ["ALL"]
        assert {mount["target"]: mount.get("read_only", False) for mount in service["volumes"]} == {
            "/state": False,
            "/app/samples": True,
        }
    assert COMPOSE["services"]["daemon"]["healthcheck"]
    assert all(port.startswith("127.0.0.1:") for port in COMPOSE["services"]["webserver"]["ports"])


def test_docker_can_read_the_compose_file():
    docker = shutil.which("docker")
    if not docker or subprocess.run([docker, "compose", "version"], capture_output=True, check=False).returncode:
        pytest.skip("there is no docker client with the compose plugin")
    told = [docker, "compose", "-f", str(PROJECT / "compose.yaml"), "config", "--quiet"]
    ran = subprocess.run(told, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
