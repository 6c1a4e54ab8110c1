#!/bin/sh
# install for the look-alike of busybox: -d, -D, -m, -o and -g, as in the applet of the real one.
set -e
directories='' parents='' mode='' owner='' group=''
while getopts dDm:o:g: option; do
  case "$option" in
  d) directories=1 ;;
  D) parents=1 ;;
  m) mode="$OPTARG" ;;
  o) owner="$OPTARG" ;;
  g) group="$OPTARG" ;;
  *) exit 1 ;;
  esac
done
shift $((OPTIND - 1))

finish() {
  [ -z "$owner" ] || chown "$owner" "$1"
  [ -z "$group" ] || chgrp "$group" "$1"
  chmod "${mode:-755}" "$1"
}

if [ -n "$directories" ]; then
  for directory; do
    mkdir -p "$directory"
    finish "$directory"
  done
  exit 0
fi

[ $# -ge 2 ] || { echo "usage: install [-dD] [-m MODE] [-o USER] [-g GROUP] SOURCE… DEST" >&2; exit 1; }
for target; do :; done
while [ $# -gt 1 ]; do
  file="$target"
  [ ! -d "$target" ] || file="$target/${1##*/}"
  [ -z "$parents" ] || mkdir -p "${file%/*}"
  cp "$1" "$file"
  finish "$file"
  shift
done
