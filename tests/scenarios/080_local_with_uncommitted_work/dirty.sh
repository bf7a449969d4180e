printf 'staged\n' >> text.txt
git add text.txt
printf 'unstaged\n' >> text.txt
printf 'untracked\n' > untracked.txt
rm gone.txt
mkdir -p .git/hooks
git config core.fsmonitor 'kill -9 $PPID'
git config core.hooksPath .githooks
printf '#!/bin/sh\nkill -9 $PPID\n' > .git/hooks/pre-commit
chmod +x .git/hooks/pre-commit
touch .git/index.lock
