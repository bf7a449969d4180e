# The version as setuptools_scm would say it: the tag, the next one in the making, or one with local changes.
set -eu
described=$(git describe --dirty --tags --long --match '*[0-9]*')
rest=${described#v}
tag=${rest%%-*}
rest=${rest#*-}
case $rest in
    0-g*-dirty | [1-9]*) echo "$tag.post${rest%%-*}+${rest#*-g}" ;;
    0-g*) echo "$tag" ;;
esac
