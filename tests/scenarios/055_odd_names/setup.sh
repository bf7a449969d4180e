printf 'old\n' > 'a b.txt'
printf 'old\n' > 'größe.txt'
printf 'old\n' > ./-rf
printf 'old\n' > '"q".txt'
printf 'old\n' > 'gone now'
mkdir 'folder '
printf 'old\n' > 'folder / x'
printf 'kept\n' > "$(printf 'line\nend')"
printf 'kept\n' > "$(printf 'latin\351')"
