# One image for the Dagster UI, its daemon, a code server and the command `seamless`: see docs/containers.md.
FROM python:3.11.16-slim-bookworm AS base

FROM base AS build
# The build of torch: cpu, or auto for the one that fits the GPU of the machine that builds.
ARG TORCH_BACKEND=cpu
# Of pyproject.toml's extras, one that the image has as well: k8s for Kubernetes.
ARG EXTRA=
ENV UV_COMPILE_BYTECODE=1 UV_LINK_MODE=copy UV_NO_CACHE=1 VIRTUAL_ENV=/opt/venv
RUN pip install --no-cache-dir uv==0.13.9 && uv venv /opt/venv
WORKDIR /app
COPY pyproject.toml requirements.lock ./
# What the code needs, at the versions that are locked; without what its tests need.
RUN uv pip install --torch-backend "$TORCH_BACKEND" --requirements pyproject.toml --constraints requirements.lock \
    ${EXTRA:+--extra "$EXTRA"}

FROM base
ENV PATH=/opt/venv/bin:$PATH PYTHONPATH=/app PYTHONUNBUFFERED=1 \
    GIT_PYTHON_REFRESH=quiet MLFLOW_DISABLE_TELEMETRY=true ORT_DISABLE_TELEMETRY=1
COPY --from=build /opt/venv /opt/venv
COPY . /app
WORKDIR /app
# Loading the definitions has dbt write its manifest, compiles the code, and fails here rather than at a start.
RUN groupadd --gid 10001 seamless \
    && useradd --uid 10001 --gid seamless --no-create-home --home-dir /state seamless \
    && install --directory --owner seamless --group seamless /state \
    && printf '#!/opt/venv/bin/python\nfrom serving.cli import main\nmain()\n' > /usr/local/bin/seamless \
    && chmod 755 /usr/local/bin/seamless \
    && python -c "from platform_assets.definitions import defs; defs()"
# Settings name folders relative to the working folder, so tables, models and runs lie in this one volume.
ENV DAGSTER_HOME=/app
WORKDIR /state
VOLUME /state
USER 10001:10001
EXPOSE 3000
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s \
    CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:3000/server_info', timeout=4)"]
CMD ["dagster-webserver", "-w", "/app/workspace.yaml", "-h", "0.0.0.0", "-p", "3000"]
