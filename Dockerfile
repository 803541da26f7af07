# One image for webserver, daemon, code server, runs and one-off commands: docs/deployment.md. It needs a Postgres beside
# it, since it brings none; what it keeps is in /var/lib/data-platform, its configuration in /etc/data-platform.
ARG PYTHON=3.11-slim-bookworm

FROM python:${PYTHON} AS build
WORKDIR /opt/data-platform
COPY requirements-image.lock ./
RUN python -m venv /opt/venv \
 && /opt/venv/bin/python -m pip --disable-pip-version-check --no-cache-dir install \
      --no-deps --require-hashes --only-binary=:all: -r requirements-image.lock
COPY pyproject.toml LICENSE ./
COPY data_platform data_platform
# Editable, as in a clone: the code finds sql/ and dagster.yaml beside itself.
RUN /opt/venv/bin/python -m pip --disable-pip-version-check --no-cache-dir install --no-deps --no-build-isolation -e . \
 && /opt/venv/bin/python -m compileall -q data_platform
COPY sql sql
COPY dagster.yaml workspace.yaml ./
COPY deploy/workspace.yaml deploy/

FROM python:${PYTHON}
RUN useradd --system --user-group --uid 10001 --no-create-home --home-dir /var/lib/data-platform platform \
 && install -d -m 750 -o platform -g platform /var/lib/data-platform \
 && install -d /etc/data-platform
COPY --from=build /opt/venv /opt/venv
COPY --from=build /opt/data-platform /opt/data-platform
# HOME and LOGNAME also for a user id that the cluster chose, which has no name.
ENV HOME=/var/lib/data-platform \
    LOGNAME=platform \
    PATH=/opt/venv/bin:/usr/local/bin:/usr/bin:/bin \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    DAGSTER_HOME=/opt/data-platform \
    DATA_PLATFORM_HOME=/var/lib/data-platform \
    DATA_PLATFORM_SOURCES=/etc/data-platform/sources.yaml \
    DATA_PLATFORM_ALERTS=/etc/data-platform/alerts.yaml \
    DATA_PLATFORM_RETENTION=/etc/data-platform/retention.yaml \
    DATA_PLATFORM_PRICES=/etc/data-platform/prices.yaml
WORKDIR /opt/data-platform
USER 10001:10001
EXPOSE 3000 4000
# Of the webserver; the other services have their own in deploy/compose.yaml.
HEALTHCHECK --interval=30s --timeout=10s --start-period=60s --retries=3 \
  CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:3000/server_info', timeout=5)"]
CMD ["dagster-webserver", "-h", "0.0.0.0", "-p", "3000", "-w", "deploy/workspace.yaml"]
