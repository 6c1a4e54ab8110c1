#!/usr/bin/env bash
# Builds the image of docker-compose.yml without a registry, and runs it.
#
#   compose/build-image.sh [BINARY] [TAG]      default: target/debug/longshore, longshore:local
#
# The builder stage of Dockerfile needs the rust image; here the binary comes from this machine
# instead, and the base from scripts/base-images.sh. It must have been built on Debian 12 or older, so
# that the C library of the image is new enough. The two Dockerfiles must not grow apart: what follows
# their COPY of the binary, and the packages before it, is compared first.
set -euo pipefail
here="$(cd "$(dirname "$0")" && pwd -P)"
# shellcheck source=scripts/lib.sh
. "$here/../scripts/lib.sh"

binary="${1:-$(cargo_out dev)/longshore}"
tag="${2:-longshore:local}"
[[ -x "$binary" ]] || die "$binary is not there: run \`make build\` first"

last_stage() {
  sed -n '/^FROM debian/,$p' "$1" | sed -e '/^#/d' -e 's/--from=builder [^ ]*/longshore/'
}
diff <(last_stage "$here/Dockerfile") <(last_stage "$here/Dockerfile.prebuilt") >&2 ||
  die "Dockerfile and Dockerfile.prebuilt differ in their last stage"

"$repo/scripts/base-images.sh" debian:bookworm-slim
context="$(mktemp -d)"
trap 'rm -rf "$context"' EXIT

# What Dockerfile builds from, as .dockerignore leaves it, is a whole workspace.
printf 'FROM debian:bookworm-slim\nCOPY . /src\n' >"$context/Dockerfile"
DOCKER_BUILDKIT=0 docker build --quiet --force-rm --tag "$tag-source" --file "$context/Dockerfile" "$repo" \
  >/dev/null 2>"$context/log" || { cat "$context/log" >&2; die "the context of compose/Dockerfile was not built from"; }
source="$(docker create "$tag-source")"
docker cp "$source:/src" "$context/src" >/dev/null
docker rm "$source" >/dev/null
docker rmi "$tag-source" >/dev/null
cargo metadata --format-version 1 --no-deps --locked --offline --manifest-path "$context/src/Cargo.toml" >/dev/null ||
  die "the Dockerfile's context lacks a part of the workspace: see .dockerignore"
rm -rf "$context/src"

cp "$here/Dockerfile.prebuilt" "$context/Dockerfile"
cp "$binary" "$context/longshore"
# The classic builder needs no plugin of the client; the host's network spares us NAT trouble.
DOCKER_BUILDKIT=0 docker build --quiet --force-rm --network host --tag "$tag" "$context" \
  2>"$context.log" >/dev/null || { cat "$context.log" >&2; rm -f "$context.log"; die "the image did not build"; }
rm -f "$context.log"

user="$(docker run --rm --entrypoint id "$tag" -un)"
[[ "$user" == longshore ]] || die "the image runs as $user"
docker run --rm "$tag" --version
