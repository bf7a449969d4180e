#!/bin/sh
# Prints the version that comes after another one.
set -eu

usage() {
  echo "usage: bump.sh major|minor|patch VERSION" >&2
  exit 2
}

[ $# -eq 2 ] || usage

version=${2#v}
case $version in
  *[!0-9.]* | .* | *. | *..*) echo "bump.sh: $2 is no version" >&2; exit 1 ;;
  *.*.*.*) echo "bump.sh: $2 has too many parts" >&2; exit 1 ;;
  *.*.*) ;;
  *) echo "bump.sh: $2 has too few parts" >&2; exit 1 ;;
esac

major=${version%%.*}
rest=${version#*.}
minor=${rest%%.*}
patch=${rest#*.}

case $1 in
  major)
    major=$((major + 1))
    ;;
  minor)
    minor=$((minor + 1))
    ;;
  patch)
    patch=$((patch + 1))
    ;;
  *) usage ;;
esac

echo "$major.$minor.$patch"
