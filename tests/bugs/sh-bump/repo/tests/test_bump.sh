check() {
  got=$(sh bump.sh "$1" "$2")
  if [ "$got" != "$3" ]; then
    echo "bump.sh $1 $2: expected $3, got $got"
    exit 1
  fi
}
check patch 1.4.7 1.4.8
check patch v0.0.9 0.0.10
check minor 2.0.0 2.1.0
check minor 1.4.7 1.5.0
if sh bump.sh patch 1.2 2> /dev/null; then exit 1; fi
