file=$(mktemp)
trap 'rm -f "$file"' EXIT
cat > "$file" << 'LINES'
# NAME=comment
NAME=first
NAME=second
OTHER="in quotes"
LINES
[ "$(sh getenv.sh NAME "$file")" = second ] || exit 1
[ "$(sh getenv.sh OTHER "$file")" = "in quotes" ] || exit 1
if sh getenv.sh NOBODY "$file" 2> /dev/null; then exit 1; fi
