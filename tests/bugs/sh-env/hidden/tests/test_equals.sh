file=$(mktemp)
trap 'rm -f "$file"' EXIT
cat > "$file" << 'LINES'
DATABASE=postgres://host/db?sslmode=require
TOKEN=YWJjZA==
QUOTED="a=b"
EMPTY=
LINES
check() {
  got=$(sh getenv.sh "$1" "$file")
  if [ "$got" != "$2" ]; then
    echo "$1: expected $2, got $got"
    exit 1
  fi
}
check DATABASE "postgres://host/db?sslmode=require"
check TOKEN "YWJjZA=="
check QUOTED "a=b"
check EMPTY ""
