# The device half for x86 cards, on NVIDIA's TensorRT images.
# BASE_IMAGE has no default: `hwc docker build --target TARGET` takes it from the target's facts.
ARG BASE_IMAGE
ARG PYTHON_IMAGE=python:3.12-slim

# hwc.pyz is the same bytes on every machine, so it is written on the machine that builds, without emulation.
FROM --platform=${BUILDPLATFORM} ${PYTHON_IMAGE} AS runtime
WORKDIR /src
COPY hwc/ hwc/
RUN python3 -c "import pathlib, hwc.write_zipapp as w; print(w.write_zipapp(pathlib.Path('/hwc.pyz')))"

# Plugins are compiled for the board, on its own image: that has the CUDA and the TensorRT they link to.
FROM ${BASE_IMAGE} AS build
USER root
WORKDIR /src
COPY docker/build_plugins.sh docker/
COPY plugins/ plugins/
RUN sh docker/build_plugins.sh plugins /out

FROM ${BASE_IMAGE}
LABEL org.opencontainers.image.title="hwc device half" org.opencontainers.image.licenses="Apache-2.0"
USER root
# What the base image has is left as it is: its numpy may be the one that its TensorRT was tested with.
RUN python3 -c 'import numpy' 2>/dev/null || { \
      apt-get update && apt-get install --yes --no-install-recommends python3 python3-numpy && \
      rm -rf /var/lib/apt/lists/*; }
RUN groupadd --system --gid 10001 hwc && \
    useradd --system --uid 10001 --gid hwc --home-dir /data --shell /usr/sbin/nologin hwc && \
    install --directory --owner hwc --group hwc /data
COPY --from=build /out/ /opt/hwc/
COPY --from=runtime /hwc.pyz /opt/hwc/
# The image's own Python must take every file of it: on JetPack 5 that is 3.8.
RUN mkdir /tmp/check && python3 -m zipfile -e /opt/hwc/hwc.pyz /tmp/check && python3 -m compileall -q /tmp/check && \
    rm -r /tmp/check && python3 /opt/hwc/hwc.pyz --help >/dev/null
ENV HWC_ENGINE_STORE=/data/engines PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
ENV NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility
USER hwc
WORKDIR /data
VOLUME /data
# Cheap and rare, so that it disturbs no measurement: Python, numpy and the program are whole.
HEALTHCHECK --interval=5m --timeout=30s --retries=2 CMD ["python3", "/opt/hwc/hwc.pyz", "--help"]
ENTRYPOINT ["python3", "/opt/hwc/hwc.pyz"]
CMD ["doctor"]
