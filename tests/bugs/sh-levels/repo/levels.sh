#!/bin/sh
# Counts the lines of a log by their level, the third word of a line.
set -u

if [ $# -ne 1 ]; then
  echo "usage: levels.sh FILE" >&2
  exit 2
fi
if [ ! -r "$1" ]; then
  echo "levels.sh: cannot read $1" >&2
  exit 1
fi

for level in ERROR WARN INFO; do
  count=$(grep -c "$level" "$1")
  echo "$level $count"
done
