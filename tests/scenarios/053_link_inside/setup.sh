mkdir docs
printf "old\n" > docs/text.txt
ln -s docs/text.txt text.txt
ln -s docs more
ln -s nowhere broken
