git add --all
git commit --quiet --message One
git branch agent-task-098shape
