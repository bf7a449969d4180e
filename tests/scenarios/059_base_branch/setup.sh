printf '1\n' > value.txt
printf 'x\n' > only-here.txt
git add --all
git commit --quiet --message Release
git branch release/1
rm only-here.txt
printf '9\n' > value.txt
