# The command line in a container. See docs/gates.md.
#   docker build -t iqametrics .
#   docker build -t iqametrics:cuda --build-arg TORCH_INDEX=ADDRESS .   # ADDRESS: torch's index for a CUDA version
ARG PYTHON=3.12
FROM python:${PYTHON}-slim AS build
SHELL ["/bin/bash", "-o", "pipefail", "-c"]
# Where torch and torchvision come from. Empty: the package index, whose builds for Linux bring CUDA.
ARG TORCH_INDEX=""
ARG TORCH=2.14.1
ARG TORCHVISION=0.29.1
ARG EXTRAS="formats,serve,video"
RUN python -m venv /opt/iqametrics
ENV PATH=/opt/iqametrics/bin:$PATH PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
# In a layer of its own: torch is large and changes less often than the package.
RUN PIP_INDEX_URL="$TORCH_INDEX" pip install torch=="$TORCH" torchvision=="$TORCHVISION"
WORKDIR /source
COPY setup.cfg pyproject.toml README.md LICENSE NOTICE ./
COPY iqametrics iqametrics
# setup.cfg says which versions of the rest will do.
# hadolint ignore=DL3013
RUN pip install ".[$EXTRAS]"

FROM python:${PYTHON}-slim
LABEL org.opencontainers.image.title="iqametrics" \
      org.opencontainers.image.description="Image quality assessment: BPCLIP and PFD-IQA" \
      org.opencontainers.image.licenses="Apache-2.0"
RUN useradd --create-home --uid 1000 iqa
COPY --from=build /opt/iqametrics /opt/iqametrics
ENV PATH=/opt/iqametrics/bin:$PATH
USER 1000
WORKDIR /data
ENTRYPOINT ["iqametrics"]
CMD ["--help"]
