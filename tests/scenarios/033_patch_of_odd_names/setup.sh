printf 'space\n' > 'a b.txt'
printf 'unicode\n' > 'größe.txt'
printf 'dash\n' > ./-dash.txt
