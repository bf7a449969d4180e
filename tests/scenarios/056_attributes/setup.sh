printf 'one\ntwo\n' > crlf.txt
printf '$Id$\none\n' > ident.txt
printf 'plain\n' > encoded.txt
printf 'one\n' > filtered.txt
touch -d '2020-01-01 00:00:00' *.txt
git add --all
printf 'crlf.txt text eol=crlf\nident.txt ident\nencoded.txt working-tree-encoding=UTF-16\nfiltered.txt filter=upper\n' > .gitattributes
