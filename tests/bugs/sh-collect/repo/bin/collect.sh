#!/bin/sh
# Copies the texts of one folder into another one, and says how many there were.
set -u

if [ $# -ne 2 ]; then
  echo "usage: collect.sh FROM TO" >&2
  exit 2
fi

from=$1
to=$2

if [ ! -d "$from" ]; then
  echo "collect.sh: $from is no folder" >&2
  exit 1
fi

mkdir -p "$to"
count=0
for file in "$from"/*.txt; do
  [ "$file" != "$from/*.txt" ] || continue
  if cp $file "$to/"; then
    count=$((count + 1))
  fi
done
echo "$count files"
