#!/bin/sh
# Runs every tests/test_*.sh; each one gets an empty folder as its first argument.
here=$(cd "$(dirname "$0")" && pwd)
failed=0
for test in "$here"/test_*.sh; do
  folder=$(mktemp -d)
  if sh "$test" "$folder" "$here/.."; then
    echo "ok   $(basename "$test")"
  else
    echo "FAIL $(basename "$test")"
    failed=1
  fi
  rm -rf "$folder"
done
exit $failed
