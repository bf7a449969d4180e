ln -s /etc/passwd passwd
ln -s / root
ln -s /tmp/no-such-folder outside
printf "old\n" > text.txt
