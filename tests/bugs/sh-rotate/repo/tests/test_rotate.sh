for day in 01 02 03 04 05; do
  touch "$1/backup-2024-05-$day.tar"
done
touch "$1/notes.txt"
sh rotate.sh "$1" 3 > /dev/null || exit 1
left=$(ls "$1" | tr '\n' ' ')
if [ "$left" != "backup-2024-05-03.tar backup-2024-05-04.tar backup-2024-05-05.tar notes.txt " ]; then
  echo "left: $left"
  exit 1
fi
if sh rotate.sh "$1" three 2> /dev/null; then exit 1; fi
