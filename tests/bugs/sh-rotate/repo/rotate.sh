#!/bin/sh
# Keeps the newest backups of a folder and removes the others. The names hold the day, so they sort by age.
set -eu

if [ $# -ne 2 ]; then
  echo "usage: rotate.sh FOLDER N" >&2
  exit 2
fi

folder=$1
keep=$2

case $keep in
  '' | *[!0-9]*) echo "rotate.sh: $keep is no number" >&2; exit 2 ;;
esac

cd "$folder"
ls | grep '^backup-.*\.tar$' | sort -r | tail -n +"$keep" | while read -r old; do
  rm -- "$old"
  echo "removed $old"
done
