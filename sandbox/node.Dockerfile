# Node.js with npm, pnpm and yarn.
FROM node:24-trixie-slim
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates g++ git make procps python3 \
    && rm -rf /var/lib/apt/lists/* \
    && npm install --global pnpm \
    && npm cache clean --force \
    && mkdir -p /home/agent /workspace
WORKDIR /workspace
