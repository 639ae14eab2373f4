#!/bin/sh
# A checkout, and rsync of it into the servers' one folder, eight at a time.
# rsync.sh REPOSITORY MIRROR SSH_CONFIG PATH RELEASE SERVER...
set -eu
repository=$1 mirror=$2 config=$3 path=$4
shift 5
[ -d "$mirror" ] || git clone --quiet "$repository" "$mirror"
git -C "$mirror" fetch --quiet origin
git -C "$mirror" reset --quiet --hard origin/main
export mirror config path
printf '%s\n' "$@" | xargs -P 8 -n 1 sh -c '
  rsync -a --delete --exclude=/.git -e "ssh -F $config" "$mirror/" "$1:$path/current/"' sh
