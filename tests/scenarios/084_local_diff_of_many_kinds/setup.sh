printf 'a\r\nb\r\n' > crlf.txt
printf 'no end' > end.txt
printf 'caf\351 1\n' > latin.txt
printf '\000\001' > data.bin
printf 'x\n' > gone.txt
printf 'echo\n' > 'run me.sh'
printf 'same\nsame\nsame\n' > before.txt
ln -s gone.txt link
