#!/bin/sh
# Headers that no Python wheel carries, from Debian's own packages into DESTINATION: downloaded and unpacked by an
# ordinary user, nothing is installed. Debian 12 has no ONNX Runtime yet: its next release is asked, in private lists.
# usage: fetch-headers.sh DESTINATION
set -eu
destination=$1
for tool in apt-get dpkg; do
  command -v "$tool" >/dev/null || { echo "$tool is not here: no headers are fetched" >&2; exit 1; }
done
mkdir -p "$destination"
destination=$(cd "$destination" && pwd)
state=$(mktemp -d -p "$destination")
trap 'rm -rf "$state"' EXIT
mkdir -p "$state/parts" "$state/lists/partial" "$state/cache/archives/partial" "$state/packages"

for sources in /etc/apt/sources.list /etc/apt/sources.list.d/debian.sources; do
  if grep -qs bookworm "$sources"; then
    sed 's/bookworm/trixie/g' "$sources" > "$state/parts/debian.${sources##*.}"
  fi
done
set -- -o Dir::State::Lists="$state/lists" -o Dir::Cache="$state/cache" -o APT::Sandbox::User=root
if [ -n "$(ls "$state/parts")" ]; then
  set -- "$@" -o Dir::Etc::SourceList=/dev/null -o Dir::Etc::SourceParts="$state/parts"
fi
apt-get "$@" -qq update
cd "$state/packages"
for package in nlohmann-json3-dev libonnxruntime-dev; do
  apt-get "$@" -qq download "$package" || echo "no package $package" >&2
done
for package in *.deb; do dpkg -x "$package" "$state/tree"; done
rm -rf "$destination/include"
mv "$state/tree/usr/include" "$destination/include"
