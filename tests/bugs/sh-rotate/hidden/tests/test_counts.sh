fill() {
  rm -f "$1"/*
  for day in 01 02 03; do
    touch "$1/backup-2024-05-$day.tar"
  done
}
count() {
  ls "$1" | wc -l | tr -d ' '
}
fill "$1"
[ -z "$(sh rotate.sh "$1" 3)" ] || exit 1
[ "$(count "$1")" = 3 ] || exit 1
[ -z "$(sh rotate.sh "$1" 9)" ] || exit 1
[ "$(sh rotate.sh "$1" 2)" = "removed backup-2024-05-01.tar" ] || exit 1
[ "$(sh rotate.sh "$1" 1)" = "removed backup-2024-05-02.tar" ] || exit 1
[ "$(ls "$1")" = backup-2024-05-03.tar ] || exit 1
sh rotate.sh "$1" 0 > /dev/null
[ "$(count "$1")" = 0 ]
