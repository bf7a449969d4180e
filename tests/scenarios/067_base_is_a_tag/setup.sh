git add --all
git commit --quiet --message One
git tag v1
