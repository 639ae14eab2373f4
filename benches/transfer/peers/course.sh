#!/bin/sh
# The course's way: a clone a release, a zip, then server after server: upload, unpack.
# course.sh REPOSITORY WORK SSH_CONFIG PATH RELEASE SERVER...
set -eu
repository=$1 work=$2 config=$3 path=$4 release=$5
shift 5
rm -rf "$work"
git clone --quiet "$repository" "$work"
(cd "$work" && zip -qr "$work.zip" . -x '.git/*')
for server; do
  echo "put $work.zip $path/$release.zip" | sftp -q -F "$config" -b - "$server" >/dev/null
  ssh -F "$config" "$server" "mkdir -p $path/$release && unzip -qo $path/$release.zip -d $path/$release"
done
rm -f "$work.zip"
