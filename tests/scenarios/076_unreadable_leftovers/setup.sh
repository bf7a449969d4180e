printf "locked/\n" > .gitignore
