# Patchwright itself. The sandbox inside a container needs either the host's container engine (mount its socket only if
# you trust whoever can reach this container) or a host that allows nested user namespaces; see docs/sandbox.md.
FROM rust:1.95-slim-bookworm AS build
RUN apt-get update && apt-get install -y --no-install-recommends gcc libc6-dev make && rm -rf /var/lib/apt/lists/*
WORKDIR /source
COPY Cargo.toml Cargo.lock ./
COPY src src
COPY prompts prompts
COPY tests/lab/Cargo.toml tests/lab/Cargo.toml
COPY tests/lab/src tests/lab/src
COPY tests/lab/openapi tests/lab/openapi
RUN cargo build --release --locked --bin patchwright

FROM debian:bookworm-slim
RUN apt-get update && apt-get install -y --no-install-recommends ca-certificates git && rm -rf /var/lib/apt/lists/* \
    && useradd --create-home --uid 10001 patchwright
COPY --from=build /source/target/release/patchwright /usr/local/bin/patchwright
USER patchwright
WORKDIR /home/patchwright
ENTRYPOINT ["patchwright"]
CMD ["--help"]
