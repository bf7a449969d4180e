file=$(mktemp)
trap 'rm -f "$file"' EXIT
cat > "$file" << 'LOG'
2024-05-01 10:00:00 INFO started
2024-05-01 10:00:05 WARN slow
2024-05-01 10:00:09 INFO done
LOG
expected="ERROR 0
WARN 1
INFO 2"
[ "$(sh levels.sh "$file")" = "$expected" ] || exit 1
if sh levels.sh "$file.none" 2> /dev/null; then exit 1; fi
