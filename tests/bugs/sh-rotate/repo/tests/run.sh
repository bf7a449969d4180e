#!/bin/sh
# Runs every tests/test_*.sh; each one gets an empty folder as its first argument.
cd "$(dirname "$0")/.." || exit 1
failed=0
for test in tests/test_*.sh; do
  folder=$(mktemp -d)
  if sh "$test" "$folder"; then
    echo "ok   $test"
  else
    echo "FAIL $test"
    failed=1
  fi
  rm -rf "$folder"
done
exit $failed
