# The wheels are built and installed in a stage of their own: the image has no build tools.
FROM python:3.13-slim AS build

WORKDIR /src
COPY requirements.lock requirements-build.lock ./
RUN python -m venv /opt/build \
    && /opt/build/bin/pip install --no-cache-dir --require-hashes -r requirements-build.lock \
    && /opt/build/bin/pip wheel --no-cache-dir --require-hashes --wheel-dir /wheels -r requirements.lock

COPY pyproject.toml README.md LICENSE ./
COPY pool pool
COPY protocol protocol
RUN /opt/build/bin/pip wheel --no-build-isolation --no-deps --wheel-dir /wheels . \
    && python -m venv --without-pip /opt/actorpool \
    && /opt/build/bin/pip --python /opt/actorpool install --no-cache-dir --no-index --no-deps /wheels/*.whl

FROM python:3.13-slim

COPY --from=build /opt/actorpool /opt/actorpool
# sessions live in /data: mount something there that outlives the container
RUN useradd --system --no-create-home --uid 10001 actorpool \
    && install -d -o actorpool /data
ENV PATH=/opt/actorpool/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    ACTORPOOL_STORE_URL=sqlite:///data/actorpool.db
USER actorpool
VOLUME /data
WORKDIR /app
EXPOSE 8080

HEALTHCHECK --interval=10s --timeout=3s --start-period=5s --retries=3 \
    CMD ["python", "-c", "from http.client import HTTPConnection as C; c = C('127.0.0.1', 8080, timeout=2); c.request('GET', '/health'); raise SystemExit(c.getresponse().status != 200)"]

# Inside a container only an address beyond loopback can be published, and nobody is asked who they
# are until keys are configured: --insecure says that this is known. Who may reach the published port
# is who may use the agents. With ACTORPOOL_AUTH_MODE set, leave it out.
ENTRYPOINT ["actorpool"]
CMD ["serve", "--host", "0.0.0.0", "--insecure"]
