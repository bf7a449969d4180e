# The service in an image of its own: the binary, git and the roots of TLS, and nothing that builds.
#
#   docker build --tag patchwright .
#   docker compose --file deploy/docker-compose.yml up --detach
#
# Which sandbox works in a container, and what it needs, is told in docs/setup.md. Secrets come at run time, never in here.
FROM rust:1.95-slim-trixie AS build
RUN apt-get update && apt-get install -y --no-install-recommends gcc libc6-dev make && rm -rf /var/lib/apt/lists/*
WORKDIR /source
COPY Cargo.toml Cargo.lock ./
COPY .cargo/config.toml .cargo/config.toml
COPY src src
COPY prompts prompts
COPY sandbox/seccomp.json sandbox/seccomp.json
COPY tests/lab tests/lab
COPY tests/it/main.rs tests/it/main.rs
COPY tests/bench/main.rs tests/bench/main.rs
RUN cargo build --release --locked --bin patchwright

FROM debian:trixie-slim
# A project's own toolchain goes on top, for the sandbox shows commands the system's folders: see docs/setup.md.
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates git \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 10001 --create-home --shell /usr/sbin/nologin patchwright \
    && install --directory --owner=patchwright --group=patchwright --mode=0700 /var/lib/patchwright
COPY --from=build /source/target/release/patchwright /usr/local/bin/patchwright
ENV WORKSPACE_DIR=/var/lib/patchwright PATCHWRIGHT_STATE_DIR=/var/lib/patchwright/state PATCHWRIGHT_LISTEN=0.0.0.0:8787 HEALTH_CHECK_PORT=8080
VOLUME /var/lib/patchwright
EXPOSE 8080 8787 9090
USER 10001:10001
WORKDIR /var/lib/patchwright
HEALTHCHECK --interval=30s --timeout=6s --start-period=20s --retries=3 CMD ["patchwright", "health"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["patchwright"]
CMD ["serve"]
