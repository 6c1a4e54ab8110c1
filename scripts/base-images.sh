#!/usr/bin/env bash
# Makes sure that the Docker Engine has the base images which builds start from.
#
#   scripts/base-images.sh [IMAGE…]     IMAGE: busybox, debian:bookworm-slim, python:3-slim, node:20-slim
#   scripts/base-images.sh --local …    never asks a registry
#
# An image that is there is left alone. Else it is pulled, if the registry answers the Engine. Else it
# is made here from Debian's packages, under the same name:
#
#   busybox               look-alike of busybox: Debian's busybox-static with a link for every applet.
#                         Its wget cannot look up host names (a static C library); sh and httpd are fine.
#                         `install` is a short script: Debian builds BusyBox without that applet.
#   debian:bookworm-slim  debootstrap's minbase and ca-certificates, without documentation and caches
#   python:3-slim         the above with Debian's Python 3.11, pip and venv
#   node:20-slim          the above with this machine's Node.js if it is 20 or newer, else Debian's 18
#
# A look-alike has the label org.opencontainers.image.description saying so. `docker rmi` it to have
# the real one pulled the next time. What was made is kept in ~/.cache/longshore/base-images, so that
# another Engine has it within seconds; the folder's name changes when one of the recipes does.
#
# Certificates that this machine trusts beside Debian's (/usr/local/share/ca-certificates) are
# trusted in look-alikes as well; behind a proxy that inspects TLS no build could fetch anything else.
set -euo pipefail
here="$(cd "$(dirname "$0")" && pwd -P)"
. "$here/lib.sh"
PATH="$PATH:/usr/sbin:/sbin"

ask_registry=1
if [[ "${1:-}" == --local ]]; then
  ask_registry=0
  shift
fi
images=("$@")
((${#images[@]} > 0)) || images=(busybox debian:bookworm-slim python:3-slim node:20-slim)

mirror="${LONGSHORE_DEBIAN_MIRROR:-http://deb.debian.org/debian}"
ca_dir=/usr/local/share/ca-certificates
shopt -s nullglob
extra_cas=("$ca_dir"/*.crt)
recipe="$(cat "$0" "$here"/base-images/* "${extra_cas[@]}" <(echo "$mirror") | sha256sum | cut -c1-12)"
cache="${XDG_CACHE_HOME:-$HOME/.cache}/longshore/base-images/$recipe"
mkdir -p "$cache"
# What older recipes left is of no more use.
find "$(dirname "$cache")" -mindepth 1 -maxdepth 1 -type d ! -name "$recipe" -exec rm -rf {} +

describe='LABEL org.opencontainers.image.description="Look-alike made by Longshore from Debian packages"'
present() { docker image inspect "$1" >/dev/null 2>&1; }
tar_of() { printf '%s/%s.tar\n' "$cache" "${1//[:\/]/-}"; }

# Whether the Engine (not this host) can reach the registry: asked once, without pulling anything.
registry_answers() {
  if [[ -z "${_registry:-}" ]]; then
    _registry=no
    local socket="${DOCKER_HOST:-unix:///var/run/docker.sock}"
    if ((ask_registry)) && [[ "$socket" == unix://* ]] && curl -fsS -m 15 -o /dev/null \
      --unix-socket "${socket#unix://}" http://engine/distribution/library/busybox:latest/json 2>/dev/null; then
      _registry=yes
    fi
  fi
  [[ "$_registry" == yes ]]
}

# The classic builder: it needs no plugin of the client, whatever client is installed. The host's
# network is used because a build of ours needs only apt, and NAT or MTU trouble is none of its own.
build() {
  local image="$1" dockerfile="$2" context="$3"
  DOCKER_BUILDKIT=0 docker build --quiet --network host --force-rm \
    --build-arg "http_proxy=${http_proxy:-}" --build-arg "https_proxy=${https_proxy:-}" \
    --tag "$image" --file "$dockerfile" "$context" >/dev/null 2>"$context/log" || {
    cat "$context/log" >&2
    die "the base image $image did not build"
  }
}

make_busybox() {
  local root
  root="$(mktemp -d)"
  mkdir -p "$root"/{bin,etc,root,tmp,var,home}
  chmod 1777 "$root/tmp"
  cp /bin/busybox "$root/bin/busybox"
  local applet
  # A link named busybox would replace the program by a link to itself.
  /bin/busybox --list | grep -vx busybox | while read -r applet; do
    ln -s busybox "$root/bin/$applet"
  done
  # Debian builds it without this applet, which the real image has.
  install -m 755 "$here/base-images/install.sh" "$root/bin/install"
  printf 'root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/home:/bin/false\n' >"$root/etc/passwd"
  printf 'root:x:0:\nnogroup:x:65534:\n' >"$root/etc/group"
  tar -C "$root" --owner=0 --group=0 -c . |
    docker import -c 'ENV PATH=/bin' -c 'CMD ["sh"]' -c "$describe" - busybox >/dev/null
  rm -rf "$root"
}

make_debian() {
  local work root changes
  # Not below a directory mounted nodev or noexec, which /tmp sometimes is.
  work="$(mktemp -d /var/tmp/longshore-debian-XXXXXX)"
  root="$work/root"
  as_root debootstrap --variant=minbase --include=ca-certificates bookworm "$root" "$mirror" >"$work/log" 2>&1 || {
    tail -n 20 "$work/log" >&2
    die "debootstrap failed"
  }
  changes=(-c 'CMD ["bash"]' -c "$describe")
  if ((${#extra_cas[@]} > 0)); then
    as_root cp "${extra_cas[@]}" "$root/$ca_dir/"
    as_root chroot "$root" update-ca-certificates >/dev/null 2>&1
    local variable
    for variable in SSL_CERT_FILE PIP_CERT REQUESTS_CA_BUNDLE NODE_EXTRA_CA_CERTS; do
      changes+=(-c "ENV $variable=/etc/ssl/certs/ca-certificates.crt")
    done
  fi
  # shellcheck disable=SC2016 # the inner shell expands it, as root
  as_root bash -c 'cd "$1" && rm -rf var/lib/apt/lists/* var/cache/* var/log/* usr/share/{doc,man,info,locale}/* \
    usr/share/zoneinfo/right etc/resolv.conf etc/hostname && mkdir -p var/cache/apt/archives/partial' - "$root"
  # What the real image has too: packages installed later bring no documentation either.
  as_root tee "$root/etc/dpkg/dpkg.cfg.d/docker" >/dev/null <<'CFG'
force-unsafe-io
path-exclude /usr/share/doc/*
path-exclude /usr/share/man/*
path-exclude /usr/share/info/*
path-exclude /usr/share/locale/*
CFG
  as_root tee "$root/etc/apt/apt.conf.d/docker" >/dev/null <<'CFG'
Apt::Install-Recommends "false";
Acquire::Languages "none";
CFG
  as_root tar -C "$root" --exclude=./dev/* --exclude=./proc/* --exclude=./sys/* -c . |
    docker import "${changes[@]}" - debian:bookworm-slim >/dev/null
  as_root rm -rf "$work"
}

make_python() {
  ensure debian:bookworm-slim
  local context
  context="$(mktemp -d)"
  { cat "$here/base-images/python.Dockerfile" && echo "$describe"; } >"$context/Dockerfile"
  build python:3-slim "$context/Dockerfile" "$context"
  rm -rf "$context"
}

make_node() {
  ensure debian:bookworm-slim
  local context node npm
  context="$(mktemp -d)"
  mkdir -p "$context"/local/{bin,lib/node_modules}
  { cat "$here/base-images/node.Dockerfile" && echo "$describe"; } >"$context/Dockerfile"
  if node="$(command -v node)" && [[ "$(node --version)" =~ ^v([0-9]+) ]] && ((BASH_REMATCH[1] >= 20)); then
    npm="$(dirname "$(dirname "$(readlink -f "$(command -v npm)")")")"
    cp -L "$node" "$context/local/bin/node"
    cp -RL "$npm" "$context/local/lib/node_modules/npm"
    ln -s ../lib/node_modules/npm/bin/npm-cli.js "$context/local/bin/npm"
    ln -s ../lib/node_modules/npm/bin/npx-cli.js "$context/local/bin/npx"
  fi
  build node:20-slim "$context/Dockerfile" "$context"
  rm -rf "$context"
}

# Makes one image be there, by the cheapest way that works.
ensure() {
  local image="$1" tar started
  present "$image" && return 0
  started="$(now_ms)"
  tar="$(tar_of "$image")"
  if registry_answers && timeout 300 docker pull -q "$image" >/dev/null; then
    note "$image: pulled in $((($(now_ms) - started) / 1000)) s"
    return 0
  fi
  if [[ -s "$tar" ]] && docker load -q -i "$tar" >/dev/null; then
    note "$image: from the cache in $((($(now_ms) - started) / 1000)) s"
    return 0
  fi
  case "$image" in
  busybox) make_busybox ;;
  debian:bookworm-slim) make_debian ;;
  python:3-slim) make_python ;;
  node:20-slim) make_node ;;
  *) die "there is no recipe for $image, and no registry answers" ;;
  esac
  docker save "$image" -o "$tar.new.$$" && mv "$tar.new.$$" "$tar"
  note "$image: no registry answers, so a look-alike was made in $((($(now_ms) - started) / 1000)) s"
}

engine_answers || die "no Docker Engine answers; start one with scripts/services.sh start docker"
# Two runs at once would do the same work twice.
exec {lock}>"$(dirname "$cache")/lock"
flock "$lock"
for image in "${images[@]}"; do
  ensure "$image"
done
