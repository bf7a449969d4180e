file=$(mktemp)
trap 'rm -f "$file"' EXIT
cat > "$file" << 'LOG'
2024-05-01 10:00:00 INFO request failed with ERROR 500
2024-05-01 10:00:01 ERROR no INFO about WARN
2024-05-01 10:00:02 INFORMAL chat
  a line without a level that says WARN
2024-05-01 10:00:03 INFO INFO INFO
LOG
got=$(sh levels.sh "$file")
expected="ERROR 1
WARN 0
INFO 2"
if [ "$got" != "$expected" ]; then
  echo "got: $got"
  exit 1
fi
: > "$file"
[ "$(sh levels.sh "$file" | tr '\n' ' ')" = "ERROR 0 WARN 0 INFO 0 " ]
