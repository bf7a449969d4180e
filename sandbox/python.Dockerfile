# Python with the usual test runners.
FROM python:3.14-slim-trixie
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates gcc git libc6-dev make procps \
    && rm -rf /var/lib/apt/lists/* \
    && pip install --no-cache-dir hypothesis nox pytest pytest-asyncio setuptools tox uv wheel \
    && mkdir -p /home/agent /workspace
WORKDIR /workspace
