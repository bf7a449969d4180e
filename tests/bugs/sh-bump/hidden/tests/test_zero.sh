check() {
  got=$(sh bump.sh "$1" "$2")
  if [ "$got" != "$3" ]; then
    echo "bump.sh $1 $2: expected $3, got $got"
    exit 1
  fi
}
check minor 1.4.7 1.5.0
check major 1.4.7 2.0.0
check major 9.9.9 10.0.0
check patch 9.9.9 9.9.10
