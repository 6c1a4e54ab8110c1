# Look-alike of python:3-slim: Debian's Python 3.11 with pip and venv, as `python` and `python3`.
FROM debian:bookworm-slim
RUN apt-get -o Acquire::Retries=3 update -qq \
 && apt-get -o Acquire::Retries=3 install -y -qq --no-install-recommends python3 python3-pip python3-venv >/dev/null \
 && apt-get clean \
 && rm -rf /var/lib/apt/lists/* /var/cache/* /var/log/* /usr/share/doc /usr/share/man \
    /usr/lib/python3*/EXTERNALLY-MANAGED \
 && find /usr -name __pycache__ -prune -exec rm -rf {} + \
 && ln -s python3 /usr/bin/python
ENV PYTHONDONTWRITEBYTECODE=1
CMD ["python3"]
