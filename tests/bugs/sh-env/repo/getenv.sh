#!/bin/sh
# Prints the value of a name in a file of NAME=VALUE lines; exit code 1 if it is not there.
set -u

if [ $# -ne 2 ]; then
  echo "usage: getenv.sh NAME FILE" >&2
  exit 2
fi

name=$1
file=$2

line=$(grep "^$name=" "$file" | tail -n 1)
if [ -z "$line" ]; then
  echo "getenv.sh: $name is not in $file" >&2
  exit 1
fi

value=$(printf '%s\n' "$line" | cut -d = -f 2)

# Quotes around it are taken off.
case $value in
  \"*\") value=${value#\"}; value=${value%\"} ;;
  \'*\') value=${value#\'}; value=${value%\'} ;;
esac

printf '%s\n' "$value"
