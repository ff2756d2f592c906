#!/bin/sh
# Debian packages that the tests talk to (or those named). Installed where we are root; named where we are not.
set -eu
packages="${*:-chromium dcmtk gcc iproute2 libc6-dev openjph-tools strace}"
missing=""
for package in $packages; do
  dpkg -s "$package" >/dev/null 2>&1 || missing="$missing $package"
done
[ -z "$missing" ] && exit 0
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
  apt-get update -qq
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing >/dev/null
else
  echo "needed:$missing; install with: sudo apt-get install$missing" >&2
  exit 1
fi
