# Rust, with the compiler's own linker needs. Dependencies come from a vendored folder, or from an image on top of this
# one that ran `cargo fetch`: CARGO_HOME is in the image, read-only for commands.
FROM rust:1-slim-trixie
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates cmake git libssl-dev make pkg-config procps python3 \
    && rm -rf /var/lib/apt/lists/* \
    && rustup component add clippy rustfmt \
    && mkdir -p /home/agent /workspace
WORKDIR /workspace
