# tsr-zmq: Linux, Python, ZeroMQ and cbw. The images of all roles are made FROM it.
#
#   docker build -t tsr-zmq .
#
# BASE may be any Debian image with Python 3.11 or newer; deploy/offline-base makes one where no registry can be reached. A tag
# can be moved to other contents, a digest cannot (docs/howto/check-the-supply-chain.md):
#
#   docker build -t tsr-zmq --build-arg BASE=python:3.12-slim-bookworm@sha256:... .
ARG BASE=python:3.12-slim-bookworm

FROM ${BASE} AS build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN python3 -m venv /opt/cbw && python3 -m venv /opt/builder
WORKDIR /build
# Everything that is downloaded is checked by its hash, what builds cbw's wheel too.
COPY deploy/image/requirements.txt deploy/image/build-requirements.txt ./
RUN /opt/cbw/bin/pip install --require-hashes --only-binary :all: -r requirements.txt \
 && /opt/builder/bin/pip install --require-hashes --only-binary :all: -r build-requirements.txt
COPY pyproject.toml README.md LICENSE ./
COPY src src
RUN /opt/builder/bin/python -m hatchling build -t wheel -d /build/wheel \
 && /opt/cbw/bin/pip install --no-index --no-deps /build/wheel/*.whl \
 && /opt/cbw/bin/pip uninstall --yes --quiet pip setuptools

FROM ${BASE}
LABEL org.opencontainers.image.title="tsr-zmq" \
      org.opencontainers.image.description="Python, ZeroMQ and cbw: the base of its roles" \
      org.opencontainers.image.version="0.1.0" \
      org.opencontainers.image.licenses="MIT"
# /var/lib/cbw is where a volume for a broker's journal goes: a new volume gets its owner.
RUN useradd --system --uid 10001 --no-create-home --home-dir / --shell /usr/sbin/nologin cbw \
 && install --directory --owner=cbw --group=cbw --mode=700 /var/lib/cbw
COPY --from=build /opt/cbw /opt/cbw
COPY --chmod=755 deploy/image/cbw-ready /usr/local/bin/cbw-ready
# CBW_LISTEN: a container's network is its fence. Without it a role without keys listens on 127.0.0.1 only.
ENV PATH=/opt/cbw/bin:$PATH \
    CBW_LISTEN=0.0.0.0 \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1
# Fails here, and not at the first docker run, if the base is for another machine or lacks something.
RUN cbw --version
USER cbw
HEALTHCHECK --interval=10s --timeout=3s --start-period=20s --start-interval=500ms --retries=3 CMD ["cbw-ready"]
# The shell form, `CMD cbw worker HN`, runs in bash, which becomes the one command that it is given: with sh in between the role
# would never hear of SIGTERM. Images that are made FROM this one inherit that.
SHELL ["/bin/bash", "-c"]
# A role takes SIGTERM once it is ready to; one that comes while Python starts waits until then (cbw.signals).
ENTRYPOINT ["env", "--block-signal=TERM,INT"]
CMD ["cbw", "--help"]
