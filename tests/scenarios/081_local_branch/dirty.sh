printf "mine\n" > mine.txt
