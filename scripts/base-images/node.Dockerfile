# Look-alike of node:20-slim. The build context's local/ may hold a Node.js that the host has
# (bin/node and npm); without one, Debian's own (18) takes its place.
FROM debian:bookworm-slim
COPY local/ /usr/local/
RUN apt-get -o Acquire::Retries=3 update -qq \
 && if [ -x /usr/local/bin/node ]; then packages=libstdc++6; else packages="nodejs npm"; fi \
 && apt-get -o Acquire::Retries=3 install -y -qq --no-install-recommends $packages >/dev/null \
 && apt-get clean \
 && rm -rf /var/lib/apt/lists/* /var/cache/* /var/log/* /usr/share/doc /usr/share/man \
 && node --version && npm --version
CMD ["node"]
