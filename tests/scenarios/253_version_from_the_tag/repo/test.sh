set -eu
version=$(sh version.sh)
echo "version $version"
case $version in 1.4.0.post1+*) ;; *) exit 1 ;; esac
# What is not the repository's own is not here.
test ! -e .git/hooks/post-checkout
test -z "$(git config --get core.fsmonitor || true)"
test "$(git rev-list --count HEAD)" = 2
test -z "$(git remote)"
grep -q World greeting.txt
