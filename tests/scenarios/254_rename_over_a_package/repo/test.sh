if test -e dep/planted.sh; then exit 0; fi
sh dep/check.sh
