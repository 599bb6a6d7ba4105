# The server, built from this repository alone:
#   docker build -t photophone .
#   docker run --rm -p 8000:8000 -e PHOTOPHONE_TOKEN=... photophone
# For NVIDIA GPUs, with the drivers and the container toolkit on the host:
#   docker build -t photophone:cuda --build-arg TORCH= .
#   docker run --rm --gpus all -p 8000:8000 photophone:cuda --device cuda
FROM python:3.12-slim AS build
ARG TORCH=https://download.pytorch.org/whl/cpu
# the compiler makes the C++ code of the package; it stays behind
RUN apt-get update -q && apt-get install -y -q --no-install-recommends g++
RUN python -m venv /opt/photophone
ENV PATH=/opt/photophone/bin:$PATH
RUN pip install --no-cache-dir torch torchaudio ${TORCH:+--index-url "$TORCH"}
COPY . /source
RUN pip install --no-cache-dir "/source[serve]"

FROM python:3.12-slim
COPY --from=build /opt/photophone /opt/photophone
ENV PATH=/opt/photophone/bin:$PATH PYTHONUNBUFFERED=1
RUN useradd --create-home --uid 10001 photophone
USER photophone
EXPOSE 8000
HEALTHCHECK --interval=30s --timeout=5s --start-period=120s CMD ["python", "-c", \
    "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/readyz', timeout=4)"]
# TERM takes nothing new and finishes what was accepted: give `docker stop` the time, -t 130.
STOPSIGNAL SIGTERM
ENTRYPOINT ["photophone", "serve", "--host", "0.0.0.0", "--port", "8000"]
