#!/bin/sh
test "$(printf 'a  b' | ./words.sh | wc -l)" -le 1 || { echo "Failure: an empty line" >&2; exit 1; }
