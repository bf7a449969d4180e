echo "no such package"; exit 7
