set -eu
cd "$1"
mkdir from empty
echo one > "from/my notes.txt"
echo two > "from/plain.txt"
echo three > "from/two  blanks.txt"
said=$(sh "$2/bin/collect.sh" from "to here")
echo "said: $said"
[ "$said" = "3 files" ]
[ "$(cat "to here/my notes.txt")" = one ]
[ "$(cat "to here/two  blanks.txt")" = three ]
said=$(sh "$2/bin/collect.sh" empty other)
[ "$said" = "0 files" ]
