# cytosae with the explorer. For a processor, or for NVIDIA's GPUs:
#   docker build -t cytosae .
#   docker build -t cytosae:cuda --build-arg TORCH_INDEX=https://download.pytorch.org/whl/cu126 .
# Your images are mounted, nothing is copied in:
#   docker run --rm -v "$PWD:/data" cytosae run cells.csv --study study
#   docker run --rm --gpus all -v "$PWD:/data" cytosae:cuda run cells.csv --study study --backbone dinobloom-b
FROM python:3.12-slim AS build
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
ARG EXTRAS=explorer,postgres,s3,timm
RUN python -m venv /opt/cytosae
ENV PATH=/opt/cytosae/bin:$PATH PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
# torch alone comes from its own index: everything else is found at PyPI. The CUDA wheels bring the CUDA libraries.
RUN pip install --index-url "${TORCH_INDEX}" torch torchvision
WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY src ./src
RUN pip install ".[${EXTRAS}]"

FROM python:3.12-slim
RUN apt-get update \
    && apt-get install -y --no-install-recommends libgomp1 \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --create-home cytosae
COPY --from=build /opt/cytosae /opt/cytosae
ENV PATH=/opt/cytosae/bin:$PATH PYTHONUNBUFFERED=1
USER cytosae
WORKDIR /data
EXPOSE 8765
ENTRYPOINT ["cytosae"]
CMD ["--help"]
