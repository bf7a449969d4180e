set -eu
cd "$1"
mkdir from
echo one > from/a.txt
echo two > from/b.txt
echo no > from/c.md
said=$(sh "$2/bin/collect.sh" from to)
[ "$said" = "2 files" ]
[ "$(cat to/b.txt)" = two ]
[ ! -e to/c.md ]
if sh "$2/bin/collect.sh" nowhere to 2> /dev/null; then exit 1; fi
