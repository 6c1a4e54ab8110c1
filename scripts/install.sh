#!/usr/bin/env bash
# Installs what is missing, and nothing else, from Debian's packages.
#
#   scripts/install.sh up      what `make up` needs: a compiler, a Docker Engine, base images
#   scripts/install.sh test    all of that, and the real services and tools of `make test`
#
# It looks for the command or file that is needed, not for the package, so that a tool that came
# from elsewhere is left alone. With nothing missing it takes well under a second. Services that it
# installs for the tests are not left running or enabled: the tests start their own, private ones.
set -euo pipefail
. "$(dirname "$0")/lib.sh"

want="${1:-up}"
[[ "$want" == up || "$want" == test ]] || die "usage: $0 up|test"

missing=()
# need PACKAGE REASON CHECK…: puts the package on the list unless the check succeeds.
need() {
  local package="$1" reason="$2"
  shift 2
  if ! "$@" >/dev/null 2>&1; then
    note "missing: $package ($reason)"
    [[ " ${missing[*]} " == *" $package "* ]] || missing+=("$package")
  fi
}
# Administrators' tools are in sbin, which is not on everybody's PATH.
PATH="$PATH:/usr/sbin:/sbin"

need git "fetches what is deployed" have git
need curl "asks servers whether they are ready" have curl
need jq "reads JSON" have jq
need ca-certificates "trust for https" test -e /etc/ssl/certs/ca-certificates.crt
need gcc "compiles ring and SQLite" have gcc
need libc6-dev "headers of the C library" test -e /usr/include/stdio.h
need make "runs these targets" have make
need pkg-config "finds OpenSSL" have pkg-config
need libssl-dev "https for libgit2" pkg-config --exists openssl
need docker.io "the Docker Engine" have dockerd
need docker.io "the Docker client" have docker
need iproute2 "shows which ports are taken" have ss
need iptables "publishes the ports of containers" have iptables
need debootstrap "makes base images where no registry answers" have debootstrap
need busybox-static "the busybox base image" test -x /bin/busybox
need util-linux "runs daemons under their own accounts" have setpriv
if [[ -f "$repo/.cargo/config.toml" ]] && grep -q mold "$repo/.cargo/config.toml"; then
  need clang "drives the linker" have clang
  need mold "links quickly" have mold
fi

if [[ "$want" == test ]]; then
  need postgresql "the fleet's database" compgen -G '/usr/lib/postgresql/*/bin/initdb'
  need postgresql-client "makes a database for each test" have psql
  need rabbitmq-server "the fleet's broker" test -x /usr/lib/rabbitmq/bin/rabbitmq-server
  need docker-compose "validates compose/" have docker-compose
  need faketime "gives a node another clock" compgen -G '/usr/lib/*/faketime/libfaketimeMT.so.1'
  need openssh-server "Git over SSH" test -x /usr/sbin/sshd
  need openssh-client "keys for Git over SSH" have ssh-keygen
  need docker-registry "a registry to pull from" have docker-registry
  need shellcheck "reads the scripts here" have shellcheck
  need nodejs "runs the GraphQL audits" have node
  need npm "installs the GraphQL audits" have npm
fi

install_packages() {
  have apt-get || die "this is not Debian or Ubuntu; please install the equivalents of: ${missing[*]}"
  step "Installing with apt: ${missing[*]}"
  local apt=(env DEBIAN_FRONTEND=noninteractive apt-get -q -y -o DPkg::Lock::Timeout=300)
  # Recommended packages of docker.io and rabbitmq-server bring nothing that is used here.
  as_root "${apt[@]}" update >/dev/null || warn "apt-get update failed; trying with the lists that are there"
  hold_services_back
  local failed=0
  as_root "${apt[@]}" install --no-install-recommends "${missing[@]}" >&2 </dev/null || failed=1
  let_services_go
  ((failed == 0)) || die "apt could not install: ${missing[*]}"
}

# The packages of test services start a daemon on their well-known port when they are installed.
# Debian's own switch against that is a policy file; one that is already there stays as it is.
policy=/usr/sbin/policy-rc.d
held_back=()
hold_services_back() {
  local package
  for package in "${missing[@]}"; do
    case "$package" in
    postgresql | rabbitmq-server | docker-registry) held_back+=("$package") ;;
    openssh-server) held_back+=(ssh) ;;
    esac
  done
  policy_is_ours=0
  if ((${#held_back[@]} > 0)) && [[ ! -e "$policy" ]]; then
    policy_is_ours=1
    trap let_services_go EXIT
    # shellcheck disable=SC2016 # the policy's own argument
    printf '#!/bin/sh\ncase "$1" in postgresql*|rabbitmq*|docker-registry|ssh) exit 101 ;; esac\n' |
      as_root tee "$policy" >/dev/null
    as_root chmod 755 "$policy"
  fi
}
let_services_go() {
  trap - EXIT
  if ((policy_is_ours)); then
    policy_is_ours=0
    as_root rm -f "$policy"
  fi
  local package
  for package in "${held_back[@]}"; do
    if [[ -d /run/systemd/system ]]; then
      as_root systemctl disable --now "$package" >/dev/null 2>&1 || note "$package was not enabled"
    fi
  done
}

((${#missing[@]} == 0)) || install_packages

# Debian 12's compiler is older than edition 2024, so Rust comes from its own installer.
if ! have cargo && [[ -x "$HOME/.cargo/bin/cargo" ]]; then
  PATH="$HOME/.cargo/bin:$PATH"
fi
if ! have cargo; then
  step "Installing Rust with rustup, for this user only (Debian's compiler is too old)"
  curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh -s -- -y --profile minimal --no-modify-path >&2 ||
    die "Rust could not be installed; install Rust 1.95 or newer in another way, so that cargo is on the PATH"
  PATH="$HOME/.cargo/bin:$PATH"
fi
if [[ "$want" == test ]]; then
  have rustup && ! { cargo fmt --version && cargo clippy --version; } >/dev/null 2>&1 &&
    rustup component add rustfmt clippy >&2
  if ! have cargo-nextest; then
    step "Installing cargo-nextest (it runs the tests)"
    cargo install --locked cargo-nextest >&2 </dev/null
  fi
fi
exit 0
