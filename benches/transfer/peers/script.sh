#!/bin/sh
# A release by a shell script: one archive, packed once, to eight servers at a time.
# script.sh REPOSITORY MIRROR SSH_CONFIG PATH RELEASE SERVER...
set -eu
repository=$1 mirror=$2 config=$3 path=$4 release=$5
shift 5
[ -d "$mirror" ] || git clone --quiet --mirror "$repository" "$mirror"
git -C "$mirror" fetch --quiet origin
git -C "$mirror" archive main | zstd -q -3 -T0 >"$mirror.tar.zst"
export mirror config path release
printf '%s\n' "$@" | xargs -P 8 -n 1 sh -c '
  ssh -F "$config" "$1" "set -e; cd $path; mkdir -p releases/$release.part
    zstd -dcq | tar -x -C releases/$release.part
    mv releases/$release.part releases/$release
    ln -sfn releases/$release current.new; mv -fT current.new current" <"$mirror.tar.zst"' sh
