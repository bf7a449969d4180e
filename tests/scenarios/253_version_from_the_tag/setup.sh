git add -A
git commit -q -m "Before the release"
git commit -q --allow-empty -m "The release"
git tag -a -m "The release" v1.4.0
