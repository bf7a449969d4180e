printf "build/\n" > .gitignore
