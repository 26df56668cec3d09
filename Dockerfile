# relayd in a container: `docker build -t relayd .`, or podman. docs/guides/docker.md shows how to run it.
#
# The image has relayd, Debian's Python and the libraries that these two load: no shell, no package manager. docker/assemble
# chooses the files. The libraries of Python are those of the Debian package, in the same pinned versions.
ARG DEBIAN=docker.io/library/debian:bookworm-slim

FROM ${DEBIAN} AS build
SHELL ["/bin/bash", "-euo", "pipefail", "-c"]
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends \
        binutils ca-certificates gcc libc6-dev libpq-dev python3 python3-dev python3-venv \
    && rm -rf /var/lib/apt/lists/*
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_NO_INPUT=1 PIP_ROOT_USER_ACTION=ignore \
    PIP_NO_COMPILE=1 PIP_NO_DEPS=1 PIP_NO_BUILD_ISOLATION=0 PIP_QUIET=1
WORKDIR /src
# the libraries first: this layer is built again only when a version changes
COPY debian/requirements.txt debian/build-requirements.txt debian/
RUN $(readlink -f /usr/bin/python3) -m venv /usr/lib/relayd \
    && /usr/lib/relayd/bin/pip install --require-hashes --requirement debian/build-requirements.txt \
    && /usr/lib/relayd/bin/pip install --require-hashes --requirement debian/requirements.txt --no-binary=psycopg2 \
    && /usr/lib/relayd/bin/pip check
COPY . .
RUN /usr/lib/relayd/bin/pip install . \
    && debian/trim /usr/lib/relayd \
    && docker/assemble /image

FROM scratch
COPY --from=build /image/ /
# /tmp, for the control socket, and /var/lib/relayd are all that relayd writes to: the rest may be read-only.
ENV PATH=/usr/lib/relayd/bin \
    LANG=C.UTF-8 \
    PYTHONDONTWRITEBYTECODE=1 \
    CREDENTIALS_DIRECTORY=/run/secrets \
    RELAYD_CONFIG=/etc/relayd/relayd.toml \
    RUNTIME_DIRECTORY=/tmp
# A number, not the name: Kubernetes' runAsNonRoot cannot look names up.
USER 10001:10001
WORKDIR /var/lib/relayd
VOLUME /var/lib/relayd
EXPOSE 8080
# On SIGTERM relayd closes its clients with 1001, which takes up to [server] drain_timeout, [database] deadline and 5 seconds: 14 by
# default, and Docker waits 10 (docker stop --time 20, stop_grace_period in a compose file).
STOPSIGNAL SIGTERM
# /healthz says that the process works, whatever its stores do; a load balancer asks /readyz.
HEALTHCHECK --interval=15s --timeout=5s --start-period=30s --retries=3 \
    CMD ["python", "-S", "/usr/lib/relayd/healthy.py"]
ENTRYPOINT ["twistd", "--nodaemon", "--pidfile=", "relayd", "--config", "/etc/relayd/relayd.toml"]
